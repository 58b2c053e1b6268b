//! Exec and attach over whatever the client speaks.

use std::time::Duration;

use berth_shim::client::{AttachStreams, Control, Session};
use tokio_util::task::AbortOnDropHandle;

use super::copy;
use super::pump::{Ending, Remote};
use super::status::End;
use super::tokens::{Request, Streams};
use crate::container;
use crate::engine::Shared;
use crate::error::{CriError, chain};

/// How long a command on a terminal waits for the size that a client has; kubectl says it as soon as it is connected.
const FIRST_SIZE: Duration = Duration::from_millis(100);

pub(super) fn streams_of(request: &Request) -> Streams {
    match request {
        Request::Exec { streams, .. } | Request::Attach { streams, .. } => *streams,
        Request::PortForward { .. } => Streams::default(),
    }
}

/// Runs the session to its end.
pub(super) async fn run(engine: Shared, request: Request, remote: Remote) {
    let Remote {
        stdin,
        mut resize,
        stdout,
        stderr,
        error,
        error_as_status,
        closer,
    } = remote;
    let ending = Ending {
        error,
        error_as_status,
        closer,
    };
    let size = first_size(&request, resize.as_mut()).await;
    let session = match open(&engine, &request, size).await {
        Ok(session) => session,
        Err(failed) => {
            for sink in [stdout, stderr].into_iter().flatten() {
                sink.finish().await;
            }
            return ending.tell(&End::Failed(chain(&failed))).await;
        }
    };
    let control = session.control.clone();
    let is_exec = matches!(request, Request::Exec { .. });
    let input_only = session.stdout.is_none() && session.stderr.is_none();
    // Both end with the process at the latest, and with this session.
    let mut feeding = AbortOnDropHandle::new(tokio::spawn(feed(stdin, session.stdin)));
    let resizing = AbortOnDropHandle::new(tokio::spawn(follow_size(control.clone(), size, resize)));
    tokio::join!(
        copy::output(session.stdout, stdout),
        copy::output(session.stderr, stderr)
    );
    let end = if is_exec {
        match control.wait().await {
            Ok(exit) => End::Exited(exit.code),
            Err(error) => End::Failed(chain(&error)),
        }
    } else {
        if input_only {
            // No output says when it is over: it is when the client has said all, or nobody listens any more.
            tokio::select! {
                _ = &mut feeding => {}
                _ = control.wait() => {}
            }
        }
        End::Exited(0)
    };
    drop((feeding, resizing));
    ending.tell(&end).await;
}

/// The size that a client says at once: a command that asks for it first has to find it (`kubectl exec -it -- stty size`).
async fn first_size(
    request: &Request,
    sizes: Option<&mut tokio::sync::mpsc::Receiver<(u16, u16)>>,
) -> Option<(u16, u16)> {
    match request {
        Request::Exec { streams, .. } if streams.tty => {
            let said = tokio::time::timeout(FIRST_SIZE, sizes?.recv()).await;
            said.ok().flatten()
        }
        Request::Exec { .. } | Request::Attach { .. } | Request::PortForward { .. } => None,
    }
}

async fn open(
    engine: &Shared,
    request: &Request,
    size: Option<(u16, u16)>,
) -> Result<Session, CriError> {
    match request {
        Request::Exec {
            container,
            command,
            streams,
        } => container::exec(engine, container, command, *streams, size).await,
        Request::Attach { container, streams } => {
            container::attach(engine, container, *streams).await
        }
        Request::PortForward { .. } => Err(CriError::Invalid("not a process".to_owned())),
    }
}

async fn feed(
    from: Option<tokio::sync::mpsc::Receiver<bytes::Bytes>>,
    to: Option<berth_shim::client::WriteHalf>,
) {
    match (from, to) {
        (Some(mut from), Some(to)) => copy::input(&mut from, to).await,
        // Whatever comes has nowhere to go; not reading it would stop the other streams.
        (Some(mut from), None) => while from.recv().await.is_some() {},
        (None, to) => drop(to),
    }
}

async fn follow_size(
    control: Control,
    mut next: Option<(u16, u16)>,
    sizes: Option<tokio::sync::mpsc::Receiver<(u16, u16)>>,
) {
    let Some(mut sizes) = sizes else { return };
    // The first one once more: not every runtime heeds what the process' description says of it.
    while let Some((width, height)) = match next.take() {
        Some(first) => Some(first),
        None => sizes.recv().await,
    } {
        if let Err(error) = control.resize(width.into(), height.into()).await {
            tracing::debug!(%error, "terminal not resized");
        }
    }
}

impl From<Streams> for AttachStreams {
    fn from(streams: Streams) -> Self {
        Self {
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr && !streams.tty,
        }
    }
}
