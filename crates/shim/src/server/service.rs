//! The task service: from messages to calls and back.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::shim_async::Task;
use protobuf::MessageField;
use protobuf::well_known_types::timestamp::Timestamp;
use ttrpc::r#async::TtrpcContext;

use super::error::Error;
use super::metrics;
use super::process::Phase;
use super::stages::Stages;
use super::state::Shim;
use crate::client::{EXEC_LIMIT, Exit};

type Answer<T> = ttrpc::Result<T>;

/// Serves both versions of the task service.
#[derive(Debug)]
pub(super) struct TaskService(pub(super) Arc<Shim>);

/// Runs a change to its end even when the client goes away: the server drops the calls of a lost connection, and a
/// container that is made or started halfway would be nobody's.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Answer<T> {
    match tokio::spawn(work).await {
        Ok(done) => Ok(done?),
        Err(e) => Err(ttrpc::Error::Others(format!(
            "the call's task was lost: {e}"
        ))),
    }
}

pub(super) fn stamp(at: SystemTime) -> Timestamp {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(0),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        ..Default::default()
    }
}

#[async_trait]
impl Task for TaskService {
    async fn create(
        &self,
        context: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> Answer<CreateTaskResponse> {
        let shim = Arc::clone(&self.0);
        let stages = Stages::of(&context.metadata);
        let call = stages.call("create");
        let container =
            whole(async move { call.scope(async { shim.create(&request).await }).await }).await?;
        Ok(stages.answer(CreateTaskResponse {
            pid: container.init.wire_pid(),
            ..Default::default()
        }))
    }

    async fn start(&self, context: &TtrpcContext, request: StartRequest) -> Answer<StartResponse> {
        let container = self.0.container(&request.id)?;
        let stages = Stages::of(&context.metadata);
        let call = stages.call("start");
        let pid = whole(async move {
            let start = async {
                if request.exec_id.is_empty() {
                    container.start().await
                } else {
                    container.start_exec(&request.exec_id).await
                }
            };
            call.scope(start).await
        })
        .await?;
        Ok(stages.answer(StartResponse {
            pid,
            ..Default::default()
        }))
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Answer<DeleteResponse> {
        let container = self.0.container(&request.id)?;
        let shim = Arc::clone(&self.0);
        let (pid, exit) = whole(async move {
            if request.exec_id.is_empty() {
                let done = container.delete().await?;
                shim.forget(&request.id);
                Ok(done)
            } else {
                container.delete_exec(&request.exec_id).await
            }
        })
        .await?;
        Ok(delete_response(pid, exit))
    }

    async fn exec(&self, context: &TtrpcContext, request: ExecProcessRequest) -> Answer<Empty> {
        let limit = context.metadata.get(EXEC_LIMIT);
        let limit = limit.and_then(|values| values.first()?.parse().ok());
        let limit = limit.map(Duration::from_millis);
        self.0.container(&request.id)?.register(&request, limit)?;
        Ok(Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Answer<WaitResponse> {
        let exit = self
            .0
            .container(&request.id)?
            .process(&request.exec_id)?
            .wait()
            .await;
        Ok(WaitResponse {
            exit_status: exit.code,
            exited_at: MessageField::some(stamp(exit.at)),
            ..Default::default()
        })
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Answer<StateResponse> {
        // A server that was restarted wants to know how the calls of the one before it ended.
        let container = self.0.settled(&request.id).await?;
        let process = container.process(&request.exec_id)?;
        let phase = process.phase();
        let mut answer = StateResponse {
            id: request.id,
            exec_id: request.exec_id,
            bundle: container.bundle.to_string_lossy().into_owned(),
            pid: process.wire_pid(),
            status: phase.wire().into(),
            stdin: process.fields.stdin.clone(),
            stdout: process.fields.stdout.clone(),
            stderr: process.fields.stderr.clone(),
            terminal: process.fields.terminal,
            ..Default::default()
        };
        if let Phase::Exited(exit) = phase {
            answer.exit_status = exit.code;
            answer.exited_at = MessageField::some(stamp(exit.at));
        }
        Ok(answer)
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Answer<Empty> {
        self.0
            .container(&request.id)?
            .kill(&request.exec_id, request.signal, request.all)
            .await?;
        Ok(Empty::new())
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Answer<PidsResponse> {
        let container = self.0.container(&request.id)?;
        let processes = metrics::pids(container.groups())
            .into_iter()
            .map(|pid| ProcessInfo {
                pid,
                ..Default::default()
            })
            .collect();
        Ok(PidsResponse {
            processes,
            ..Default::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Answer<StatsResponse> {
        let container = self.0.container(&request.id)?;
        let stats = metrics::metrics(&container).await?;
        Ok(StatsResponse {
            stats: MessageField::some(stats),
            ..Default::default()
        })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Answer<Empty> {
        let container = self.0.container(&request.id)?;
        whole(async move { container.pause(true).await }).await?;
        Ok(Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Answer<Empty> {
        let container = self.0.container(&request.id)?;
        whole(async move { container.pause(false).await }).await?;
        Ok(Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, request: CheckpointTaskRequest) -> Answer<Empty> {
        self.0
            .container(&request.id)?
            .checkpoint(&request.path)
            .await?;
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Answer<Empty> {
        let resources = request
            .resources
            .as_ref()
            .map(|r| r.value.clone())
            .unwrap_or_default();
        self.0.container(&request.id)?.update(&resources).await?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Answer<Empty> {
        let process = self.0.container(&request.id)?.process(&request.exec_id)?;
        process.io.resize(request.width, request.height)?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Answer<Empty> {
        let process = self.0.container(&request.id)?.process(&request.exec_id)?;
        if request.stdin {
            process.io.close_stdin();
        }
        Ok(Empty::new())
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Answer<ConnectResponse> {
        // A pod without containers has a shim all the same.
        let task_pid = self
            .0
            .container(&request.id)
            .map_or(0, |c| c.init.wire_pid());
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> Answer<Empty> {
        if request.now || self.0.is_empty() {
            self.0.shutdown.notify_one();
        }
        Ok(Empty::new())
    }
}

pub(super) fn delete_response(pid: u32, exit: Exit) -> DeleteResponse {
    DeleteResponse {
        pid,
        exit_status: exit.code,
        exited_at: MessageField::some(stamp(exit.at)),
        ..Default::default()
    }
}
