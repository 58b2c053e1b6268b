//! `UpdateContainerResources`.

use std::sync::Arc;

use berth_cri_api::v1::{LinuxContainerResources, UpdateContainerResourcesRequest};
use berth_oci::User;
use berth_shim::private;

use super::spec;
use crate::engine::Shared;
use crate::error::CriError;
use crate::record::ContainerPhase;
use crate::sandbox;

/// Changes a container's limits: in the kernel when it runs, in its spec when it will.
pub(crate) async fn update(
    engine: &Shared,
    request: UpdateContainerResourcesRequest,
) -> Result<(), CriError> {
    let container = engine.containers.get(&request.container_id)?;
    let _busy = container.busy.lock().await;
    // It may have been removed meanwhile.
    engine.containers.get(&container.id)?;
    let Some(change) = request.linux else {
        return Ok(());
    };
    let mut record = Arc::unwrap_or_clone(container.record());
    let sandbox = engine.sandboxes.get(&record.sandbox_id)?;
    let linux = record.config.0.linux.get_or_insert_default();
    let resources = merge(linux.resources.take().unwrap_or_default(), change);
    linux.resources = Some(resources);
    let path = engine.layout.bundle(&container.id).join("config.json");
    let running = match container.phase() {
        ContainerPhase::Exited(_) => {
            return Err(CriError::State(format!(
                "container {} has ended",
                container.id
            )));
        }
        ContainerPhase::Running => true,
        ContainerPhase::Created | ContainerPhase::Starting => false,
    };
    // Only the limits are taken from this spec.
    let pod = sandbox.record();
    let built = spec::limits(engine, &pod, &record, User::default())?;
    let gvisor = pod.runtime.gvisor().is_some();
    if running && !gvisor {
        sandbox
            .shim()?
            .update(&container.id, &built)
            .await
            .map_err(CriError::shim("update container", &container.id))?;
        sandbox.place(&engine.layout.bundle(&sandbox.id)).await?;
    }
    if running && gvisor {
        // There is no limit but the pod's.
        let old = container.record().config.clone();
        container.update(|kept| kept.config = record.config.clone())?;
        if let Err(error) = sandbox::limit(engine, &sandbox) {
            container.update(|kept| kept.config = old)?;
            return Err(error);
        }
    }
    let text = std::fs::read(&path).map_err(CriError::io("read", &path))?;
    let mut written: berth_oci::Spec = serde_json::from_slice(&text)?;
    if let Some(linux) = written.linux_mut() {
        let devices = linux
            .resources()
            .as_ref()
            .and_then(|old| old.devices().clone());
        let mut new = built;
        new.set_devices(devices);
        linux.set_resources(Some(new));
    }
    private::write(&path, &serde_json::to_vec(&written)?).map_err(CriError::io("write", &path))?;
    container.update(|kept| kept.config = record.config)
}

/// What the request leaves at zero stays as it was.
pub(crate) fn merge(
    mut old: LinuxContainerResources,
    new: LinuxContainerResources,
) -> LinuxContainerResources {
    let number = |old: &mut i64, new: i64| {
        if new != 0 {
            *old = new;
        }
    };
    number(&mut old.cpu_period, new.cpu_period);
    number(&mut old.cpu_quota, new.cpu_quota);
    number(&mut old.cpu_shares, new.cpu_shares);
    number(&mut old.memory_limit_in_bytes, new.memory_limit_in_bytes);
    number(
        &mut old.memory_swap_limit_in_bytes,
        new.memory_swap_limit_in_bytes,
    );
    number(&mut old.oom_score_adj, new.oom_score_adj);
    for (old, new) in [
        (&mut old.cpuset_cpus, new.cpuset_cpus),
        (&mut old.cpuset_mems, new.cpuset_mems),
    ] {
        if !new.is_empty() {
            *old = new;
        }
    }
    if !new.hugepage_limits.is_empty() {
        old.hugepage_limits = new.hugepage_limits;
    }
    old.unified.extend(new.unified);
    old
}
