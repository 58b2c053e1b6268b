//! Containers of pods, each run by its pod's shim.

mod checkpoint;
mod create;
mod declared;
mod exec;
mod exit;
mod logs;
mod lost;
mod oom;
mod remove;
mod rootfs;
mod shown;
mod signal;
mod spec;
mod start;
mod status;
mod stop;
mod update;
mod user;
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use berth_tree::Meter;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::engine::Engine;
use crate::error::CriError;
use crate::record::{self, ContainerPhase, ContainerRecord};
use crate::stats::{Asked, Rate};

pub(crate) use checkpoint::checkpoint;
pub(crate) use create::{create, discard};
pub(crate) use declared::folder as declared_volumes;
pub(crate) use exec::{attach, exec, exec_sync};
pub(crate) use exit::{ended, find_lost, release, watch_exit};
pub(crate) use logs::reopen_log;
pub(crate) use remove::remove;
pub(crate) use rootfs::bind as bind_rootfs;
pub(crate) use start::{never_started, not_started, start};
pub(crate) use status::{list, status, status_of};
pub(crate) use stop::stop;
pub(crate) use update::{merge, update};

pub(crate) struct Container {
    pub(crate) id: String,
    dir: PathBuf,
    record: RwLock<Arc<ContainerRecord>>,
    /// Held while the container is started or removed.
    pub(crate) busy: tokio::sync::Mutex<()>,
    /// Whether the shim has a task of that name: from create to delete.
    task: watch::Sender<Task>,
    pub(crate) cpu: Rate,
    /// What its shim has said of it.
    pub(crate) asked: Asked,
    /// How often its shim has published, to this server, that memory ran out.
    ooms: AtomicU64,
    /// Counts the volumes that its image declares.
    pub(crate) volumes: Arc<Mutex<Meter>>,
}

/// What the shim holds of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// Nothing: not started, or deleted.
    None,
    /// A process that runs or is about to.
    Live,
    /// A process that has ended and is being deleted.
    Ended,
}

impl Container {
    pub(crate) fn new(engine: &Engine, record: ContainerRecord) -> Self {
        Self {
            id: record.id.clone(),
            dir: engine.layout.container_record(&record.id),
            record: RwLock::new(Arc::new(record)),
            busy: tokio::sync::Mutex::default(),
            task: watch::Sender::new(Task::None),
            cpu: Rate::default(),
            asked: Asked::default(),
            ooms: AtomicU64::default(),
            volumes: Arc::default(),
        }
    }

    /// As it is now; a later change makes another one.
    pub(crate) fn record(&self) -> Arc<ContainerRecord> {
        Arc::clone(&self.record.read())
    }

    pub(crate) fn phase(&self) -> ContainerPhase {
        self.record.read().phase.clone()
    }

    /// Changes the record in memory and on disk.
    pub(crate) fn update(&self, change: impl FnOnce(&mut ContainerRecord)) -> Result<(), CriError> {
        let mut guard = self.record.write();
        change(Arc::make_mut(&mut guard));
        record::save(&self.dir, &**guard)
    }

    /// Takes note that memory ran out in it; false when that is noted already.
    pub(crate) fn note_oom_kill(&self) -> Result<bool, CriError> {
        self.ooms.fetch_add(1, Ordering::Relaxed);
        let mut guard = self.record.write();
        let news = exit::note_oom(Arc::make_mut(&mut guard));
        if news {
            record::save(&self.dir, &**guard)?;
        }
        Ok(news)
    }

    pub(crate) fn oom_events(&self) -> u64 {
        self.ooms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_task(&self, task: Task) {
        self.task.send_replace(task);
    }

    /// Whether a task waits for its end or deletes it.
    pub(crate) fn is_watched(&self) -> bool {
        *self.task.borrow() != Task::None
    }

    /// Waits until the process has ended.
    pub(crate) async fn stopped(&self) {
        // The sender lives in self, so the channel cannot close meanwhile.
        let _ = self
            .task
            .subscribe()
            .wait_for(|task| *task != Task::Live)
            .await;
    }

    /// Waits until the shim has nothing of it any more.
    pub(crate) async fn deleted(&self) {
        let _ = self
            .task
            .subscribe()
            .wait_for(|task| *task == Task::None)
            .await;
    }

    /// A running container's sandbox, or why nothing can be done in it.
    pub(crate) fn running(
        &self,
        engine: &Engine,
    ) -> Result<Arc<crate::sandbox::Sandbox>, CriError> {
        match self.phase() {
            ContainerPhase::Running => engine.sandboxes.get(&self.record.read().sandbox_id),
            ContainerPhase::Created | ContainerPhase::Starting => Err(CriError::State(format!(
                "container {} is not running: it was never started",
                self.id
            ))),
            ContainerPhase::Exited(ended) => Err(CriError::State(format!(
                "container {} is not running: it exited with code {}",
                self.id, ended.code
            ))),
        }
    }
}

/// Whose container it is.
pub(crate) fn pod_of(engine: &Engine, id: &str) -> Option<berth_cri_api::v1::PodSandboxMetadata> {
    let container = engine.containers.get(id).ok()?;
    crate::sandbox::pod_of(engine, &container.record().sandbox_id)
}

/// The containers of a sandbox, oldest first.
pub(crate) fn of_sandbox(engine: &Engine, sandbox_id: &str) -> Vec<Arc<Container>> {
    let mut containers: Vec<_> = engine
        .containers
        .all()
        .into_iter()
        .filter(|container| container.record.read().sandbox_id == sandbox_id)
        .collect();
    containers.sort_by_key(|container| container.record.read().created_at);
    containers
}

/// The name that only one container may have at a time.
pub(crate) fn name(
    config: &berth_cri_api::v1::ContainerConfig,
    sandbox: &berth_cri_api::v1::PodSandboxConfig,
) -> String {
    let metadata = config.metadata.clone().unwrap_or_default();
    let pod = sandbox.metadata.clone().unwrap_or_default();
    format!(
        "{}_{}_{}_{}_{}",
        metadata.name, pod.name, pod.namespace, pod.uid, metadata.attempt
    )
}
