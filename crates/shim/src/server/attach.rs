//! The stream socket: clients attach, claim an exec's streams, or have a log reopened.

use std::sync::Arc;

use tokio::io::BufReader;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::error::Error;
use super::process::Process;
use super::state::Shim;
use crate::hub::Chunk;
use crate::stream::{self, Hello, Kind, Reply};

/// Takes clients, one task each.
pub(super) async fn listen(listener: UnixListener, shim: Arc<Shim>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(serve(client, Arc::clone(&shim)))),
            Err(e) => {
                tracing::warn!(error = %e, "stream socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(client: UnixStream, shim: Arc<Shim>) {
    let (reader, mut writer) = client.into_split();
    let mut reader = BufReader::with_capacity(4096, reader);
    let Ok(hello) = stream::read_line::<Hello>(&mut reader).await else {
        return;
    };
    let prepared = prepare(&hello, &shim);
    let reply = Reply {
        error: prepared.as_ref().err().map(ToString::to_string),
    };
    let answered = stream::write_line(&mut writer, &reply).await.is_ok();
    let Ok(Some(session)) = prepared else { return };
    let (process, serial) = (Arc::clone(&session.process), session.serial);
    if answered {
        run(session, reader, writer).await;
    }
    process.io.hub.detach(serial);
}

struct Session {
    process: Arc<Process>,
    serial: u64,
    chunks: mpsc::Receiver<Chunk>,
    stdin: bool,
    /// How many streams end before the session does.
    outputs: usize,
}

fn prepare(hello: &Hello, shim: &Shim) -> Result<Option<Session>, Error> {
    match hello {
        Hello::ReopenLog { id } => {
            let container = shim.container(id)?;
            container
                .init
                .io
                .hub
                .reopen_log()
                .map_err(Error::io("log can't be reopened"))?;
            Ok(None)
        }
        Hello::Attach {
            id,
            exec_id,
            stdin,
            stdout,
            stderr,
        } => {
            let process = shim.container(id)?.process(exec_id)?;
            if *stdin && !process.io.has_stdin() {
                return Err(Error::Invalid(
                    "the process was made without stdin".to_owned(),
                ));
            }
            let stderr = *stderr && !process.io.terminal();
            let (serial, chunks) = process.io.hub.attach(*stdout, stderr);
            let outputs = usize::from(*stdout) + usize::from(stderr);
            Ok(Some(Session {
                process,
                serial,
                chunks,
                stdin: *stdin,
                outputs,
            }))
        }
    }
}

/// Until the process' streams have ended or the client has left.
async fn run(session: Session, reader: BufReader<OwnedReadHalf>, writer: OwnedWriteHalf) {
    let Session {
        process,
        chunks,
        stdin,
        outputs,
        ..
    } = session;
    let mut input = tokio::spawn(read_input(reader, process, stdin));
    tokio::select! {
        () = write_output(writer, chunks, outputs) => input.abort(),
        _ = &mut input => {}
    }
}

async fn write_output(
    mut writer: OwnedWriteHalf,
    mut chunks: mpsc::Receiver<Chunk>,
    mut outputs: usize,
) {
    while let Some((kind, bytes)) = chunks.recv().await {
        if stream::write_frame(&mut writer, kind, &bytes)
            .await
            .is_err()
        {
            return;
        }
        if bytes.is_empty() {
            outputs = outputs.saturating_sub(1);
            if outputs == 0 {
                return;
            }
        }
    }
}

/// Feeds stdin; ends when the client leaves.
async fn read_input(mut reader: BufReader<OwnedReadHalf>, process: Arc<Process>, stdin: bool) {
    let mut buf = Vec::new();
    let mut open = stdin;
    while let Ok(Some(kind)) = stream::read_frame(&mut reader, &mut buf).await {
        if kind != Kind::Stdin || !open {
            continue;
        }
        if buf.is_empty() {
            open = false;
            if process.io.stdin_once() {
                process.io.close_stdin();
            }
        } else if process.io.write_stdin(&buf).await.is_err() {
            // The process doesn't read (any more); what it still writes is wanted.
            open = false;
        }
        buf.shrink_to(64 * 1024);
    }
    if stdin && process.io.stdin_once() {
        process.io.close_stdin();
    }
}
