//! Sandboxes that a shim makes by containerd's sandbox service, where its handler says `sandboxer = "shim"`: there is no
//! sandbox container, and the shim gets the pod's configuration and its network namespace.

use std::time::Duration;

use berth_shim::client::{SandboxRequest, Shim, ShimError};
use prost::Message;

use super::{Sandbox, lost, spec};
use crate::engine::Engine;
use crate::error::CriError;
use crate::record::SandboxRecord;

/// How long a sandbox may take to end by itself. All that was in it has ended by then.
const STOP: Duration = Duration::from_secs(10);

/// Creates and starts the sandbox of a shim that runs, in a network that is whole; gives the PID of its process.
pub(super) async fn start(
    engine: &Engine,
    record: &SandboxRecord,
    shim: &Shim,
) -> Result<u32, CriError> {
    let failed = |action| CriError::shim(action, &record.id);
    shim.create_sandbox(&request(engine, record))
        .await
        .map_err(failed("create pod sandbox"))?;
    let (os, architecture) = match shim.sandbox_platform(&record.id).await {
        // Optional: who says nothing runs what the host runs.
        Err(ShimError::Unimplemented(_) | ShimError::NoSandboxService(_)) => Default::default(),
        platform => platform.map_err(failed("ask for the platform of pod sandbox"))?,
    };
    let (of_host, name) = match std::env::consts::ARCH {
        "x86_64" => ("x86_64", "amd64"),
        "aarch64" => ("aarch64", "arm64"),
        other => (other, other),
    };
    let fits = ["", name, of_host].contains(&architecture.as_str());
    if !["", "linux"].contains(&os.as_str()) || !fits {
        return Err(CriError::Unsupported(format!(
            "the shim of runtime handler {:?} runs containers for {os}/{architecture}, and images here are for \
             linux/{name}",
            record.runtime.handler
        )));
    }
    shim.start_sandbox(&record.id)
        .await
        .map_err(failed("start pod sandbox"))
}

fn request(engine: &Engine, record: &SandboxRecord) -> SandboxRequest {
    let mut config = record.config.0.clone();
    // As on a sandbox container, also in here: shims size the virtual machine by them, and what the pod's author asks of
    // it is the handler's to let through.
    config.annotations = berth_oci::sandbox_annotations(&spec::oci_sandbox(engine, record));
    SandboxRequest {
        id: record.id.clone(),
        bundle: engine.layout.bundle(&record.id),
        netns: (!spec::host_network(&config)).then(|| engine.layout.pod(&record.id).join("net")),
        annotations: config.annotations.clone(),
        config: config.encode_to_vec(),
    }
}

/// Stops the sandbox and ends its shim. Gone already is as good.
pub(super) async fn stop(engine: &Engine, sandbox: &Sandbox, shim: &Shim) {
    let stopped = match shim.stop_sandbox(&sandbox.id, STOP).await {
        Ok(()) => shim.shutdown_sandbox(&sandbox.id).await,
        Err(error) => Err(error),
    };
    match stopped {
        Ok(()) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) if error.is_disconnected() => {
            lost::note_lost(sandbox);
            let _alone = sandbox.ending.lock().await;
            lost::end_pause(engine, &sandbox.record()).await;
        }
        Err(error) => {
            tracing::warn!(id = sandbox.id, %error, "the shim could not stop the pod sandbox")
        }
    }
}
