//! What an API server is told before it starts. It is checked whole before any port is bound.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use berth_core::gates::FeatureGates;
use berth_store::etcd::EtcdConfig;

use crate::authn::AuthnConfig;
use crate::authz::AuthzMode;
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

/// Configuration of an API server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 takes any free one.
    pub bind: SocketAddr,
    /// Address that clients are told.
    pub advertise: IpAddr,
    /// Where the objects are kept.
    pub store: StoreConfig,
    /// `--encryption-provider-config`.
    pub encryption_provider_config: Option<PathBuf>,
    /// Serving certificate and client CA; none serves plain HTTP (tests only).
    pub tls: Option<TlsConfig>,
    /// Who a request is.
    pub authn: AuthnConfig,
    /// What a user may do.
    pub authz: AuthzMode,
    /// Service account tokens; none refuses to issue any.
    pub tokens: Option<TokenConfig>,
    /// How nodes are reached for logs, exec, attach and port-forward.
    pub nodes: Option<NodeClientConfig>,
    /// What clients may use.
    pub limits: Limits,
    /// Feature gates.
    pub gates: FeatureGates,
    /// `--enable-admission-plugins`.
    pub enable_admission_plugins: Vec<String>,
    /// `--disable-admission-plugins`.
    pub disable_admission_plugins: Vec<String>,
    /// `--admission-control-config-file`.
    pub admission_control_config_file: Option<PathBuf>,
}

impl Config {
    /// A configuration with stock defaults, plain HTTP and no credentials.
    #[must_use]
    pub fn new(bind: SocketAddr, store: StoreConfig) -> Self {
        Self {
            bind,
            advertise: bind.ip(),
            store,
            encryption_provider_config: None,
            tls: None,
            authn: AuthnConfig::default(),
            authz: AuthzMode::default(),
            tokens: None,
            nodes: None,
            limits: Limits::default(),
            gates: FeatureGates::default(),
            enable_admission_plugins: Vec::new(),
            disable_admission_plugins: Vec::new(),
            admission_control_config_file: None,
        }
    }
}
