//! `UpdatePodSandboxResources`.

use std::sync::Arc;

use berth_cri_api::v1::UpdatePodSandboxResourcesRequest;

use super::{gvisor, spec};
use crate::container::merge;
use crate::engine::Shared;
use crate::error::CriError;
use crate::record::Phase;

/// Notes a pod's new limits. The pod's cgroup is the kubelet's, which has set it by now; only gVisor's sandbox
/// container, which holds the whole pod, has limits that follow the pod's. (A virtual machine grows with its containers.)
pub(crate) async fn update(
    engine: &Shared,
    request: UpdatePodSandboxResourcesRequest,
) -> Result<(), CriError> {
    let sandbox = engine.sandboxes.get(&request.pod_sandbox_id)?;
    let _closed = sandbox.open.write().await;
    let mut record = Arc::unwrap_or_clone(sandbox.record());
    if record.phase != Phase::Ready {
        return Err(CriError::State(format!(
            "pod sandbox {} is not ready",
            sandbox.id
        )));
    }
    sandbox.place(&engine.layout.bundle(&sandbox.id)).await?;
    let linux = record.config.0.linux.get_or_insert_default();
    for (old, new) in [
        (&mut linux.resources, request.resources),
        (&mut linux.overhead, request.overhead),
    ] {
        if let Some(new) = new {
            *old = Some(merge(old.take().unwrap_or_default(), new));
        }
    }
    if record.pause && record.runtime.gvisor().is_some() {
        let limits = spec::pause_spec(engine, &record)?
            .linux()
            .as_ref()
            .and_then(|linux| linux.resources().clone());
        if let Some(mut limits) = limits {
            limits.set_devices(None);
            gvisor::apply_limits(engine, &record, &limits)?;
        }
    }
    sandbox.update(|kept| kept.config = record.config)
}
