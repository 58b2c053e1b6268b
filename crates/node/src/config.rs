//! What the agent must be told before it starts, and why it may refuse to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use berth_net::policy::PolicyHandle;
use berth_trace::Tracer;
use k8s_openapi::api::core::v1::Taint;

use crate::certificates::NodeCertificates;
use crate::swap::{SwapBehavior, SwapError};

/// The directory of local-path volumes in the agent's own.
pub(crate) const LOCAL_PATH: &str = "local-path";

/// Everything the node agent needs. Parsed whole before any port is bound.
#[derive(Clone)]
pub struct Config {
    /// Client for the API server; it must be allowed what `system:node` is.
    pub client: kube::Client,
    /// `metadata.name` of the Node object.
    pub node_name: String,
    /// The address to report as InternalIP; the address of the default route when `None`.
    pub node_ip: Option<IpAddr>,
    /// Unix socket of the CRI v1 runtime (runtime and image service).
    pub cri_socket: PathBuf,
    /// The agent's own directory (`pods/<uid>/volumes/...`), the stock `/var/lib/kubelet`.
    pub root_dir: PathBuf,
    /// Where the manifests of static pods are, the stock `staticPodPath`; none for no such pods.
    pub static_pod_dir: Option<PathBuf>,
    /// Where the directories of local-path volumes are, `local-path` in the root directory unless it is chosen.
    pub local_path_dir: PathBuf,
    /// Where `device-plugins/kubelet.sock` and `pod-resources/kubelet.sock` are, the stock `/var/lib/kubelet`.
    pub plugin_dir: PathBuf,
    /// Where container logs go, the stock `/var/log/pods`.
    pub pod_logs_dir: PathBuf,
    /// Where the HTTPS server listens, the stock `0.0.0.0:10250`; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Certificate, key and client CA of the HTTPS server.
    pub tls: ServingTls,
    /// Certificates that the cluster issues and that are renewed in time; none leaves that to others.
    pub certificates: Option<NodeCertificates>,
    /// Feature gates of the node; independent of the server's.
    pub gates: Gates,
    /// What becomes of a pod whose handler the runtime does not have.
    pub unsupported_handler: UnsupportedHandler,
    /// Labels to set on the Node besides the standard ones.
    pub node_labels: BTreeMap<String, String>,
    /// Taints to register the Node with.
    pub register_taints: Vec<Taint>,
    /// `status.capacity.pods`, stock 110.
    pub max_pods: u32,
    /// Addresses of the cluster's DNS; pods with `ClusterFirst` fall back to `Default` when empty.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS domain, stock `cluster.local`.
    pub cluster_domain: String,
    /// The file with the node's resolvers, for pods with `Default` and as what names outside the cluster are searched by.
    pub resolv_conf: PathBuf,
    /// Sysctls that pods may set besides the safe ones: names, or beginnings of names with `*` after them.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// What containers may use of the machine's swap.
    pub swap_behavior: SwapBehavior,
    /// Set up pod cgroups (`kubepods/...`); off leaves them to the runtime.
    pub pod_cgroups: bool,
    /// How often the Node's status is written when nothing changed, stock 5 min.
    pub status_report_interval: Duration,
    /// How often the Lease is renewed, stock 10 s (a quarter of its duration).
    pub lease_renew_interval: Duration,
    /// Rotate a container's log when it is larger than this many bytes, stock 10 MiB.
    pub log_max_bytes: u64,
    /// Keep at most this many log files a container, stock 5.
    pub log_max_files: u32,
    /// How often it is measured what sandboxes cost beyond their containers; zero: never.
    pub overhead_period: Duration,
    /// What enforces NetworkPolicies here; none leaves them to the network plugin.
    pub network_policies: Option<PolicyHandle>,
    /// Where spans go.
    pub tracer: Tracer,
}

impl Config {
    /// A configuration with the stock kubelet's defaults.
    pub fn new(
        client: kube::Client,
        node_name: impl Into<String>,
        cri_socket: impl Into<PathBuf>,
        root_dir: impl Into<PathBuf>,
        tls: ServingTls,
    ) -> Self {
        let root_dir = root_dir.into();
        Self {
            client,
            node_name: node_name.into(),
            node_ip: None,
            cri_socket: cri_socket.into(),
            static_pod_dir: None,
            local_path_dir: root_dir.join(LOCAL_PATH),
            plugin_dir: root_dir.clone(),
            root_dir,
            pod_logs_dir: PathBuf::from("/var/log/pods"),
            bind: SocketAddr::from(([0, 0, 0, 0], 10250)),
            tls,
            certificates: None,
            gates: Gates::default(),
            unsupported_handler: UnsupportedHandler::default(),
            node_labels: BTreeMap::new(),
            register_taints: Vec::new(),
            max_pods: 110,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            allowed_unsafe_sysctls: Vec::new(),
            swap_behavior: SwapBehavior::default(),
            pod_cgroups: true,
            status_report_interval: Duration::from_secs(300),
            lease_renew_interval: Duration::from_secs(10),
            log_max_bytes: 10 << 20,
            log_max_files: 5,
            overhead_period: Duration::from_secs(60),
            network_policies: None,
            tracer: Tracer::default(),
        }
    }
}

/// What the HTTPS server shows, and whose clients it lets in.
#[derive(Clone)]
pub struct ServingTls {
    /// Its certificate.
    pub certificate: ServingCertificate,
    /// PEM: CA of the clients that may call (the API server's kubelet client certificate).
    pub client_ca_pem: String,
}

/// The certificate of the HTTPS server.
#[derive(Clone)]
pub enum ServingCertificate {
    /// This one.
    Given {
        /// Certificate chain, PEM.
        cert_pem: String,
        /// Private key, PEM.
        key_pem: String,
    },
    /// One that the cluster issues while the node runs ([`Config::certificates`]).
    Issued,
}

/// Feature gates that the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gates {
    /// Off: `spec.runtimeClassName` is ignored and the default handler runs.
    pub runtime_class: bool,
    /// Off: `spec.overhead` counts neither in pod cgroups nor in eviction ranking.
    pub pod_overhead: bool,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            runtime_class: true,
            pod_overhead: true,
        }
    }
}

/// What becomes of a pod whose runtime handler the node's CRI runtime does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnsupportedHandler {
    /// Phase Failed, as the RuntimeClass documents say.
    #[default]
    Fail,
    /// Stay Pending and try again, as the stock kubelet does.
    Retry,
}

/// Why the agent cannot start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The serving certificate, key or client CA is unusable.
    #[error("the node server's {what} is unusable: {reason}")]
    Tls {
        /// Which of the three.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTPS port cannot be bound.
    #[error("cannot listen on {addr} for the node server (is another kubelet running?)")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The agent's directory cannot be used.
    #[error("cannot use the node's directory {}", path.display())]
    RootDir {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A fact about the machine cannot be read.
    #[error("cannot read {what} of this machine: {reason}")]
    Machine {
        /// Which fact.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The CRI socket's path is not usable.
    #[error("cannot use the CRI socket {}: {reason}", path.display())]
    CriSocket {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The machine's swap cannot be bounded as it is asked for.
    #[error(transparent)]
    Swap(#[from] SwapError),
    /// A task of the agent ended that it cannot be without.
    #[error(transparent)]
    Task(#[from] berth_supervise::TaskError),
}
