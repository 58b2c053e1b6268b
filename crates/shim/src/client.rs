//! Drives a shim: berth's own and strangers' alike.
//!
//! [`Shim`] is a handle to one running shim process (usually one a pod). It is cheap to clone; all methods may be
//! called at once. Dropping it leaves the shim and its containers running; [`Shim::reconnect`] finds them again.
//!
//! Tasks: the ttrpc connection's; one per attached or exec'd session that demultiplexes its streams; for a
//! stranger's shim one that looks after its keeper, and one for each end of an exec's FIFOs.

mod bootstrap;
mod error;
mod exec;
mod fifo;
mod keeper;
mod log;
mod orphans;
mod release;
mod sandbox;
mod session;
mod sockets;
mod stats;
mod task;
mod types;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use containerd_shim_protos::api;
use oci_spec::runtime::LinuxResources;
use protobuf::MessageField;
use protobuf::well_known_types::any::Any;
use tokio::sync::broadcast;

pub use error::ShimError;
pub use release::{Release, look_at_release};
pub use sandbox::SandboxRequest;
pub use session::{Control, ReadHalf, Session, WriteHalf};
pub use stats::Stats;
pub use types::{
    AttachStreams, CreateRequest, ExecOutput, Exit, RootfsMount, RuntimeOptions, ShimConfig, State,
    Status,
};

use task::TaskClient;
pub(crate) use task::time;

use crate::events::Publisher;
use crate::stdio::{Input, Output};
use crate::stream::Hello;

/// Type URL of the options that our own shim takes: JSON of [`RuntimeCommand`].
pub const OWN_OPTIONS: &str = "berth.dev/shim.v1.RuntimeCommand";

/// Metadata of a call of `Exec` to our own shim: milliseconds after the start at which it kills the process' tree.
pub const EXEC_LIMIT: &str = "berth-exec-limit-ms";

/// In the environment of another's shim, and so of what it starts: the id that the shim was started for.
pub const SHIM_ID: &str = "BERTH_SHIM_ID";

/// A running shim.
#[derive(Debug, Clone)]
pub struct Shim(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    task: TaskClient,
    address: String,
    /// The shim's process, once it was asked for.
    pid: OnceLock<u32>,
    /// Ends of processes that the shim published as events.
    ended: broadcast::Sender<Ended>,
    /// Who holds the streams of a stranger's containers; our own shim does so itself.
    keeper: Option<keeper::Keeper>,
    _log: Option<log::LogTask>,
}

/// How a process of a container ended.
#[derive(Debug, Clone)]
struct Ended {
    id: String,
    exec_id: String,
    exit: Exit,
}

/// Ends that were published and not yet seen by all who wait; who falls behind has the answer to its call.
const ENDED_QUEUE: usize = 64;

/// How long a shim may take to show that it lives.
const ALIVE: Duration = Duration::from_secs(10);
/// The same for one that a server which was started again finds. All shims of a node are asked at once, on a machine that may be
/// starting everything else, too, and one that is given up loses its containers.
const FOUND_ALIVE: Duration = Duration::from_secs(60);
/// How long a shim may take for an ordinary call (a VM's boot included).
const CALL: Duration = Duration::from_secs(120);

impl Shim {
    /// Starts the shim of `id`, whose bundle (with `config.json`) exists. For a later container of a pod the shim
    /// may answer with the pod's; with our own that call can be spared by keeping the first one's handle.
    ///
    /// # Errors
    /// When it (or, beside a stranger's, the keeper of its streams) can't be started or reached.
    pub async fn launch(config: &ShimConfig, id: &str, bundle: &Path) -> Result<Self, ShimError> {
        let mut keeper = None;
        let mut log = None;
        if !config.own {
            log = Some(log::LogTask::create(id, bundle)?);
            keeper = Some(keeper::Keeper::start(config, id, bundle).await?);
        }
        let begun = async {
            let bootstrap = bootstrap::start(config, id, bundle).await?;
            bootstrap::save(bundle, &bootstrap)?;
            let task = TaskClient::connect(&bootstrap).await?;
            Ok((task, bootstrap.address))
        };
        match begun.await {
            Ok((task, address)) => Ok(Self::new(task, address, keeper, log)),
            Err(e) => {
                if let Some(keeper) = keeper {
                    keeper.end().await;
                }
                Err(e)
            }
        }
    }

    /// Finds the shim that was started for this bundle, after a restart of ours.
    ///
    /// # Errors
    /// When there was none or it doesn't answer: then [`cleanup`] ends what it left.
    pub async fn reconnect(config: &ShimConfig, bundle: &Path) -> Result<Self, ShimError> {
        // A stranger's that nobody listened to may be held up by its own log.
        let log = if config.own {
            None
        } else {
            log::LogTask::reopen(bundle)
        };
        let bootstrap = bootstrap::load(bundle)?;
        let task = TaskClient::connect(&bootstrap).await?;
        let id = bundle.file_name().unwrap_or_default().to_string_lossy();
        // A dying shim may still have accepted us; any answer at all shows life.
        match tokio::time::timeout(FOUND_ALIVE, shim_pid(&task, &id)).await {
            Err(_) => return Err(ShimError::Timeout(FOUND_ALIVE)),
            Ok(Err(e)) if e.is_disconnected() => return Err(e),
            Ok(_) => {}
        }
        let keeper = if config.own {
            None
        } else {
            Some(keeper::Keeper::find(config, &id, bundle).await?)
        };
        Ok(Self::new(task, bootstrap.address, keeper, log))
    }

    fn new(
        task: TaskClient,
        address: String,
        keeper: Option<keeper::Keeper>,
        log: Option<log::LogTask>,
    ) -> Self {
        Self(Arc::new(Inner {
            task,
            address,
            pid: OnceLock::new(),
            ended: broadcast::Sender::new(ENDED_QUEUE),
            keeper,
            _log: log,
        }))
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
        shim_pid(&self.0.task, id).await
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
        if let Some(keeper) = &self.0.keeper {
            keeper.take(create, &mut request).await?;
        } else {
            request.stdout = Output::log_uri(create.log.as_deref());
            if create.stdin {
                request.stdin = Input::stream_uri(create.stdin_once);
            }
        }
        let answer: Result<api::CreateTaskResponse, _> = self
            .0
            .task
            .call_traced("create task", "Create", &request, CALL)
            .await;
        if let (Err(_), Some(keeper)) = (&answer, &self.0.keeper) {
            keeper.release(&create.id).await;
        }
        answer.map(|answer| answer.pid)
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
        let answer: api::StartResponse = self
            .0
            .task
            .call_traced("start task", "Start", &request, CALL)
            .await?;
        Ok(answer.pid)
    }

    /// Waits until the container's first process has ended and what it wrote is in its log.
    ///
    /// # Errors
    /// When the container is unknown or the shim dies meanwhile.
    pub async fn wait(&self, id: &str) -> Result<Exit, ShimError> {
        let exit = self.wait_process(id, "").await?;
        if let Some(keeper) = &self.0.keeper {
            keeper.drain(id).await;
        }
        Ok(exit)
    }

    /// Takes up after [`Shim::reconnect`] what we did for a container: with our own shim nothing; with a stranger's the
    /// keeper is to hold its streams (as it does, if it lives), and what was being executed in it is ended in time.
    ///
    /// # Errors
    /// When the bundle has no note of its streams, or no keeper takes them.
    pub async fn adopt(&self, id: &str, bundle: &Path) -> Result<(), ShimError> {
        let Some(keeper) = &self.0.keeper else {
            return Ok(());
        };
        orphans::adopt(self, id, &keeper::streams_dir(bundle));
        if keeper.adopt(id, bundle).await? {
            // Our predecessor may not have come to it.
            let _ = self.close_process_stdin(id, "").await;
        }
        Ok(())
    }

    /// Waits for the shim's own answer to `Wait`, not for the event that tells of the end: a sandbox container's is given
    /// when the shim has cleaned up after the sandbox, and one that is told to shut down earlier leaves that half done.
    ///
    /// # Errors
    /// When the container is unknown or the shim dies meanwhile.
    pub async fn wait_answered(&self, id: &str) -> Result<Exit, ShimError> {
        self.call_wait(id, "").await
    }

    async fn call_wait(&self, id: &str, exec_id: &str) -> Result<Exit, ShimError> {
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

    async fn wait_process(&self, id: &str, exec_id: &str) -> Result<Exit, ShimError> {
        let mut ended = self.0.ended.subscribe();
        let answer = self.call_wait(id, exec_id);
        let mut answer = std::pin::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                // The sender is our own, so the channel does not close.
                event = ended.recv() => {
                    if let Ok(ended) = event
                        && ended.id == id
                        && ended.exec_id == exec_id
                    {
                        return Ok(ended.exit);
                    }
                }
            }
        }
    }

    /// Whether an event was sent by this shim: by its process, or by one that it started. `id` is one of its containers,
    /// by which it is asked for its PID the first time.
    ///
    /// # Errors
    /// When the shim doesn't answer.
    pub async fn is_publisher(&self, id: &str, publisher: Publisher) -> Result<bool, ShimError> {
        let pid = match self.0.pid.get() {
            Some(pid) => *pid,
            None => {
                let asked = tokio::time::timeout(ALIVE, shim_pid(&self.0.task, id)).await;
                let pid = asked.map_err(|_| ShimError::Timeout(ALIVE))??;
                *self.0.pid.get_or_init(|| pid)
            }
        };
        Ok(pid != 0 && (publisher.pid == pid || publisher.parent == pid))
    }

    /// Takes note of an end that the shim has published: whoever waits for that process has waited.
    pub fn note_exit(&self, id: &str, exec_id: &str, exit: Exit) {
        // Nobody waiting is fine.
        let _ = self.0.ended.send(Ended {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            exit,
        });
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
        // With an exec's `all` other people's shims do as they like: Kata's kills the whole container.
        let all = all && (exec_id.is_empty() || self.0.keeper.is_none());
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
        if let Some(keeper) = &self.0.keeper {
            keeper.release(id).await;
        }
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
        let hello = Hello::ReopenLog { id: id.to_owned() };
        self.hello(&hello).await.map(drop)
    }

    /// Opens a connection to whoever holds the streams.
    async fn hello(&self, hello: &Hello) -> Result<session::Opened, ShimError> {
        match &self.0.keeper {
            Some(keeper) => keeper.ask(hello).await,
            None => session::hello(&self.0.address, hello).await,
        }
    }

    /// Asks the shim (and its keeper) to end once no container is left; with `now` at once. Its containers are not
    /// stopped by it.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub async fn shutdown(&self, id: &str, now: bool) -> Result<(), ShimError> {
        let request = api::ShutdownRequest {
            id: id.to_owned(),
            now,
            ..Default::default()
        };
        let done = match self.0.task.call_empty("Shutdown", &request, CALL).await {
            Err(ShimError::Disconnected { .. }) => Ok(()),
            other => other,
        };
        if let Some(keeper) = &self.0.keeper
            && (now || keeper.is_idle())
        {
            keeper.end().await;
        }
        done
    }
}

async fn shim_pid(task: &TaskClient, id: &str) -> Result<u32, ShimError> {
    let request = api::ConnectRequest {
        id: id.to_owned(),
        ..Default::default()
    };
    let answer: api::ConnectResponse = task.call("Connect", &request, CALL).await?;
    Ok(answer.shim_pid)
}

/// Ends what a dead shim left of `id`: runs the shim's `delete`, which kills and deletes the container.
///
/// # Errors
/// When the shim's binary fails, or doesn't end in time: then it is killed.
pub async fn cleanup(config: &ShimConfig, id: &str, bundle: &Path) -> Result<Exit, ShimError> {
    bootstrap::delete(config, id, bundle).await
}

/// Ends the keeper of a stranger's pod whose shim is gone. Nothing to do where there is none.
pub async fn end_keeper(bundle: &Path) {
    keeper::end(bundle).await;
}

/// Removes the sockets of a pod's shim and of the keeper beside it, where these have died and so did not do it themselves.
/// `bundle` is the pod's. Blocks.
pub fn remove_dead_sockets(config: &ShimConfig, id: &str, bundle: &Path) {
    sockets::remove_dead(config, id, bundle);
}

pub use sockets::is_dead as is_dead_socket;

/// How the first process of a bundle's container ended, as our shim noted it there; `None` while it runs.
#[must_use]
pub fn recorded_exit(bundle: &Path) -> Option<Exit> {
    crate::server::persist::load_exit(bundle)
}

/// Forgets what [`recorded_exit`] would say, of a container that is to be created anew.
///
/// # Errors
/// When the note can't be removed.
pub fn forget_exit(bundle: &Path) -> std::io::Result<()> {
    crate::server::persist::forget_exit(bundle)
}

/// Whether the kernel killed a process of the bundle's container for want of memory, as our shim noted it at the exit.
#[must_use]
pub fn recorded_oom_kill(bundle: &Path) -> bool {
    crate::server::persist::load_oom_killed(bundle)
}
