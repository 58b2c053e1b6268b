//! The way of a sandbox that waited for its pod into the pod's cgroup.

use std::path::Path;
use std::sync::Arc;

use super::Sandbox;
use crate::error::CriError;

impl Sandbox {
    /// Moves what is still where the sandbox waited into its pod's cgroup, of which the spec in `bundle` tells. Nothing to do
    /// for one that never waited, or whose runtime has no process of its own for it.
    ///
    /// The kernel may take some 20 ms for the first move (it waits for all CPUs to notice), so taking a sandbox does not
    /// wait for it. Containers do: none begins before the pod's limits hold. Moved memory stays charged to where it was
    /// used.
    ///
    /// # Errors
    /// When the kernel refuses a limit or a process.
    pub(crate) async fn place(self: &Arc<Self>, bundle: &Path) -> Result<(), CriError> {
        let _alone = self.placing.lock().await;
        let record = self.record();
        let Some(from) = record.waited_in.clone() else {
            return Ok(());
        };
        let (sandbox, bundle) = (Arc::clone(self), bundle.to_owned());
        tokio::task::spawn_blocking(move || {
            let path = bundle.join("config.json");
            let text = std::fs::read(&path).map_err(CriError::io("read", &path))?;
            let spec: berth_oci::Spec = serde_json::from_slice(&text)?;
            let linux = spec.linux().clone().unwrap_or_default();
            let to = linux.cgroups_path().clone().unwrap_or_default();
            let mut limits = linux.resources().clone().unwrap_or_default();
            // What gVisor or a virtual machine opens on the host is its own matter.
            limits.set_devices(None);
            let limits = (!record.placed).then_some(&limits);
            berth_runtime::relocate(&record.id, &from, &to, limits).map_err(|error| {
                CriError::State(format!(
                    "pod sandbox {} waited for its pod and cannot be moved into the pod's cgroup: {error}",
                    record.id
                ))
            })?;
            if record.placed {
                return Ok(());
            }
            sandbox.update(|record| record.placed = true)
        })
        .await?
    }
}
