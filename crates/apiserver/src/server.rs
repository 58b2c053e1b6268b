//! From a configuration to a listening server.
//!
//! Tasks: one accept loop ([`Server::serve`]), one task a connection ([`connection`]), the follower of the store
//! ([`Storage::run`]), [`maintenance`], which works by the clock, [`control_plane`], the aggregation of ClusterRoles, and
//! [`custom`], which follows CustomResourceDefinitions. All end when the shutdown token is cancelled; connections get a
//! moment to finish. When one of the tasks that must go on ends by itself, the server ends with its reason ([`tasks`]).

mod connection;
mod encryption;
mod exchange;
mod gather;
mod io;
mod pods;
mod tasks;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use berth_store::{OpenError, Store, StoreError};
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{self, ConfigFileError, Parts, Plugins, PluginsError};
use crate::aggregation::{self, Aggregation};
use crate::allocation;
use crate::api::Api;
use crate::audit::{AuditError, Auditor};
use crate::authn::Authenticator;
use crate::authz::{self, Authorizer};
use crate::config::{Config, StoreConfig};
use crate::connections::SlotTable;
use crate::control_plane::{self, ClusterInfo, ControlPlane, OtherAuthority};
use crate::custom;
use crate::flow::FlowControl;
use crate::kinds;
use crate::limits::Limits;
use crate::log_limit::LogLimit;
use crate::maintenance;
use crate::metrics::Metrics;
use crate::proxy::{NodeClientConfig, Tunnels};
use crate::registry::Registry;
use crate::resource_metrics::{self, ResourceMetrics};
use crate::storage::{Encryption, EncryptionError, Storage};
use crate::tls::{ServerTls, TlsConfig, TlsError};
use crate::tokens::{KeyError, TokenConfig};

use self::connection::Context;
use self::pods::Pods;
pub use self::tasks::ServeError;
use self::tasks::Tasks;

/// How long connections may take to finish after a shutdown began.
const DRAIN: Duration = Duration::from_secs(5);

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
    /// The audit log cannot be kept.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The encryption configuration cannot be used.
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
    /// The encryption configuration names a resource that does not exist: nothing would be encrypted.
    #[error(
        "--encryption-provider-config: {0:?} is no resource of the core group; did you mean its plural?"
    )]
    NothingToEncrypt(String),
    /// Another server uses the store with another CA.
    #[error(transparent)]
    Authority(#[from] OtherAuthority),
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
    pods: Option<Pods>,
    local_addr: SocketAddr,
    tls: Option<ServerTls>,
    limits: Arc<Limits>,
    slots: Arc<SlotTable>,
    control_plane: ControlPlane,
    tasks: Tasks,
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
        let auditor = self.audit.as_ref().map(Auditor::new).transpose()?;
        let auditor = auditor.map(Arc::new);
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
        let registry = Arc::new(Registry::with_optional(
            kinds::rows(),
            resource_metrics::rows(),
        ));
        let encryption = match &self.encryption_provider_config {
            Some(file) => encryption::load(file, &registry)?,
            None => Encryption::default(),
        };
        let aggregation = Arc::new(Aggregation::new(self.front_proxy)?);
        let store: Arc<dyn Store> = match &self.store {
            StoreConfig::Sqlite { dir } => Arc::new(berth_store::sqlite::Sqlite::open(dir).await?),
            StoreConfig::Etcd(etcd) => Arc::new(berth_store::etcd::Etcd::open(etcd).await?),
        };
        let storage = Arc::new(Storage::encrypted(store, encryption));
        for row in registry.table().built_in() {
            storage.declare(&row.storage, row.strategy.field_labels());
        }
        let listener = TcpListener::bind(self.bind)
            .await
            .map_err(|source| BuildError::Bind {
                address: self.bind,
                source,
            })?;
        let local_addr = listener.local_addr().unwrap_or(self.bind);
        let unusable = |source| BuildError::Bind {
            address: self.bind,
            source,
        };
        let pods = self.pods.as_ref().map(Pods::new).transpose();
        let pods = pods.map_err(unusable)?;
        let port = match &pods {
            Some(pods) => pods.port().map_err(unusable)?,
            None => local_addr.port(),
        };
        let built_in = registry.table();
        let built_in = built_in.built_in().iter().map(|row| row.storage.clone());
        storage
            .migrate(&built_in.collect())
            .await
            .map_err(BuildError::Load)?;
        storage.load().await.map_err(BuildError::Load)?;
        let flow = FlowControl::new(&self.limits);
        let mut metrics = Metrics::default();
        let admission_measures = admission::Measures::default();
        metrics.include(flow.measures(), &admission_measures, &storage);
        if let Some(auditor) = &auditor {
            metrics.include_audit(auditor);
        }
        if self.tracer.is_on() {
            metrics.include_traces(&self.tracer);
        }
        if let Some(register) = self.more_metrics {
            metrics.include_more(register);
        }
        let limits = Arc::new(self.limits);
        let authorizer = Arc::new(Authorizer::new(self.authz, Arc::clone(&storage)));
        let admission = plugins.build(&Parts {
            storage: Arc::clone(&storage),
            registry: Arc::clone(&registry),
            gates: self.gates,
            authorizer: Arc::clone(&authorizer),
            measures: admission_measures,
            pod_security: Arc::new(pod_security),
            pod_template_paths: self.pod_template_paths.into(),
        });
        let api = Arc::new(Api {
            registry,
            authenticator: Authenticator::new(self.authn, tokens.clone(), Arc::clone(&storage)),
            authorizer,
            storage,
            admission,
            aggregation,
            metrics,
            auditor,
            tracer: self.tracer,
            resource_metrics: Arc::new(ResourceMetrics::new(nodes.is_some())),
            flow,
            limits: Arc::clone(&limits),
            tokens,
            sockets: Tunnels::default(),
            nodes,
            services: self.services.clone(),
            handing_out: tokio::sync::Mutex::default(),
            gates: self.gates,
            controllers: self.controllers,
            network_policies: self.network_policies,
            advertise: self.advertise,
        });
        let mut tasks = Tasks::default();
        tasks.spawn("store-follower", Arc::clone(&api.storage).run());
        if let (Some(file), Some(every)) = (
            self.encryption_provider_config,
            self.encryption_provider_reload,
        ) {
            let (registry, storage) = (Arc::clone(&api.registry), Arc::clone(&api.storage));
            let follow = encryption::follow(file, every, registry, storage);
            tasks.spawn("encryption-configuration", follow);
        }
        api.storage.begin().await.map_err(BuildError::Bootstrap)?;
        authz::seed::reconcile(&api.storage)
            .await
            .map_err(BuildError::Bootstrap)?;
        api.storage
            .catch_up()
            .await
            .map_err(BuildError::Bootstrap)?;
        let settings = control_plane::Settings {
            services: self.services,
            advertise: self.advertise,
            port,
            reconciler: self.endpoint_reconciler,
            shared: matches!(self.store, StoreConfig::Etcd { .. }),
            gates: self.gates,
            cluster_info: self.cluster_ca.map(|ca| ClusterInfo {
                ca,
                url: format!("https://{}", SocketAddr::new(self.advertise, port)),
            }),
        };
        let mut control_plane = ControlPlane::new(Arc::clone(&api.storage), settings);
        control_plane.be_alone().await?;
        control_plane.begin().await.map_err(BuildError::Bootstrap)?;
        Ok(Server {
            control_plane,
            api,
            listener,
            pods,
            local_addr,
            tls,
            slots: SlotTable::new(&limits),
            limits,
            tasks,
        })
    }
}

impl Server {
    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The addresses of the Service `default/kubernetes`: it keeps those that it has when the ranges of Services change.
    #[must_use]
    pub fn kubernetes_addresses(&self) -> Vec<IpAddr> {
        let (namespace, name) = allocation::KUBERNETES;
        let stored = self.api.storage.get(allocation::SERVICES, namespace, name);
        let service = stored.and_then(|stored| stored.value().ok());
        let addresses = service.and_then(|service| {
            let addresses = service.pointer("/spec/clusterIPs")?.as_array()?.clone();
            Some(addresses)
        });
        addresses
            .into_iter()
            .flatten()
            .filter_map(|address| address.as_str()?.parse().ok())
            .collect()
    }

    /// Shows another certificate than that of the configuration.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn set_tls(&mut self, tls: &TlsConfig) -> Result<(), TlsError> {
        self.tls = Some(tls.build()?);
        Ok(())
    }

    /// What the handlers share.
    #[must_use]
    pub fn api(&self) -> &Arc<Api> {
        &self.api
    }

    /// Answers until `shutdown`, then lets connections finish for a few seconds.
    ///
    /// A boxed future: its code is compiled here, beside that of other crates, and not once more in each program.
    ///
    /// # Errors
    /// When one of the server's own tasks panics or ends by itself: it cannot answer rightly without it.
    #[must_use]
    pub fn serve(self, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), ServeError>> {
        Box::pin(self.answer(shutdown))
    }

    async fn answer(mut self, shutdown: CancellationToken) -> Result<(), ServeError> {
        // Its own, so that it can end what is left when a task has failed.
        let shutdown = shutdown.child_token();
        let api = &self.api;
        let aggregation = authz::aggregation::run(Arc::clone(&api.storage));
        self.tasks.spawn("clusterrole-aggregation", aggregation);
        // They end by themselves at a shutdown, which is then nothing out of the ordinary.
        let maintenance = maintenance::run(Arc::clone(api), shutdown.clone());
        self.tasks.spawn("maintenance", maintenance);
        let withdrawn = CancellationToken::new();
        let control_plane = self.control_plane.run(shutdown.clone(), withdrawn.clone());
        self.tasks.spawn("control-plane", control_plane);
        let definitions = custom::run(
            Arc::clone(&api.registry),
            Arc::clone(&api.storage),
            shutdown.clone(),
        );
        self.tasks.spawn("customresourcedefinitions", definitions);
        let services = aggregation::run(
            Arc::clone(&api.aggregation),
            Arc::clone(&api.registry),
            Arc::clone(&api.storage),
            shutdown.clone(),
        );
        self.tasks.spawn("apiservices", services);
        let scrapes = resource_metrics::run(
            Arc::clone(&api.resource_metrics),
            api.nodes.clone(),
            Arc::clone(&api.storage),
            shutdown.clone(),
        );
        self.tasks.spawn("resource-metrics", scrapes);
        let context = Context {
            api: Arc::clone(api),
            tls: self.tls.clone(),
            limits: Arc::clone(&self.limits),
            shutdown: shutdown.clone(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let result = tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            error = self.tasks.ended() => Err(error),
            () = accept(&self.listener, self.pods.as_ref(), &self.slots, &context) => Ok(()),
        };
        if let Err(error) = &result {
            tracing::error!(%error, "the API server cannot go on");
            shutdown.cancel();
        }
        drop(self.listener);
        drop(self.pods);
        context.tasks.close();
        if tokio::time::timeout(DRAIN, context.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(count = context.tasks.len(), "connections were cut");
            context.cut.cancel();
        }
        if let Some(nodes) = &self.api.nodes {
            nodes.close().await;
        }
        if result.is_ok() {
            // It bounds itself; without the task there is nothing to wait for.
            let _ = tokio::time::timeout(control_plane::END, withdrawn.cancelled()).await;
        }
        self.api.aggregation.close().await;
        self.api.sockets.end().await;
        if let Some(auditor) = &self.api.auditor {
            auditor.close().await;
        }
        self.api.tracer.flush().await;
        self.tasks.stop().await;
        result
    }
}

/// Accepts connections for ever, each as a task of the context's.
async fn accept(
    listener: &TcpListener,
    pods: Option<&Pods>,
    slots: &Arc<SlotTable>,
    context: &Context,
) {
    let limit = LogLimit::default();
    loop {
        slots.room().await;
        let for_pods = async {
            match pods {
                Some(pods) => pods.accept().await,
                None => std::future::pending().await,
            }
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            accepted = for_pods => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // While there is room nobody else takes it: this is the only loop.
                if let Some((slot, connection)) = slots.take(peer.ip()) {
                    let serving =
                        connection::serve(context.clone(), stream, peer, slot, connection);
                    context.tasks.spawn(serving);
                }
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be freed.
                if let Some(suppressed) = limit.pass() {
                    tracing::warn!(%error, suppressed, "a connection could not be accepted");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_server_whose_task_breaks_ends_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreConfig::Sqlite {
            dir: dir.path().to_owned(),
        };
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut server = Config::new(bind, store).build().await.unwrap();
        let address = server.local_addr();
        let (break_it, broken) = tokio::sync::oneshot::channel::<()>();
        server.tasks.spawn("store-follower", async {
            let _ = broken.await;
            panic!("no such revision");
        });
        let serving = tokio::spawn(server.serve(CancellationToken::new()));
        tokio::net::TcpStream::connect(address).await.unwrap();
        break_it.send(()).unwrap();
        let error = serving.await.unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the API server's task \"store-follower\" panicked: no such revision"
        );
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
