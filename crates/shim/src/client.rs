//! Drives a shim: berth's own and strangers' alike.
//!
//! [`Shim`] is a handle to one running shim process (usually one a pod). It is cheap to clone; all methods may be
//! called at once. Dropping it leaves the shim and its containers running; [`Shim::reconnect`] finds them again.
//!
//! Tasks: the ttrpc connection's; one per attached or exec'd session that demultiplexes its streams; for a
//! stranger's shim one logger per container that reads its FIFOs.

mod bootstrap;
mod error;
mod exec;
mod fifo;
mod log;
mod session;
mod stats;
mod task;
mod types;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::api;
use oci_spec::runtime::LinuxResources;
use protobuf::MessageField;
use protobuf::well_known_types::any::Any;

pub use error::ShimError;
pub use session::{Control, ReadHalf, Session, WriteHalf};
pub use stats::Stats;
pub use types::{
    AttachStreams, CreateRequest, ExecOutput, Exit, RootfsMount, RuntimeOptions, ShimConfig, State,
    Status,
};

use task::TaskClient;

use crate::stdio::{Input, Output};

/// Type URL of the options that our own shim takes: JSON of [`RuntimeCommand`].
pub const OWN_OPTIONS: &str = "berth.dev/shim.v1.RuntimeCommand";

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
