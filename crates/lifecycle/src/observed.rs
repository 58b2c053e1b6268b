//! What the CRI runtime says about one pod, in the few facts that decisions need.

use jiff::Timestamp;

/// State of a container as CRI reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Created, never started.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Exited,
    /// The runtime lost track of it.
    Unknown,
}

/// One container instance (one attempt).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedContainer {
    /// The runtime's id, without a scheme.
    pub id: String,
    /// Name in the pod's spec.
    pub name: String,
    /// The sandbox it was created in.
    pub sandbox_id: String,
    /// How many instances came before it: its restart count.
    pub attempt: u32,
    /// Its state.
    pub state: RunState,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// When its process ended.
    pub finished_at: Option<Timestamp>,
    /// Exit code once exited.
    pub exit_code: i32,
    /// The runtime's reason, such as `OOMKilled`; may be empty.
    pub reason: String,
    /// The runtime's or the termination log's message; may be empty.
    pub message: String,
    /// The image as the user named it.
    pub image: String,
    /// The image as the runtime resolved it (a digest or an id).
    pub image_ref: String,
    /// Who its first process runs as, where the runtime says it.
    pub user: Option<ObservedUser>,
    /// The signal that ends it, such as `SIGTERM`, where the runtime says it.
    pub stop_signal: Option<String>,
}

/// A process's ids, as CRI's LinuxContainerUser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedUser {
    /// User id.
    pub uid: i64,
    /// Primary group id.
    pub gid: i64,
    /// All its groups.
    pub supplemental_groups: Vec<i64>,
}

/// One sandbox instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedSandbox {
    /// The runtime's id.
    pub id: String,
    /// How many sandboxes came before it.
    pub attempt: u32,
    /// It can take containers.
    pub ready: bool,
    /// Its addresses, the main one first.
    pub ips: Vec<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// The handler it was run with.
    pub runtime_handler: String,
}

/// Everything the runtime knows of one pod, newest first in both lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Sandboxes by attempt, the current one first.
    pub sandboxes: Vec<ObservedSandbox>,
    /// Containers by attempt and creation.
    pub containers: Vec<ObservedContainer>,
}

impl Observed {
    /// Puts both lists newest first, as the other methods expect.
    pub fn sort(&mut self) {
        self.sandboxes
            .sort_by_key(|s| std::cmp::Reverse((s.attempt, s.created_at)));
        self.containers
            .sort_by_key(|c| std::cmp::Reverse((c.attempt, c.created_at)));
    }

    /// The current sandbox.
    pub fn sandbox(&self) -> Option<&ObservedSandbox> {
        self.sandboxes.first()
    }

    /// The newest instance of a container, in whatever sandbox.
    pub fn latest(&self, name: &str) -> Option<&ObservedContainer> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The instance before the newest.
    pub fn previous(&self, name: &str) -> Option<&ObservedContainer> {
        self.containers.iter().filter(|c| c.name == name).nth(1)
    }

    /// The newest instance of a container in one sandbox.
    pub fn latest_in(&self, name: &str, sandbox: &str) -> Option<&ObservedContainer> {
        self.containers
            .iter()
            .find(|c| c.name == name && c.sandbox_id == sandbox)
    }

    /// A container or a sandbox may still have processes.
    pub fn anything_running(&self) -> bool {
        self.sandboxes.iter().any(|s| s.ready)
            || self
                .containers
                .iter()
                .any(|c| matches!(c.state, RunState::Running | RunState::Unknown))
    }
}
