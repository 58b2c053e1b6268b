//! Drives a shim: berth's own and strangers' alike.
//!
//! [`Shim`] is a handle to one running shim process (usually one a pod). It is cheap to clone; all methods may be
//! called at once. Dropping it leaves the shim and its containers running; [`Shim::reconnect`] finds them again.
//!
//! Tasks: the ttrpc connection's; one per attached or exec'd session that demultiplexes its streams; for a
//! stranger's shim one logger per container that reads its FIFOs.

mod bootstrap;
mod error;
mod fifo;
mod log;
mod session;
mod stats;
mod task;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_oci::runtime::RuntimeCommand;
use containerd_shim_protos::api;
use oci_spec::runtime::{LinuxResources, Process};
use protobuf::MessageField;
use protobuf::well_known_types::any::Any;

pub use error::ShimError;
pub use session::{Control, ReadHalf, Session, WriteHalf};
pub use stats::Stats;

use task::TaskClient;

use crate::stdio::{Input, Output};

/// Type URL of the options that our own shim takes: JSON of [`RuntimeCommand`].
pub const OWN_OPTIONS: &str = "berth.dev/shim.v1.RuntimeCommand";

/// How to start a kind of shim.
#[derive(Debug, Clone)]
pub struct ShimConfig {
    /// Program and leading arguments: `[berth, "shim"]`, or `["/usr/bin/containerd-shim-runc-v2"]`.
    pub command: Vec<PathBuf>,
    /// Whether this is berth's own shim (log URIs, stream socket) or a stranger's (FIFOs).
    pub own: bool,
    /// containerd's namespace; `k8s.io` as everybody's.
    pub namespace: String,
    /// Where our shim makes its sockets; keep it under 40 bytes.
    pub socket_dir: PathBuf,
    /// The address passed as `-address` (our gRPC socket); some shims want one.
    pub address: String,
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

/// A running shim.
#[derive(Debug, Clone)]
pub struct Shim(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    task: TaskClient,
    address: String,
    own: bool,
    loggers: fifo::Loggers,
    _log: Option<log::LogTask>,
}

/// Limit of each of exec_sync's outputs, as the kubelet's.
const MAX_SYNC_OUTPUT: usize = 16 << 20;
/// How long a shim may take to show that it lives.
const ALIVE: Duration = Duration::from_secs(10);
/// How long a shim may take for an ordinary call (a VM's boot included).
const CALL: Duration = Duration::from_secs(120);

impl Shim {
    /// Starts the shim of `id`, whose bundle (with `config.json`) exists. For a later container of a pod the shim
    /// may answer with the pod's; with our own that call can be spared by keeping the first one's handle.
    ///
    /// # Errors
    /// When it can't be started or reached.
    pub async fn launch(config: &ShimConfig, id: &str, bundle: &Path) -> Result<Self, ShimError> {
        let log = if config.own {
            None
        } else {
            Some(log::LogTask::create(id, bundle)?)
        };
        let bootstrap = bootstrap::start(config, id, bundle).await?;
        bootstrap::save(bundle, &bootstrap)?;
        Self::open(config, bootstrap, log).await
    }

    /// Finds the shim that was started for this bundle, after a restart of ours.
    ///
    /// # Errors
    /// When there was none or it doesn't answer: then [`cleanup`] ends what it left.
    pub async fn reconnect(config: &ShimConfig, bundle: &Path) -> Result<Self, ShimError> {
        let log = if config.own {
            None
        } else {
            log::LogTask::reopen(bundle)
        };
        let shim = Self::open(config, bootstrap::load(bundle)?, log).await?;
        // A dying shim may still have accepted us; any answer at all shows life.
        let id = bundle.file_name().unwrap_or_default().to_string_lossy();
        match tokio::time::timeout(ALIVE, shim.shim_pid(&id)).await {
            Err(_) => Err(ShimError::Timeout(ALIVE)),
            Ok(Err(e @ (ShimError::Disconnected { .. } | ShimError::Connect { .. }))) => Err(e),
            Ok(_) => Ok(shim),
        }
    }

    async fn open(
        config: &ShimConfig,
        bootstrap: bootstrap::Bootstrap,
        log: Option<log::LogTask>,
    ) -> Result<Self, ShimError> {
        let task = TaskClient::connect(&bootstrap).await?;
        Ok(Self(Arc::new(Inner {
            task,
            address: bootstrap.address,
            own: config.own,
            loggers: fifo::Loggers::default(),
            _log: log,
        })))
    }

    /// The shim's address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// The shim's own pid.
    ///
    /// # Errors
    /// When the shim doesn't answer.
    pub async fn shim_pid(&self, id: &str) -> Result<u32, ShimError> {
        let request = api::ConnectRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let answer: api::ConnectResponse = self.0.task.call("Connect", &request, CALL).await?;
        Ok(answer.shim_pid)
    }

    /// Creates a container; gives its first process' pid.
    ///
    /// # Errors
    /// The runtime's own words when it refuses.
    pub async fn create(&self, create: &CreateRequest) -> Result<u32, ShimError> {
        let mut request = api::CreateTaskRequest {
            id: create.id.clone(),
            bundle: create.bundle.to_string_lossy().into_owned(),
            terminal: create.terminal,
            options: MessageField::from_option(task::options(&create.options)?),
            ..Default::default()
        };
        for mount in &create.rootfs {
            request.rootfs.push(api::Mount {
                type_: mount.kind.clone(),
                source: mount.source.clone(),
                options: mount.options.clone(),
                ..Default::default()
            });
        }
        if self.0.own {
            request.stdout = Output::log_uri(create.log.as_deref());
            if create.stdin {
                request.stdin = Input::stream_uri(create.stdin_once);
            }
        } else {
            self.0.loggers.prepare(create, &mut request)?;
        }
        let answer: Result<api::CreateTaskResponse, _> =
            self.0.task.call("Create", &request, CALL).await;
        match answer {
            Ok(answer) => Ok(answer.pid),
            Err(e) => {
                self.0.loggers.forget(&create.id);
                Err(e)
            }
        }
    }

    /// Starts a created container.
    ///
    /// # Errors
    /// The runtime's own words when it refuses.
    pub async fn start(&self, id: &str) -> Result<u32, ShimError> {
        self.start_process(id, "").await
    }

    async fn start_process(&self, id: &str, exec_id: &str) -> Result<u32, ShimError> {
        let request = api::StartRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        let answer: api::StartResponse = self.0.task.call("Start", &request, CALL).await?;
        Ok(answer.pid)
    }

    /// Waits until the container's first process has ended.
    ///
    /// # Errors
    /// When the container is unknown or the shim dies meanwhile.
    pub async fn wait(&self, id: &str) -> Result<Exit, ShimError> {
        let exit = self.wait_process(id, "").await?;
        self.0.loggers.drain(id).await;
        Ok(exit)
    }

    /// Takes a container's streams over again after [`Shim::reconnect`]. With our own shim there is nothing to do;
    /// a stranger's has kept what its FIFOs hold.
    ///
    /// # Errors
    /// When the bundle has no note of its streams.
    pub fn adopt(&self, id: &str, bundle: &Path) -> Result<(), ShimError> {
        if self.0.own {
            Ok(())
        } else {
            self.0.loggers.adopt(id, bundle)
        }
    }

    async fn wait_process(&self, id: &str, exec_id: &str) -> Result<Exit, ShimError> {
        let request = api::WaitRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        let answer: api::WaitResponse = self.0.task.call("Wait", &request, Duration::ZERO).await?;
        Ok(Exit {
            code: answer.exit_status,
            at: task::time(answer.exited_at.as_ref()),
        })
    }

    /// Sends a signal to the container's first process, or with `all` to every process in it.
    /// A process that is gone is [`ShimError::NotFound`].
    ///
    /// # Errors
    /// When there is no such process or the signal can't be sent.
    pub async fn kill(&self, id: &str, signal: u32, all: bool) -> Result<(), ShimError> {
        self.kill_process(id, "", signal, all).await
    }

    async fn kill_process(
        &self,
        id: &str,
        exec_id: &str,
        signal: u32,
        all: bool,
    ) -> Result<(), ShimError> {
        let request = api::KillRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            signal,
            all,
            ..Default::default()
        };
        self.0.task.call_empty("Kill", &request, CALL).await
    }

    /// Deletes a stopped (or never started) container and gives how it ended.
    ///
    /// # Errors
    /// When it still runs, is unknown, or the runtime fails.
    pub async fn delete(&self, id: &str) -> Result<Exit, ShimError> {
        let exit = self.delete_process(id, "").await?;
        self.0.loggers.finish(id).await;
        Ok(exit)
    }

    async fn delete_process(&self, id: &str, exec_id: &str) -> Result<Exit, ShimError> {
        let request = api::DeleteRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        };
        let answer: api::DeleteResponse = self.0.task.call("Delete", &request, CALL).await?;
        Ok(Exit {
            code: answer.exit_status,
            at: task::time(answer.exited_at.as_ref()),
        })
    }

    /// Where a container is in its life.
    ///
    /// # Errors
    /// When it is unknown.
    pub async fn state(&self, id: &str) -> Result<State, ShimError> {
        let request = api::StateRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let answer: api::StateResponse = self.0.task.call("State", &request, CALL).await?;
        Ok(task::state(&answer))
    }

    /// Host pids of the container's processes.
    ///
    /// # Errors
    /// When it is unknown.
    pub async fn pids(&self, id: &str) -> Result<Vec<u32>, ShimError> {
        let request = api::PidsRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let answer: api::PidsResponse = self.0.task.call("Pids", &request, CALL).await?;
        Ok(answer.processes.iter().map(|p| p.pid).collect())
    }

    /// What the container uses.
    ///
    /// # Errors
    /// When it is unknown or the metrics aren't in a form that we know.
    pub async fn stats(&self, id: &str) -> Result<Stats, ShimError> {
        let request = api::StatsRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let answer: api::StatsResponse = self.0.task.call("Stats", &request, CALL).await?;
        stats::decode(answer.stats.as_ref())
    }

    /// Changes a running container's limits.
    ///
    /// # Errors
    /// When the runtime refuses.
    pub async fn update(&self, id: &str, resources: &LinuxResources) -> Result<(), ShimError> {
        let any = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned(),
            value: serde_json::to_vec(resources).map_err(ShimError::Encode)?,
            ..Default::default()
        };
        let request = api::UpdateTaskRequest {
            id: id.to_owned(),
            resources: MessageField::some(any),
            ..Default::default()
        };
        self.0.task.call_empty("Update", &request, CALL).await
    }

    /// Stops all processes of a container where they are.
    ///
    /// # Errors
    /// When the runtime refuses.
    pub async fn pause(&self, id: &str) -> Result<(), ShimError> {
        let request = api::PauseRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        self.0.task.call_empty("Pause", &request, CALL).await
    }

    /// Lets a paused container go on.
    ///
    /// # Errors
    /// When the runtime refuses.
    pub async fn resume(&self, id: &str) -> Result<(), ShimError> {
        let request = api::ResumeRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        self.0.task.call_empty("Resume", &request, CALL).await
    }

    /// Writes a checkpoint of a container into a directory.
    ///
    /// # Errors
    /// When the runtime can't.
    pub async fn checkpoint(&self, id: &str, path: &Path) -> Result<(), ShimError> {
        let request = api::CheckpointTaskRequest {
            id: id.to_owned(),
            path: path.to_string_lossy().into_owned(),
            ..Default::default()
        };
        self.0.task.call_empty("Checkpoint", &request, CALL).await
    }

    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// When it has none.
    pub async fn resize(&self, id: &str, width: u32, height: u32) -> Result<(), ShimError> {
        self.resize_process(id, "", width, height).await
    }

    async fn resize_process(
        &self,
        id: &str,
        exec_id: &str,
        width: u32,
        height: u32,
    ) -> Result<(), ShimError> {
        let request = api::ResizePtyRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            width,
            height,
            ..Default::default()
        };
        self.0.task.call_empty("ResizePty", &request, CALL).await
    }

    /// Closes a container's stdin.
    ///
    /// # Errors
    /// When it is unknown.
    pub async fn close_stdin(&self, id: &str) -> Result<(), ShimError> {
        self.0.loggers.close_stdin(id);
        self.close_process_stdin(id, "").await
    }

    async fn close_process_stdin(&self, id: &str, exec_id: &str) -> Result<(), ShimError> {
        let request = api::CloseIORequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            stdin: true,
            ..Default::default()
        };
        self.0.task.call_empty("CloseIO", &request, CALL).await
    }

    /// Opens the container's log file anew, after it was renamed. No line is lost or torn.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub async fn reopen_log(&self, id: &str) -> Result<(), ShimError> {
        if self.0.own {
            session::reopen_log(&self.0.address, id).await
        } else {
            self.0.loggers.reopen(id)
        }
    }

    /// Attaches to a container's streams. Output from before is in the log, not here.
    ///
    /// # Errors
    /// When it is unknown or has no such stream.
    pub async fn attach(&self, id: &str, streams: AttachStreams) -> Result<Session, ShimError> {
        let control = Control::new(self.clone(), id, "");
        if self.0.own {
            session::open(&self.0.address, control, streams).await
        } else {
            self.0.loggers.attach(control, streams)
        }
    }

    /// Runs a process in a container, with its streams. The session's [`Control::wait`] gives the exit code and
    /// forgets the process; dropping the session's stdin half-closes it.
    ///
    /// # Errors
    /// The runtime's own words when it can't be started.
    pub async fn exec(
        &self,
        id: &str,
        process: &Process,
        streams: AttachStreams,
    ) -> Result<Session, ShimError> {
        let exec_id = format!("{:016x}", rand::random::<u64>());
        let terminal = process.terminal().unwrap_or(false);
        let mut request = api::ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec_id.clone(),
            terminal,
            spec: MessageField::some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
                value: serde_json::to_vec(process).map_err(ShimError::Encode)?,
                ..Default::default()
            }),
            ..Default::default()
        };
        let control = Control::new(self.clone(), id, &exec_id);
        let session = if self.0.own {
            request.stdout = Output::stream_uri();
            if streams.stdin {
                request.stdin = Input::stream_uri(true);
            }
            self.0.task.call_empty("Exec", &request, CALL).await?;
            session::open(&self.0.address, control.clone(), streams).await
        } else {
            let fifos = self.0.loggers.exec(&control, streams, terminal)?;
            fifos.fill(&mut request);
            self.0.task.call_empty("Exec", &request, CALL).await?;
            fifos.session(control.clone(), streams)
        };
        let started = match session {
            Ok(session) => self.start_process(id, &exec_id).await.map(|_| session),
            Err(e) => Err(e),
        };
        if started.is_err() {
            let _ = self.delete_process(id, &exec_id).await;
        }
        started
    }

    /// Runs a process and gathers its output. After `timeout` (zero: none) its whole process tree is killed.
    ///
    /// # Errors
    /// [`ShimError::Timeout`], or the runtime's own words when it can't be started.
    pub async fn exec_sync(
        &self,
        id: &str,
        process: &Process,
        timeout: Duration,
    ) -> Result<ExecOutput, ShimError> {
        let streams = AttachStreams {
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let session = self.exec(id, process, streams).await?;
        session.collect(timeout, MAX_SYNC_OUTPUT).await
    }

    /// Asks the shim to end once no container is left; with `now` at once. Its containers are not stopped by it.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub async fn shutdown(&self, id: &str, now: bool) -> Result<(), ShimError> {
        let request = api::ShutdownRequest {
            id: id.to_owned(),
            now,
            ..Default::default()
        };
        match self.0.task.call_empty("Shutdown", &request, CALL).await {
            Err(ShimError::Disconnected { .. }) => Ok(()),
            other => other,
        }
    }
}

/// Ends what a dead shim left of `id`: runs the shim's `delete`, which kills and deletes the container.
///
/// # Errors
/// When the shim's binary fails.
pub async fn cleanup(config: &ShimConfig, id: &str, bundle: &Path) -> Result<Exit, ShimError> {
    bootstrap::delete(config, id, bundle).await
}

/// How the first process of a bundle's container ended, as our shim noted it there; `None` while it runs.
#[must_use]
pub fn recorded_exit(bundle: &Path) -> Option<Exit> {
    crate::server::persist::load_exit(bundle)
}

/// Whether the kernel killed a process of the bundle's container for want of memory, as our shim noted it at the exit.
#[must_use]
pub fn recorded_oom_kill(bundle: &Path) -> bool {
    crate::server::persist::load_oom_killed(bundle)
}
