//! From a configuration to a listening server.
//!
//! Tasks: one accept loop ([`Server::serve`]), one task a connection, the follower of the store
//! ([`Storage::run`]), [`maintenance`], which works by the clock, and
//! [`custom`], which follows CustomResourceDefinitions. All end when the shutdown token is cancelled; connections get a
//! moment to finish.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use berth_store::{OpenError, Store, StoreError};
use futures::future::BoxFuture;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{self, ConfigFileError, Parts, Plugins, PluginsError};
use crate::api::Api;
use crate::authn::{Authenticator, Certificate};
use crate::authz::{self, Authorizer};
use crate::config::{Config, StoreConfig};
use crate::custom;
use crate::handler::{self, Peer};
use crate::http_types::Response;
use crate::kinds;
use crate::maintenance;
use crate::metrics::Metrics;
use crate::proxy::NodeClientConfig;
use crate::registry::Registry;
use crate::storage::Storage;
use crate::tls::{ServerTls, TlsError};
use crate::tokens::{KeyError, TokenConfig};

/// How long connections may take to finish after a shutdown began.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Why a server cannot start. No port is bound then.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error("the objects cannot be read")]
    Load(#[source] StoreError),
    /// What every cluster has cannot be made.
    #[error("the first objects cannot be written: {0}")]
    Bootstrap(berth_api::status::ApiError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The key of service account tokens cannot be used.
    #[error(transparent)]
    Tokens(#[from] KeyError),
    /// The lists of admission plugins cannot be used.
    #[error(transparent)]
    Plugins(#[from] PluginsError),
    /// The configuration of admission plugins cannot be used.
    #[error(transparent)]
    AdmissionConfig(#[from] ConfigFileError),
    /// The port cannot be bound.
    #[error("cannot listen on {address} (stop what uses it, or choose another port)")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A server that listens but does not answer yet.
pub struct Server {
    api: Arc<Api>,
    listener: TcpListener,
    local_addr: SocketAddr,
    tls: Option<ServerTls>,
    follower: JoinHandle<()>,
}

impl Config {
    /// Checks the configuration, opens the store, reads all objects and binds the port.
    ///
    /// A boxed future: its code is compiled here, beside that of other crates, and not once more in each program.
    ///
    /// # Errors
    /// Each part's own; nothing is left behind.
    pub fn build(self) -> BoxFuture<'static, Result<Server, BuildError>> {
        Box::pin(self.built())
    }

    async fn built(self) -> Result<Server, BuildError> {
        let plugins = Plugins::choose(
            &self.enable_admission_plugins,
            &self.disable_admission_plugins,
        )?;
        let pod_security =
            admission::read_pod_security(self.admission_control_config_file.as_deref())?;
        let tls = match &self.tls {
            Some(tls) => Some(tls.build()?),
            None => None,
        };
        let tokens = self
            .tokens
            .as_ref()
            .map(TokenConfig::verifier)
            .transpose()?;
        let nodes = self
            .nodes
            .as_ref()
            .map(NodeClientConfig::client)
            .transpose()?;
        let store: Arc<dyn Store> = match &self.store {
            StoreConfig::Sqlite { dir } => Arc::new(berth_store::sqlite::Sqlite::open(dir).await?),
            StoreConfig::Etcd { endpoints, prefix } => {
                Arc::new(berth_store::etcd::Etcd::connect(endpoints, prefix).await?)
            }
        };
        let storage = Arc::new(Storage::new(store));
        let registry = Registry::new(kinds::rows());
        for row in registry.table().rows() {
            storage.declare(&row.storage, row.strategy.field_labels());
        }
        let listener = TcpListener::bind(self.bind)
            .await
            .map_err(|source| BuildError::Bind {
                address: self.bind,
                source,
            })?;
        let local_addr = listener.local_addr().unwrap_or(self.bind);
        storage.load().await.map_err(BuildError::Load)?;
        let admission = plugins.build(&Parts {
            storage: Arc::clone(&storage),
            gates: self.gates,
            pod_security: Arc::new(pod_security),
        });
        let api = Arc::new(Api {
            registry,
            authenticator: Authenticator::new(self.authn, tokens.clone(), Arc::clone(&storage)),
            authorizer: Authorizer::new(self.authz, Arc::clone(&storage)),
            storage,
            admission,
            metrics: Metrics::default(),
            tokens,
            nodes,
            gates: self.gates,
            advertise: self.advertise,
        });
        let follower = tokio::spawn(Arc::clone(&api.storage).run());
        if let Err(error) = authz::seed::reconcile(&api.storage).await {
            follower.abort();
            return Err(BuildError::Bootstrap(error));
        }
        Ok(Server {
            api,
            follower,
            listener,
            local_addr,
            tls,
        })
    }
}

impl Server {
    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What the handlers share.
    #[must_use]
    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// Answers until `shutdown`, then lets connections finish for a few seconds.
    ///
    /// A boxed future: its code is compiled here, beside that of other crates, and not once more in each program.
    #[must_use]
    pub fn serve(self, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(self.answer(shutdown))
    }

    async fn answer(self, shutdown: CancellationToken) {
        let aggregation = tokio::spawn(authz::aggregation::run(Arc::clone(&self.api.storage)));
        let connections = TaskTracker::new();
        let maintenance = tokio::spawn(maintenance::run(Arc::clone(&self.api), shutdown.clone()));
        let definitions = tokio::spawn(custom::run(Arc::clone(&self.api), shutdown.clone()));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(
                        Arc::clone(&self.api),
                        self.tls.clone(),
                        stream,
                        peer,
                        shutdown.clone(),
                    ));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to be freed.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        connections.close();
        if tokio::time::timeout(DRAIN, connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(count = connections.len(), "connections were cut");
        }
        maintenance.abort();
        definitions.abort();
        aggregation.abort();
        self.follower.abort();
    }
}

async fn connection(
    api: Arc<Api>,
    tls: Option<ServerTls>,
    stream: TcpStream,
    address: SocketAddr,
    shutdown: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "TCP_NODELAY");
    }
    let Some(tls) = tls else {
        let peer = Peer {
            address,
            certificate: Certificate::None,
        };
        return speak(api, stream, peer, shutdown).await;
    };
    match tokio::time::timeout(HANDSHAKE, tls.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificate = tls.judge(stream.get_ref().1.peer_certificates());
            let peer = Peer {
                address,
                certificate,
            };
            speak(api, stream, peer, shutdown).await;
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake"),
        Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
    }
}

async fn speak<S>(api: Arc<Api>, stream: S, peer: Peer, shutdown: CancellationToken)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let peer = Arc::new(peer);
    let ending = shutdown.clone();
    let service = service_fn(move |request| {
        let (api, peer, ending) = (Arc::clone(&api), Arc::clone(&peer), ending.clone());
        let answer: BoxFuture<'static, Result<Response, Infallible>> =
            Box::pin(async move { Ok(handler::handle(api, peer, request, ending).await) });
        answer
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let mut ending = false;
    loop {
        tokio::select! {
            result = serving.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = shutdown.cancelled(), if !ending => {
                ending = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}
