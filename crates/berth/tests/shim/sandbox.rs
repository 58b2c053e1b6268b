//! `containerd.runtime.sandbox.v1.Sandbox`: the virtual machine without a container in it.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use containerd_shim_protos::sandbox_api::*;
use containerd_shim_protos::sandbox_async::Sandbox;
use containerd_shim_protos::types::platform::Platform;
use protobuf::MessageField;
use serde_json::json;
use ttrpc::Code;
use ttrpc::r#async::TtrpcContext;

use crate::message::{self, failed, refuse, stamp};
use crate::pod::Pod;
use crate::{journal, message::any};

pub(crate) struct Service(pub(crate) Arc<Pod>);

type Answer<T> = ttrpc::Result<T>;

impl Service {
    fn note(&self, call: &str, id: &str) -> Answer<()> {
        journal::call(self.0.dir(), &json!({"call": call, "id": id}));
        if id == self.0.arguments.id {
            return Ok(());
        }
        Err(refuse(Code::NOT_FOUND, format!("sandbox {id} not found")))
    }
}

#[async_trait]
impl Sandbox for Service {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: CreateSandboxRequest,
    ) -> Answer<CreateSandboxResponse> {
        self.note("CreateSandbox", &request.sandbox_id)?;
        let record = json!({
            "id": request.sandbox_id,
            "bundle": request.bundle_path,
            "rootfs": message::mounts(&request.rootfs),
            "options": any(&request.options),
            "netns": request.netns_path,
            "annotations": request.annotations,
        });
        journal::record(self.0.dir(), &request.sandbox_id, &record).map_err(failed)?;
        Ok(CreateSandboxResponse::default())
    }

    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: StartSandboxRequest,
    ) -> Answer<StartSandboxResponse> {
        self.note("StartSandbox", &request.sandbox_id)?;
        let pod = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || pod.boot(None))
            .await
            .map_err(failed)?
            .map_err(failed)?;
        Ok(StartSandboxResponse {
            pid: self.0.pid(),
            created_at: MessageField::some(stamp(SystemTime::now())),
            ..StartSandboxResponse::default()
        })
    }

    async fn platform(
        &self,
        _: &TtrpcContext,
        request: PlatformRequest,
    ) -> Answer<PlatformResponse> {
        self.note("Platform", &request.sandbox_id)?;
        let platform = Platform {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            ..Platform::default()
        };
        Ok(PlatformResponse {
            platform: MessageField::some(platform),
            ..PlatformResponse::default()
        })
    }

    async fn stop_sandbox(
        &self,
        _: &TtrpcContext,
        request: StopSandboxRequest,
    ) -> Answer<StopSandboxResponse> {
        self.note("StopSandbox", &request.sandbox_id)?;
        let pod = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || pod.stop())
            .await
            .map_err(failed)?;
        Ok(StopSandboxResponse::default())
    }

    async fn wait_sandbox(
        &self,
        _: &TtrpcContext,
        request: WaitSandboxRequest,
    ) -> Answer<WaitSandboxResponse> {
        self.note("WaitSandbox", &request.sandbox_id)?;
        let mut off = self.0.off.subscribe();
        let ended = off.wait_for(Option::is_some).await;
        let (code, at) = ended
            .ok()
            .and_then(|exit| *exit)
            .ok_or_else(|| failed("the shim ends"))?;
        Ok(WaitSandboxResponse {
            exit_status: code,
            exited_at: MessageField::some(stamp(at)),
            ..WaitSandboxResponse::default()
        })
    }

    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: SandboxStatusRequest,
    ) -> Answer<SandboxStatusResponse> {
        self.note("SandboxStatus", &request.sandbox_id)?;
        let pid = self.0.pid();
        let state = if pid == 0 {
            "SANDBOX_NOTREADY"
        } else {
            "SANDBOX_READY"
        };
        Ok(SandboxStatusResponse {
            sandbox_id: request.sandbox_id,
            pid,
            state: state.to_owned(),
            ..SandboxStatusResponse::default()
        })
    }

    async fn ping_sandbox(&self, _: &TtrpcContext, request: PingRequest) -> Answer<PingResponse> {
        self.note("PingSandbox", &request.sandbox_id)?;
        Ok(PingResponse::default())
    }

    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        request: ShutdownSandboxRequest,
    ) -> Answer<ShutdownSandboxResponse> {
        self.note("ShutdownSandbox", &request.sandbox_id)?;
        let pod = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || pod.clean())
            .await
            .map_err(failed)?;
        self.0.shutdown.notify_one();
        Ok(ShutdownSandboxResponse::default())
    }
}
