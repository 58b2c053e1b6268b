//! The server's life: open what is on disk, bind the socket, serve until told to stop.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_cri_api::authority::Tolerant;
use berth_cri_api::v1::image_service_server::ImageServiceServer;
use berth_cri_api::v1::runtime_service_server::RuntimeServiceServer;
use berth_shim::private;
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::Config;
use crate::engine::Engine;
use crate::error::{CriError, chain};
use crate::exposition;
use crate::handlers::{self, HandlersError};
use crate::restore;
use crate::service::{Deadline, Services};
use crate::shim_events;
use crate::streaming::{self, Streaming};
use crate::tasks;
use crate::warm;

/// Requests hold a whole pod or container description.
const MESSAGE_LIMIT: usize = 16 << 20;
/// Replies hold lists of all of them, each with the labels and annotations of its pod: an object of the API server's has
/// up to 1.5 MiB of them. A list that was refused for its size would be lost to everybody, for a few pods of somebody's.
const REPLY_LIMIT: usize = 1 << 30;

/// How long calls under way may take once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(3);
/// How long undoing what was begun may take on top: a shim's `delete` alone has half a minute.
const UNDO: Duration = Duration::from_secs(40);

/// How long pods may be without masquerading after somebody flushed its rules.
const MASQUERADE_CHECK: Duration = Duration::from_secs(60);

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The handler table can't be used.
    #[error("runtime handlers")]
    Handlers(#[from] HandlersError),
    /// A directory can't be made or written.
    #[error("cannot prepare {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket can't be bound.
    #[error("cannot listen on {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another server answers on the socket.
    #[error("{} is in use by a running CRI server", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Serving failed.
    #[error("gRPC server")]
    Serve(#[from] tonic::transport::Error),
    /// The streaming server has no port.
    #[error("cannot serve streams on {address}")]
    Streaming {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The metrics have no port.
    #[error("cannot serve metrics on {address}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The directories can't be used.
    #[error("cannot take over the state of an earlier server: {0}")]
    State(String),
    /// A task of the server failed. Containers live on.
    #[error("the server's task {name:?} failed: {reason}; containers run on under their shims")]
    Task {
        /// Which one.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// A blocking task of the start was lost.
    #[error("start-up task failed")]
    Start(#[from] tokio::task::JoinError),
}

impl From<CriError> for RunError {
    fn from(error: CriError) -> Self {
        Self::State(chain(&error))
    }
}

/// Serves the CRI until `shutdown` is cancelled. Pods live on.
///
/// A boxed future: its code is compiled here, beside that of other crates, and not once more in each program.
///
/// # Errors
/// When the configuration can't be used or a directory or socket can't be had.
pub fn run(
    config: Config,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), RunError>> {
    Box::pin(serve(config, shutdown))
}

async fn serve(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let source = config.handlers.clone();
    let embedded = config.embedded_command.clone();
    let table = tokio::task::spawn_blocking(move || source.load(&embedded)).await??;
    for warning in table.warnings() {
        tracing::warn!(origin = %warning.origin, "{}", warning.message);
    }
    for path in [&config.root_dir, &config.state_dir] {
        prepare(path)?;
    }
    let listener = bind(&config.socket)?;
    let socket = config.socket.clone();
    let tracer = config.tracer.clone();
    // Shims that a server before us has started connect again where they did.
    let events_socket = config.events_socket();
    let events = bind(&events_socket)?;
    let streams = TcpListener::bind(config.streaming_addr)
        .await
        .map_err(|source| RunError::Streaming {
            address: config.streaming_addr,
            source,
        })?;
    let address = streams.local_addr().map_err(|source| RunError::Streaming {
        address: config.streaming_addr,
        source,
    })?;
    let metrics = match config.metrics_addr {
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .map_err(|source| RunError::Metrics { address, source })?,
        ),
        None => None,
    };
    let default = table.default_name().to_owned();
    // What a gVisor can do here is found out by running it: better now than at the first pod.
    let untried = table.clone();
    let trials = tokio::task::spawn_blocking(move || untried.try_out());
    let stop = shutdown.clone();
    let (tasks, mut owner) = tasks::tasks();
    let engine = tokio::task::spawn_blocking(move || {
        Engine::open(config, table, Streaming::new(address), tasks, stop)
    })
    .await??;
    let engine = Arc::new(engine);
    let (restored, ()) = tokio::join!(restore::restore(&engine), engine.keep_masquerade());
    restored?;
    let tried = engine.tried.clone();
    engine.tasks.spawn("trials", async move {
        if let Err(error) = trials.await {
            // The first pod of the handler tries again, and is told.
            tracing::error!(%error, "gVisor handlers could not be tried out");
        }
        tried.cancel();
    });
    let tasks = &engine.tasks;
    let masquerade = watch_masquerade(Arc::clone(&engine), shutdown.clone());
    tasks.keep("masquerade", &shutdown, masquerade);
    let handlers = handlers::follow(Arc::clone(&engine), shutdown.clone());
    tasks.keep("handlers", &shutdown, handlers);
    if let Some(listener) = metrics {
        let serving = exposition::serve(Arc::clone(&engine), listener, shutdown.clone());
        tasks.keep("metrics", &shutdown, serving);
    }
    let waiting = warm::keep(Arc::clone(&engine), shutdown.clone());
    tasks.keep("waiting sandboxes", &shutdown, waiting);
    let published = shim_events::serve(Arc::clone(&engine), events);
    tasks.keep("shim events", &shutdown, published);
    let streams = streaming::serve(Arc::clone(&engine), streams, shutdown.clone());
    tasks.keep("streaming", &shutdown, streams);
    tracing::info!(socket = %socket.display(), default, "CRI is served");

    let services = Arc::new(Services::new(engine));
    let deadline = shutdown.clone();
    let serving = Server::builder()
        .layer(tower::layer::layer_fn(Deadline))
        .add_service(
            RuntimeServiceServer::from_arc(Arc::clone(&services))
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(REPLY_LIMIT),
        )
        .add_service(
            ImageServiceServer::from_arc(services)
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(REPLY_LIMIT),
        )
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(listener).map(|stream| stream.map(Tolerant::new)),
            shutdown.cancelled_owned(),
        );
    // A call may wait for a container's grace period; its change goes on or is asked for again.
    let result = tokio::select! {
        result = serving => result.map_err(RunError::from),
        () = async {
            deadline.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        } => Ok(()),
        failed = owner.failed() => Err(RunError::Task {
            name: failed.name,
            reason: failed.reason,
        }),
    };
    if result.is_ok() {
        owner.drain(DRAIN, UNDO).await;
    }
    tracer.flush().await;
    for path in [socket, events_socket] {
        let _ = std::fs::remove_file(path);
    }
    result
}

/// Firewall services flush the rules of others when they reload.
async fn watch_masquerade(engine: Arc<Engine>, shutdown: CancellationToken) {
    let mut pace = tokio::time::interval(MASQUERADE_CHECK);
    pace.tick().await;
    while shutdown.run_until_cancelled(pace.tick()).await.is_some() {
        engine.keep_masquerade().await;
    }
}

fn prepare(path: &Path) -> Result<(), RunError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .map_err(|source| RunError::Directory {
            path: path.to_owned(),
            source,
        })
}

/// Binds the socket; one left behind by a killed server is replaced, a live one is not.
fn bind(path: &Path) -> Result<UnixListener, RunError> {
    if let Some(folder) = path.parent() {
        prepare(folder)?;
    }
    let failed = |source| RunError::Socket {
        path: path.to_owned(),
        source,
    };
    let bound = private::listen(path).map_err(failed)?;
    let listener = bound.ok_or_else(|| RunError::InUse {
        path: path.to_owned(),
    })?;
    listener.set_nonblocking(true).map_err(failed)?;
    UnixListener::from_std(listener).map_err(failed)
}
