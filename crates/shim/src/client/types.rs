//! What the client's calls take and give.

use std::path::PathBuf;
use std::time::SystemTime;

use berth_oci::runtime::RuntimeCommand;

/// How to start a kind of shim.
#[derive(Debug, Clone)]
pub struct ShimConfig {
    /// Program and leading arguments: `[berth, "shim"]`, or `["/usr/bin/containerd-shim-runc-v2"]`.
    pub command: Vec<PathBuf>,
    /// Whether this is berth's own shim (log URIs, stream socket) or a stranger's (FIFOs).
    pub own: bool,
    /// Program and leading arguments of berth's own shim, which beside a stranger's keeps the containers' streams.
    pub keeper: Vec<PathBuf>,
    /// containerd's namespace; `k8s.io` as everybody's.
    pub namespace: String,
    /// Where our shim and keeper make their sockets; keep it under 40 bytes.
    pub socket_dir: PathBuf,
    /// Passed as `-address` and `GRPC_ADDRESS`, which no shim may be without: the socket of whoever starts it. What is
    /// served there is the CRI, and not containerd's services.
    pub address: String,
    /// The socket at which containerd's events service is served ([`crate::events`]), passed as `TTRPC_ADDRESS`; where it
    /// is not served the variable isn't set, since shims end when nobody answers there.
    pub events: Option<PathBuf>,
}

/// What goes into the task's `options`.
#[derive(Debug, Clone)]
pub enum RuntimeOptions {
    /// For our own shim.
    Command(RuntimeCommand),
    /// `containerd.runc.v1.Options`, for containerd's runc shim.
    Runc {
        /// `BinaryName`.
        binary: String,
        /// `Root`.
        root: String,
        /// `SystemdCgroup`.
        systemd_cgroup: bool,
    },
    /// `runtimeoptions.v1.Options`, for Kata and most others.
    Config {
        /// `TypeUrl`.
        type_url: String,
        /// `ConfigPath`.
        config_path: String,
    },
    /// None.
    None,
}

/// A filesystem that the shim mounts on the bundle's `rootfs` before create.
#[derive(Debug, Clone, Default)]
pub struct RootfsMount {
    /// Such as `overlay` or `bind`.
    pub kind: String,
    /// The source.
    pub source: String,
    /// Options (`lowerdir=...`, `ro`).
    pub options: Vec<String>,
}

/// What [`Shim::create`] needs.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// The container's id.
    pub id: String,
    /// Directory with `config.json`; the shim keeps its own files there too.
    pub bundle: PathBuf,
    /// Mounts for `bundle/rootfs`; empty when the caller has mounted it.
    pub rootfs: Vec<RootfsMount>,
    /// Whether the process has a terminal (must equal the spec's).
    pub terminal: bool,
    /// Whether stdin can be attached to.
    pub stdin: bool,
    /// Whether stdin ends with its first client.
    pub stdin_once: bool,
    /// The CRI log file.
    pub log: Option<PathBuf>,
    /// The runtime.
    pub options: RuntimeOptions,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 + n after signal n.
    pub code: u32,
    /// When.
    pub at: SystemTime,
}

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Created, not started.
    Created,
    /// Running (or paused).
    Running,
    /// Ended.
    Stopped(Exit),
    /// The shim can't tell.
    Unknown,
}

/// What the shim says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Host pid; of VM-like runtimes the sandbox's, one for all.
    pub pid: u32,
    /// Where it is.
    pub status: Status,
}

/// Which streams a client attaches to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttachStreams {
    /// Write stdin.
    pub stdin: bool,
    /// Read stdout.
    pub stdout: bool,
    /// Read stderr; must be false with a terminal.
    pub stderr: bool,
}

/// What [`Shim::exec_sync`] gathered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code.
    pub code: u32,
    /// At most 16 MiB of stdout.
    pub stdout: Vec<u8>,
    /// At most 16 MiB of stderr.
    pub stderr: Vec<u8>,
}
