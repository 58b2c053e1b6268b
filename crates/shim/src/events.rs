//! containerd's events service (`containerd.services.events.ttrpc.v1.Events`), at which third-party shims publish what
//! happens to their containers.
//!
//! A connection's requests are handled one after the other, each has a bounded size, and the number of connections is
//! bounded: a shim that publishes faster than its events are handled waits, and never fills our memory.
//!
//! The socket has mode 0600, so only root on the host reaches it. That may be a container's process, too, one that runs
//! as the host's root and has the socket's directory mounted. Therefore each event comes with the PIDs of its sender
//! ([`Publisher`]), and counts only when the sender is the shim that runs the container
//! ([`crate::client::Shim::is_publisher`]).
//!
//! Tasks: the listener; one a connection.

mod decode;
mod frame;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use crate::client::Exit;

/// Connections at the same time: more than a node has pods.
const MAX_CONNECTIONS: usize = 1024;
/// Events of one connection that were received and are not handled yet.
const QUEUE: usize = 16;
/// How long a listener that fails (out of descriptors) waits before it goes on.
const AGAIN: Duration = Duration::from_millis(200);
/// Refused or ignored events of one connection that are logged.
const MAX_WARNINGS: u32 = 10;

/// An event that a shim has published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimEvent {
    /// Who sent it.
    pub publisher: Publisher,
    /// containerd's namespace.
    pub namespace: String,
    /// The container.
    pub container_id: String,
    /// What happened.
    pub kind: TaskEvent,
}

/// What happened to a container. Other events of the module `containerd.events` are received and dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEvent {
    /// `TaskStart`: its first process runs.
    Started {
        /// The host's PID; of a virtual machine's containers the same for all.
        pid: u32,
    },
    /// `TaskExit`: a process has ended.
    Exited {
        /// Which exec; empty for the container's first process.
        exec_id: String,
        /// How.
        exit: Exit,
    },
    /// `TaskOOM`: the kernel killed a process of it because memory ran out.
    OutOfMemory,
}

/// The process at the other end of a connection, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publisher {
    /// The process that connected; 0 when it is in no PID namespace of ours.
    pub pid: u32,
    /// Its parent when it connected; 0 when unknown.
    pub parent: u32,
}

/// Serves until the future is dropped. `handle` is called for one event of a connection after the other, and says why when
/// it ignores one.
pub async fn serve<H, F>(listener: UnixListener, handle: H)
where
    H: Fn(ShimEvent) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let handle = Arc::new(handle);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    tracing::warn!(
                        limit = MAX_CONNECTIONS,
                        "a connection of a shim's event publisher was closed: there are too many"
                    );
                    continue;
                };
                let handle = Arc::clone(&handle);
                connections.spawn(async move {
                    connection(stream, handle).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "events of shims could not be accepted");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Answers requests at once and handles them in order, beside: the shim may only answer our calls again when it has got
/// rid of its event.
async fn connection<H, F>(stream: UnixStream, handle: Arc<H>)
where
    H: Fn(ShimEvent) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let publisher = publisher(&stream);
    let (sender, mut queue) = mpsc::channel(QUEUE);
    let receive = receive(stream, publisher, sender);
    let work = async {
        let mut warnings = Warnings::default();
        while let Some(event) = queue.recv().await {
            if let Err(reason) = handle(event).await
                && warnings.next()
            {
                let pid = publisher.pid;
                tracing::warn!(pid, reason, "an event of a shim was ignored");
            }
        }
    };
    tokio::join!(receive, work);
}

async fn receive(mut stream: UnixStream, publisher: Publisher, queue: mpsc::Sender<ShimEvent>) {
    let mut warnings = Warnings::default();
    loop {
        let request = match frame::read(&mut stream).await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(pid = publisher.pid, %error, "a shim's event publisher left");
                return;
            }
        };
        let answer = match request.content {
            Ok(content) => decode::event(&content, publisher),
            Err(refused) => Err(refused),
        };
        let status = match answer {
            Ok(None) => None,
            Ok(Some(event)) => {
                // Waits while too many are under way.
                if queue.send(event).await.is_err() {
                    return;
                }
                None
            }
            Err(refused) => {
                if warnings.next() {
                    let error = &refused.message;
                    tracing::warn!(pid = publisher.pid, error, "an event of a shim was refused");
                }
                Some(refused)
            }
        };
        if frame::answer(&mut stream, request.stream_id, status)
            .await
            .is_err()
        {
            return;
        }
    }
}

/// What of a connection is logged.
#[derive(Debug, Default)]
struct Warnings(u32);

impl Warnings {
    /// Whether another one is logged.
    fn next(&mut self) -> bool {
        self.0 = self.0.saturating_add(1);
        self.0 <= MAX_WARNINGS
    }
}

fn publisher(stream: &UnixStream) -> Publisher {
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let pid = pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    Publisher {
        pid,
        parent: parent(pid).unwrap_or(0),
    }
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

#[cfg(test)]
mod tests;
