//! What an API server is told before it starts. It is checked whole before any port is bound.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_core::gates::FeatureGates;
use berth_store::etcd::EtcdConfig;
use berth_trace::Tracer;
use prometheus_client::registry::Registry;

use crate::admission::PodTemplatePath;
use crate::aggregation::FrontProxyConfig;
use crate::allocation::ServiceSettings;
use crate::audit::AuditConfig;
use crate::authn::AuthnConfig;
use crate::authz::AuthzMode;
use crate::control_plane::EndpointReconciler;
use crate::limits::Limits;
use crate::proxy::NodeClientConfig;
use crate::tls::TlsConfig;
use crate::tokens::TokenConfig;

/// Where the objects are kept.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// An embedded database in this directory.
    Sqlite {
        /// Directory; made if absent.
        dir: PathBuf,
    },
    /// An etcd cluster, which several servers may share.
    Etcd(EtcdConfig),
}

/// A socket on which only pods of this machine are served, and the machine itself.
#[derive(Clone, Debug)]
pub struct PodListener {
    /// The socket.
    pub listener: Arc<std::net::TcpListener>,
    /// Addresses of the pods, in CIDR notation; with commas between several.
    pub subnets: String,
}

/// Configuration of an API server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 takes any free one.
    pub bind: SocketAddr,
    /// Address that clients are told.
    pub advertise: IpAddr,
    /// Another socket, for this machine's pods, where they can't reach `bind`.
    pub pods: Option<PodListener>,
    /// Where the objects are kept.
    pub store: StoreConfig,
    /// `--encryption-provider-config`.
    pub encryption_provider_config: Option<PathBuf>,
    /// How often that file is read again (`--encryption-provider-config-automatic-reload`); none: it is read once.
    pub encryption_provider_reload: Option<Duration>,
    /// Serving certificate and client CA; none serves plain HTTP (tests only).
    pub tls: Option<TlsConfig>,
    /// CA of the serving certificate, PEM: machines that join get it from the ConfigMap `kube-public/cluster-info`.
    pub cluster_ca: Option<String>,
    /// Who a request is.
    pub authn: AuthnConfig,
    /// What a user may do.
    pub authz: AuthzMode,
    /// Service account tokens; none refuses to issue any.
    pub tokens: Option<TokenConfig>,
    /// From which ranges Services get addresses and node ports.
    pub services: ServiceSettings,
    /// Whether this server keeps its address among the endpoints of the Service `default/kubernetes`.
    pub endpoint_reconciler: EndpointReconciler,
    /// How nodes are reached for logs, exec, attach and port-forward.
    pub nodes: Option<NodeClientConfig>,
    /// How the servers of APIServices know this one; none shows them no certificate.
    pub front_proxy: Option<FrontProxyConfig>,
    /// What clients may use.
    pub limits: Limits,
    /// Feature gates.
    pub gates: FeatureGates,
    /// Whether berth's own controllers run beside this server: who creates what one of them acts on is not warned.
    pub controllers: bool,
    /// Whether berth's own node enforces NetworkPolicies: who creates one is not warned.
    pub network_policies: bool,
    /// `--enable-admission-plugins`.
    pub enable_admission_plugins: Vec<String>,
    /// `--disable-admission-plugins`.
    pub disable_admission_plugins: Vec<String>,
    /// `--admission-control-config-file`.
    pub admission_control_config_file: Option<PathBuf>,
    /// The `--audit-*` flags; none keeps no audit log.
    pub audit: Option<AuditConfig>,
    /// Where custom resources have the template of their pods (`--pod-template-path`).
    pub pod_template_paths: Vec<PodTemplatePath>,
    /// Where spans go (`--tracing-config-file`).
    pub tracer: Tracer,
    /// What else of the process is shown under `/metrics`.
    pub more_metrics: Option<fn(&mut Registry)>,
}

impl Config {
    /// A configuration with stock defaults, plain HTTP and no credentials.
    #[must_use]
    pub fn new(bind: SocketAddr, store: StoreConfig) -> Self {
        Self {
            bind,
            advertise: bind.ip(),
            pods: None,
            store,
            encryption_provider_config: None,
            encryption_provider_reload: None,
            tls: None,
            cluster_ca: None,
            authn: AuthnConfig::default(),
            authz: AuthzMode::default(),
            tokens: None,
            services: ServiceSettings::default(),
            endpoint_reconciler: EndpointReconciler::default(),
            nodes: None,
            front_proxy: None,
            limits: Limits::default(),
            gates: FeatureGates::default(),
            controllers: false,
            network_policies: false,
            enable_admission_plugins: Vec::new(),
            disable_admission_plugins: Vec::new(),
            admission_control_config_file: None,
            audit: None,
            pod_template_paths: Vec::new(),
            tracer: Tracer::default(),
            more_metrics: None,
        }
    }
}
