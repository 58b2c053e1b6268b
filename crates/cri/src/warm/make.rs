//! Boots one that no pod has yet.

use std::path::Path;
use std::sync::Arc;

use berth_cri_api::v1::{
    LinuxContainerResources, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
};

use super::pool::{Size, Stage};
use crate::engine::{Shared, new_id};
use crate::error::CriError;
use crate::handlers::Inputs;
use crate::record::{SandboxRecord, Warm};
use crate::runtime::PodRuntime;
use crate::sandbox::{self, Sandbox};

/// The cgroup in which sandboxes wait, outside of the pods'.
pub(super) const CGROUP: &str = "/berth-waiting";

/// Makes one and has it wait. After an error nothing of it is left.
pub(super) async fn make(
    engine: &Shared,
    handler: &str,
    runtime: PodRuntime,
    inputs: Inputs,
    size: Size,
) -> Result<(), CriError> {
    let id = new_id();
    let mut record = sandbox::new_record(&id, handler.to_owned(), runtime, config(&id, size));
    record.warm = Warm::Making;
    record.booted_from = inputs;
    // Known before it is made, so that a killed server's is found.
    record.waited_in = record.pause.then(|| Path::new(CGROUP).join(&id));
    let sandbox = Arc::new(Sandbox::new(engine, record));
    engine
        .warm
        .add(&id, Arc::clone(&sandbox), handler, size, Stage::Making);
    let booted = async {
        let (shim, pause_pid) = sandbox::boot(engine, &sandbox).await?;
        sandbox.update(|record| {
            record.pause_pid = pause_pid;
            record.warm = Warm::Waiting;
        })?;
        Ok(shim)
    };
    match booted.await {
        Ok(shim) => {
            engine.warm.ready(&id);
            super::watch::watch(engine, &sandbox, shim);
            Ok(())
        }
        Err(error) => {
            sandbox::undo(engine, &sandbox, &error).await;
            engine.warm.release(&id);
            Err(error)
        }
    }
}

/// Removes the cgroup in which sandboxes have waited, where nothing is in it: another server on this machine may have some.
pub(super) fn remove_parent() {
    let cgroups = berth_oci::cgroup::Cgroups::detect();
    let path = CGROUP.trim_start_matches('/');
    for mount in cgroups.mounts.values().chain(&cgroups.unified) {
        let _ = std::fs::remove_dir(mount.join(path));
    }
}

/// What stands in for its pod until there is one.
fn config(id: &str, size: Size) -> PodSandboxConfig {
    let short = id.get(..12).unwrap_or(id);
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: format!("waiting-{short}"),
            namespace: String::new(),
            uid: id.to_owned(),
            attempt: 0,
        }),
        hostname: format!("waiting-{short}"),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: CGROUP.to_owned(),
            resources: (size != Size::default()).then(|| LinuxContainerResources {
                memory_limit_in_bytes: size.memory,
                cpu_period: size.cpu_period,
                cpu_quota: size.cpu_quota,
                ..LinuxContainerResources::default()
            }),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(NamespaceOption {
                    pid: NamespaceMode::Container.into(),
                    ..NamespaceOption::default()
                }),
                ..LinuxSandboxSecurityContext::default()
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

/// The size that one was made with.
pub(super) fn size_of(record: &SandboxRecord) -> Size {
    super::fits::size(&record.runtime, record.config.0.linux.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostname_fits_and_says_what_it_is() {
        let config = config(&new_id(), Size::default());
        assert!(config.hostname.starts_with("waiting-") && config.hostname.len() <= 63);
        assert_eq!(config.linux.unwrap().resources, None);
    }
}
