//! What `run` needs to know; parsed whole by the binary before anything is opened.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use berth_trace::Tracer;

use crate::handlers::HandlerSource;

/// Settings of one CRI server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The unix socket on which both CRI services are served.
    pub socket: PathBuf,
    /// What has to survive a reboot: images, snapshots, records of sandboxes and containers.
    pub root_dir: PathBuf,
    /// What a reboot may clear: namespace pins, bundles, shim sockets. Keep the path short, since
    /// a unix socket's path has at most 107 bytes.
    pub state_dir: PathBuf,
    /// Where the handler table comes from.
    pub handlers: HandlerSource,
    /// Networks of pods.
    pub cni: CniConfig,
    /// Where exec, attach and port-forward are served; port 0 picks a free one.
    pub streaming_addr: SocketAddr,
    /// Where the runtime's own metrics are served, if anywhere.
    pub metrics_addr: Option<SocketAddr>,
    /// The command of berth's own shim: the program and its first arguments.
    pub shim_command: Vec<OsString>,
    /// The command of the runtime inside berth: the program and its first arguments; empty where there is none.
    pub embedded_command: Vec<OsString>,
    /// Images: registries and limits.
    pub images: ImageOptions,
    /// Where spans go.
    pub tracer: Tracer,
}

impl Config {
    /// Settings with the usual values below a data and a run directory.
    ///
    /// `data_dir` holds `cri/`; `run_dir` holds `cri.sock` and `cri/`.
    #[must_use]
    pub fn new(data_dir: &Path, run_dir: &Path, shim_command: Vec<OsString>) -> Self {
        Self {
            socket: run_dir.join("cri.sock"),
            root_dir: data_dir.join("cri"),
            state_dir: run_dir.join("cri"),
            handlers: HandlerSource::BuiltIn,
            cni: CniConfig::new(data_dir),
            streaming_addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            metrics_addr: None,
            shim_command,
            embedded_command: Vec::new(),
            images: ImageOptions::default(),
            tracer: Tracer::default(),
        }
    }

    /// The socket on which third-party shims publish events: beside the CRI's, where containerd's own is beside
    /// containerd's.
    #[must_use]
    pub fn events_socket(&self) -> PathBuf {
        let mut path = self.socket.clone().into_os_string();
        path.push(".ttrpc");
        path.into()
    }
}

/// Where CNI configurations and plugins are.
#[derive(Debug, Clone)]
pub struct CniConfig {
    /// Directories with network configurations; the first file in name order of the first
    /// directory that has one is the pods' network.
    pub conf_dirs: Vec<PathBuf>,
    /// Directories with plugins.
    pub bin_dirs: Vec<PathBuf>,
    /// Where berth writes its default network when none of `conf_dirs` has one.
    pub default_conf_dir: PathBuf,
    /// What that default network looks like; `None` leaves pods without a network until one is
    /// configured.
    pub default_network: Option<DefaultNetwork>,
    /// Where addresses given out by the default network are kept.
    pub ipam_dir: PathBuf,
}

impl CniConfig {
    /// The usual directories, and a default network in `data_dir`.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self {
            conf_dirs: vec![PathBuf::from("/etc/cni/net.d")],
            bin_dirs: vec![PathBuf::from("/opt/cni/bin"), PathBuf::from("/usr/lib/cni")],
            default_conf_dir: data_dir.join("cri/cni/net.d"),
            default_network: Some(DefaultNetwork::default()),
            ipam_dir: data_dir.join("cri/cni/ipam"),
        }
    }
}

/// The bridge network that berth configures for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultNetwork {
    /// The network's name.
    pub name: String,
    /// The bridge's interface name, at most 15 bytes.
    pub bridge: String,
    /// The pods' addresses in CIDR notation; a pod CIDR from `UpdateRuntimeConfig` replaces it.
    pub subnet: String,
}

impl Default for DefaultNetwork {
    fn default() -> Self {
        Self {
            name: "berth".to_owned(),
            bridge: "berth0".to_owned(),
            subnet: "10.88.0.0/16".to_owned(),
        }
    }
}

/// Registries and limits of the image service.
#[derive(Debug, Clone, Default)]
pub struct ImageOptions {
    /// Directories with a folder per registry that holds containerd's `hosts.toml`.
    pub hosts_dirs: Vec<PathBuf>,
    /// Bytes that images leave free on their filesystem; the image store's default where none.
    pub keep_free: Option<u64>,
}
