//! The daemon.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::shim_async::create_task;
use tokio::signal::unix::{SignalKind, signal};
use ttrpc::r#async::Server;
use ttrpc::r#async::transport::Listener;

use super::attach;
use super::daemon;
use super::reaper::Reaper;
use super::service::TaskService;
use super::state::Shim;
use super::trim;

/// What the daemon starts with.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) namespace: String,
    pub(super) socket_dir: PathBuf,
    pub(super) sockets: Vec<PathBuf>,
    pub(super) task: UnixListener,
    pub(super) streams: UnixListener,
    pub(super) debug: bool,
}

pub(super) fn serve(daemon: Daemon) -> ExitCode {
    let level = if daemon.debug {
        tracing::Level::DEBUG
    } else {
        tracing::Level::WARN
    };
    let sockets = daemon.sockets.clone();
    daemon::run(level, &sockets, run(daemon))
}

async fn run(daemon: Daemon) -> std::io::Result<()> {
    // Containers' processes fall to us when the runtime that made them leaves.
    nix::sys::prctl::set_child_subreaper(true)?;
    let reaper = Arc::new(Reaper::default());
    let children = Arc::new(tokio::sync::Mutex::new(signal(SignalKind::child())?));
    let reap = Arc::clone(&reaper);
    let reaping = daemon::keep("reaper", move || {
        let (reap, children) = (Arc::clone(&reap), Arc::clone(&children));
        async move {
            loop {
                reap.reap();
                if children.lock().await.recv().await.is_none() {
                    return;
                }
            }
        }
    });
    let enduring = daemon::endure()?;

    let shim = Arc::new(Shim::new(daemon.namespace, daemon.socket_dir, reaper));
    daemon.streams.set_nonblocking(true)?;
    let streams = Arc::new(tokio::net::UnixListener::from_std(daemon.streams)?);
    let attached = Arc::clone(&shim);
    let attaching = daemon::keep("streams", move || {
        attach::listen(Arc::clone(&streams), Arc::clone(&attached))
    });

    let trimmed = Arc::clone(&shim);
    let trimming = daemon::keep("trim", move || {
        let trimmed = Arc::clone(&trimmed);
        async move { trim::task(&trimmed.work).await }
    });
    shim.work.notify_one();

    daemon.task.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(daemon.task)?;
    let service = Arc::new(TaskService(Arc::clone(&shim)));
    let v3 = create_task(service.clone());
    let v2 = create_task(service)
        .into_values()
        .map(|s| ("containerd.task.v2.Task".to_owned(), s))
        .collect();
    let mut server = Server::new()
        .add_listener(Listener::from(listener))
        .register_service(v3)
        .register_service(v2);
    server.start().await.map_err(std::io::Error::other)?;

    shim.shutdown.notified().await;
    // The answer to Shutdown is still on its way.
    let _ = tokio::time::timeout(Duration::from_secs(1), server.shutdown()).await;
    for task in [reaping, enduring, attaching, trimming] {
        task.abort();
    }
    Ok(())
}
