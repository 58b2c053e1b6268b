//! The stream socket: clients attach, claim an exec's streams, or have a log reopened.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::BufReader;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::error::Error;
use super::io::Io;
use crate::hub::Chunk;
use crate::stream::{self, Hello, Kind, Reply};

/// Who has the streams that a socket serves.
#[async_trait]
pub(super) trait Holder: Send + Sync + 'static {
    /// The streams of a process: an exec's, or the container's first one's when `exec_id` is empty.
    fn streams(&self, id: &str, exec_id: &str) -> Result<Arc<Io>, Error>;

    /// What only a keeper is asked.
    async fn keep(&self, hello: Hello) -> Result<Reply, Error>;
}

/// Takes clients, one task each.
pub(super) async fn listen(listener: Arc<UnixListener>, holder: Arc<impl Holder>) {
    let mut clients = JoinSet::new();
    loop {
        while let Some(left) = clients.try_join_next() {
            if let Err(error) = left {
                tracing::error!(%error, "a client's task was lost");
            }
        }
        match listener.accept().await {
            Ok((client, _)) => drop(clients.spawn(serve(client, Arc::clone(&holder)))),
            Err(e) => {
                tracing::warn!(error = %e, "stream socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(client: UnixStream, holder: Arc<impl Holder>) {
    let (reader, mut writer) = client.into_split();
    let mut reader = BufReader::with_capacity(4096, reader);
    let Ok(hello) = stream::read_line::<Hello>(&mut reader).await else {
        return;
    };
    let (reply, session) = match prepare(hello, &*holder).await {
        Ok(prepared) => prepared,
        Err(e) => {
            let error = Some(e.to_string());
            let reply = Reply {
                error,
                ..Reply::default()
            };
            (reply, None)
        }
    };
    let answered = stream::write_line(&mut writer, &reply).await.is_ok();
    let Some(session) = session else { return };
    let (io, serial) = (Arc::clone(&session.io), session.serial);
    if answered {
        run(session, reader, writer).await;
    }
    io.hub.detach(serial);
}

struct Session {
    io: Arc<Io>,
    serial: u64,
    chunks: mpsc::Receiver<Chunk>,
    stdin: bool,
    /// How many streams end before the session does.
    outputs: usize,
}

async fn prepare(hello: Hello, holder: &impl Holder) -> Result<(Reply, Option<Session>), Error> {
    match hello {
        Hello::ReopenLog { id } => {
            let io = holder.streams(&id, "")?;
            let reopened = io.hub.reopen_log();
            reopened.map_err(Error::io("log can't be reopened"))?;
            Ok((Reply::default(), None))
        }
        Hello::Attach {
            id,
            exec_id,
            stdin,
            stdout,
            stderr,
        } => {
            let io = holder.streams(&id, &exec_id)?;
            if stdin && !io.has_stdin() {
                return Err(Error::Invalid(
                    "the process was made without stdin".to_owned(),
                ));
            }
            let stderr = stderr && !io.terminal();
            let (serial, chunks) = io.hub.attach(stdout, stderr);
            let outputs = usize::from(stdout) + usize::from(stderr);
            let reply = Reply {
                stdin_once: stdin && io.stdin_once(),
                ..Reply::default()
            };
            let session = Session {
                io,
                serial,
                chunks,
                stdin,
                outputs,
            };
            Ok((reply, Some(session)))
        }
        hello @ (Hello::Keep { .. }
        | Hello::Drain { .. }
        | Hello::CloseStdin { .. }
        | Hello::Release { .. }
        | Hello::End) => Ok((holder.keep(hello).await?, None)),
    }
}

/// Until the process' streams have ended or the client has left.
async fn run(session: Session, reader: BufReader<OwnedReadHalf>, writer: OwnedWriteHalf) {
    let Session {
        io,
        chunks,
        stdin,
        outputs,
        ..
    } = session;
    let (closed, stdin_closed) = oneshot::channel();
    let mut input = tokio::spawn(read_input(reader, io, stdin, closed));
    tokio::select! {
        () = write_output(writer, chunks, outputs, stdin_closed) => input.abort(),
        _ = &mut input => {}
    }
}

async fn write_output(
    mut writer: OwnedWriteHalf,
    mut chunks: mpsc::Receiver<Chunk>,
    mut outputs: usize,
    mut stdin_closed: oneshot::Receiver<()>,
) {
    let mut stdin_open = true;
    loop {
        let (kind, bytes) = tokio::select! {
            chunk = chunks.recv() => match chunk {
                Some(chunk) => chunk,
                None => return,
            },
            closed = &mut stdin_closed, if stdin_open => {
                stdin_open = false;
                match closed {
                    Ok(()) => (Kind::Stdin, bytes::Bytes::new()),
                    Err(_) => continue,
                }
            }
        };
        if stream::write_frame(&mut writer, kind, &bytes)
            .await
            .is_err()
        {
            return;
        }
        if bytes.is_empty() && kind != Kind::Stdin {
            outputs = outputs.saturating_sub(1);
            if outputs == 0 {
                return;
            }
        }
    }
}

/// Feeds stdin; ends when the client leaves.
async fn read_input(
    mut reader: BufReader<OwnedReadHalf>,
    io: Arc<Io>,
    stdin: bool,
    closed: oneshot::Sender<()>,
) {
    let mut buf = Vec::new();
    let mut open = stdin;
    let mut closed = Some(closed);
    while let Ok(Some(kind)) = stream::read_frame(&mut reader, &mut buf).await {
        if kind != Kind::Stdin || !stdin {
            continue;
        }
        if buf.is_empty() {
            open = false;
            if io.stdin_once() {
                io.close_stdin();
                // Nobody listens when the outputs have ended.
                let _ = closed.take().map(|closed| closed.send(()));
            }
        } else if open && io.write_stdin(&buf).await.is_err() {
            // The process doesn't read (any more); what it still writes is wanted.
            open = false;
        }
        buf.shrink_to(64 * 1024);
    }
    if stdin && io.stdin_once() {
        io.close_stdin();
    }
}
