//! containerd's sandbox service (`containerd.runtime.sandbox.v1.Sandbox`), which some shims have beside the task service:
//! the sandbox is made by calls of its own, and not by a container in it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use containerd_shim_protos::sandbox_api as api;
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};

use super::{CALL, Exit, Shim, ShimError, task};

const SERVICE: &str = "containerd.runtime.sandbox.v1.Sandbox";
/// The type of a [`SandboxRequest`]'s `config`, by the name that the CRI gives it.
const POD_SANDBOX_CONFIG: &str = "runtime.v1.PodSandboxConfig";
/// The state of a sandbox that runs.
const READY: &str = "SANDBOX_READY";

/// What [`Shim::create_sandbox`] needs.
#[derive(Debug, Clone)]
pub struct SandboxRequest {
    /// The sandbox's id, for which the shim was started.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its network namespace; `None` for the host's.
    pub netns: Option<PathBuf>,
    /// The CRI's `PodSandboxConfig`, encoded.
    pub config: Vec<u8>,
    /// Annotations for the shim.
    pub annotations: HashMap<String, String>,
}

impl Shim {
    /// Creates the sandbox.
    ///
    /// # Errors
    /// [`ShimError::NoSandboxService`], or the shim's own words when it refuses.
    pub async fn create_sandbox(&self, sandbox: &SandboxRequest) -> Result<(), ShimError> {
        let netns = sandbox.netns.as_deref();
        let request = api::CreateSandboxRequest {
            sandbox_id: sandbox.id.clone(),
            bundle_path: sandbox.bundle.to_string_lossy().into_owned(),
            options: MessageField::some(Any {
                type_url: POD_SANDBOX_CONFIG.to_owned(),
                value: sandbox.config.clone(),
                ..Default::default()
            }),
            netns_path: netns.map_or_else(String::new, |path| path.to_string_lossy().into_owned()),
            annotations: sandbox.annotations.clone(),
            ..Default::default()
        };
        let answer = self.call_sandbox("CreateSandbox", &request, CALL).await;
        answer.map(|_: api::CreateSandboxResponse| ())
    }

    /// Starts it (boots a virtual machine); gives the PID of its process on the host.
    ///
    /// # Errors
    /// The shim's own words when it can't.
    pub async fn start_sandbox(&self, id: &str) -> Result<u32, ShimError> {
        let request = api::StartSandboxRequest {
            sandbox_id: id.to_owned(),
            ..Default::default()
        };
        let answer: api::StartSandboxResponse =
            self.call_sandbox("StartSandbox", &request, CALL).await?;
        Ok(answer.pid)
    }

    /// The operating system and the architecture of its containers; empty ones are the host's.
    ///
    /// # Errors
    /// When the shim doesn't tell.
    pub async fn sandbox_platform(&self, id: &str) -> Result<(String, String), ShimError> {
        let request = api::PlatformRequest {
            sandbox_id: id.to_owned(),
            ..Default::default()
        };
        let answer: api::PlatformResponse = self.call_sandbox("Platform", &request, CALL).await?;
        let platform = answer.platform.into_option().unwrap_or_default();
        Ok((platform.os, platform.architecture))
    }

    /// Waits until the sandbox has ended.
    ///
    /// # Errors
    /// When it is unknown or the shim dies meanwhile.
    pub async fn wait_sandbox(&self, id: &str) -> Result<Exit, ShimError> {
        let request = api::WaitSandboxRequest {
            sandbox_id: id.to_owned(),
            ..Default::default()
        };
        let answer: api::WaitSandboxResponse = self
            .call_sandbox("WaitSandbox", &request, Duration::ZERO)
            .await?;
        Ok(Exit {
            code: answer.exit_status,
            at: task::time(answer.exited_at.as_ref()),
        })
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// When the shim doesn't know it.
    pub async fn is_sandbox_ready(&self, id: &str) -> Result<bool, ShimError> {
        let request = api::SandboxStatusRequest {
            sandbox_id: id.to_owned(),
            ..Default::default()
        };
        let answer: api::SandboxStatusResponse =
            self.call_sandbox("SandboxStatus", &request, CALL).await?;
        Ok(answer.state == READY)
    }

    /// Stops it; after `timeout` by force.
    ///
    /// # Errors
    /// The shim's own words when it can't.
    pub async fn stop_sandbox(&self, id: &str, timeout: Duration) -> Result<(), ShimError> {
        let request = api::StopSandboxRequest {
            sandbox_id: id.to_owned(),
            timeout_secs: u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX),
            ..Default::default()
        };
        let answer = self.call_sandbox("StopSandbox", &request, CALL).await;
        answer.map(|_: api::StopSandboxResponse| ())
    }

    /// Removes what is left of a stopped sandbox, and ends the shim.
    ///
    /// # Errors
    /// The shim's own words when it can't.
    pub async fn shutdown_sandbox(&self, id: &str) -> Result<(), ShimError> {
        let request = api::ShutdownSandboxRequest {
            sandbox_id: id.to_owned(),
            ..Default::default()
        };
        let answer = self.call_sandbox("ShutdownSandbox", &request, CALL).await;
        match answer {
            Ok(api::ShutdownSandboxResponse { .. }) | Err(ShimError::Disconnected { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn call_sandbox<T: Message>(
        &self,
        method: &'static str,
        request: &impl Message,
        timeout: Duration,
    ) -> Result<T, ShimError> {
        let answer = self.0.task.call_service(SERVICE, method, request, timeout);
        let payload = answer.await.map_err(|error| match &error {
            // Of the service itself, whose name Go's and Rust's servers give in it.
            ttrpc::Error::RpcStatus(status) if status.message().contains(SERVICE) => {
                ShimError::NoSandboxService(status.message().to_owned())
            }
            _ => ShimError::from_ttrpc(method, error, timeout),
        })?;
        T::parse_from_bytes(&payload).map_err(|source| ShimError::Decode { method, source })
    }
}
