//! Pod sandboxes: namespaces, network, and the shim that runs the pod's containers.

mod cgroup;
mod files;
mod gvisor;
mod leftovers;
mod lost;
mod release;
mod run;
mod sandboxer;
mod spec;
mod status;
mod update;
mod users;

use std::path::PathBuf;
use std::sync::Arc;

use berth_shim::client::Shim;
use parking_lot::RwLock;

use crate::engine::{Engine, Shared};
use crate::error::{CriError, chain};
use crate::record::{self, Phase, SandboxRecord};
use crate::stats::{Asked, Rate};

pub(crate) use files::{unmount, write as write_files};
pub(crate) use gvisor::{
    empty as gvisor_empty, limit, memory_used, proc_net, set_sysctls, sysctls_inside, try_limit,
};
pub(crate) use leftovers::{ProcessId, ShimProcesses, end_early as end_leftovers, note_processes};
pub(crate) use lost::{
    end_calls, end_of_shim, end_plugins, end_unfinished, end_without_shim, lose, note_lost, watch,
};
pub(crate) use release::{discard, give_back, remove, stop};
pub(crate) use run::{
    Admitted, admit, announce, boot, capabilities, mark_port, new_record, run, undo,
};
pub(crate) use spec::{
    host_ipc, host_network, hostname, may_set_hostname, oci_sandbox, options, pause_spec,
    privileged, shares_pids, sysctls,
};
pub(crate) use status::{list, status, status_of};
pub(crate) use update::update;
pub(crate) use users::{Mapped, root_of, wanted as wanted_users};

pub(crate) struct Sandbox {
    pub(crate) id: String,
    dir: PathBuf,
    record: RwLock<Arc<SandboxRecord>>,
    shim: RwLock<Option<Shim>>,
    /// Shared by what makes or starts containers in the sandbox, taken alone by what stops or removes it.
    pub(crate) open: tokio::sync::RwLock<()>,
    /// Held while what a lost shim has left is ended: by its `delete`, then by us.
    pub(crate) ending: tokio::sync::Mutex<()>,
    /// Held while processes of one that waited are moved into its pod's cgroup.
    placing: tokio::sync::Mutex<()>,
    pub(crate) cpu: Rate,
    /// What its shim has said of the sandbox container.
    pub(crate) asked: Asked,
}

impl Sandbox {
    pub(crate) fn new(engine: &Engine, record: SandboxRecord) -> Self {
        Self {
            dir: engine.layout.sandbox_record(&record.id),
            id: record.id.clone(),
            record: RwLock::new(Arc::new(record)),
            shim: RwLock::default(),
            open: tokio::sync::RwLock::default(),
            ending: tokio::sync::Mutex::default(),
            placing: tokio::sync::Mutex::default(),
            cpu: Rate::default(),
            asked: Asked::default(),
        }
    }

    /// As it is now; a later change makes another one.
    pub(crate) fn record(&self) -> Arc<SandboxRecord> {
        Arc::clone(&self.record.read())
    }

    pub(crate) fn phase(&self) -> Phase {
        self.record.read().phase
    }

    /// Changes the record in memory and on disk.
    pub(crate) fn update(&self, change: impl FnOnce(&mut SandboxRecord)) -> Result<(), CriError> {
        let mut guard = self.record.write();
        change(Arc::make_mut(&mut guard));
        record::save(&self.dir, &**guard)
    }

    pub(crate) fn shim(&self) -> Result<Shim, CriError> {
        self.shim
            .read()
            .clone()
            .ok_or_else(|| CriError::State(format!("the shim of pod sandbox {} is gone", self.id)))
    }

    pub(crate) fn set_shim(&self, shim: Option<Shim>) {
        *self.shim.write() = shim;
    }
}

/// Whose sandbox it is.
pub(crate) fn pod_of(engine: &Engine, id: &str) -> Option<berth_cri_api::v1::PodSandboxMetadata> {
    let sandbox = engine.sandboxes.get(id).ok()?;
    sandbox.record().config.0.metadata.clone()
}

/// The name that only one sandbox may have at a time.
pub(crate) fn name(config: &berth_cri_api::v1::PodSandboxConfig) -> String {
    let metadata = config.metadata.clone().unwrap_or_default();
    format!(
        "{}_{}_{}_{}",
        metadata.name, metadata.namespace, metadata.uid, metadata.attempt
    )
}

/// Has follow into the pod's cgroup, in the background, what a runtime has put where the sandbox waited: a gofer beside a
/// new container, or a guest's processors, which Kata (`sandbox_cgroup_only = false`) puts back into the cgroup that it was
/// booted with whenever a container comes, changes or goes. There they would be outside of the pod's limits.
pub(crate) fn follow(engine: &Shared, sandbox: &Arc<Sandbox>) {
    if sandbox.record().waited_in.is_none() {
        return;
    }
    let (sandbox, bundle) = (Arc::clone(sandbox), engine.layout.bundle(&sandbox.id));
    engine.tasks.spawn("move into a pod's cgroup", async move {
        // Whoever starts a container tries again, and is told.
        if let Err(error) = sandbox.place(&bundle).await {
            tracing::warn!(id = sandbox.id, error = chain(&error), "not moved");
        }
    });
}
