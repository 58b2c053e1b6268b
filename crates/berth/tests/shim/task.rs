//! `containerd.task.v2.Task`.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use containerd_shim_protos::api::*;
use containerd_shim_protos::events::task::{TaskCreate, TaskDelete, TaskStart};
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::types::task::Status;
use nix::libc;
use protobuf::{EnumOrUnknown, MessageField};
use serde_json::json;
use std::os::fd::AsRawFd;
use ttrpc::r#async::TtrpcContext;

use crate::figures::figures;
use crate::journal;
use crate::message::{Exit, failed, stamp};
use crate::pod::{Pod, unknown};

pub(crate) struct Service(pub(crate) Arc<Pod>);

type Answer<T> = ttrpc::Result<T>;

impl Service {
    fn note(&self, call: &serde_json::Value) {
        journal::call(self.0.dir(), call);
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Pod>) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let pod = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&pod))
            .await
            .map_err(failed)?
    }
}

#[async_trait]
impl Task for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> Answer<CreateTaskResponse> {
        self.note(&json!({"call": "Create", "id": request.id}));
        let (id, bundle) = (request.id.clone(), request.bundle.clone());
        self.blocking(move |pod| pod.create(&request)).await?;
        let pid = self.0.pid();
        let event = TaskCreate {
            container_id: id,
            bundle,
            pid,
            ..TaskCreate::default()
        };
        self.0.events.publish("/tasks/create", "TaskCreate", &event);
        Ok(CreateTaskResponse {
            pid,
            ..CreateTaskResponse::default()
        })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Answer<StartResponse> {
        let (id, exec_id) = (request.id, request.exec_id);
        self.note(&json!({"call": "Start", "id": id, "exec_id": exec_id}));
        let pid = self.0.pid();
        let event = TaskStart {
            container_id: id.clone(),
            pid,
            ..TaskStart::default()
        };
        let first = exec_id.is_empty();
        self.blocking(move |pod| pod.start(&id, &exec_id)).await?;
        if first {
            self.0.events.publish("/tasks/start", "TaskStart", &event);
        }
        Ok(StartResponse {
            pid,
            ..StartResponse::default()
        })
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Answer<DeleteResponse> {
        let (id, exec_id) = (request.id, request.exec_id);
        self.note(&json!({"call": "Delete", "id": id, "exec_id": exec_id}));
        let (of, exec) = (id.clone(), exec_id.clone());
        let (code, at) = self.blocking(move |pod| pod.delete(&of, &exec)).await?;
        let pid = self.0.pid();
        let event = TaskDelete {
            id: if exec_id.is_empty() {
                id.clone()
            } else {
                exec_id
            },
            container_id: id,
            pid,
            exit_status: code,
            exited_at: MessageField::some(stamp(at)),
            ..TaskDelete::default()
        };
        self.0.events.publish("/tasks/delete", "TaskDelete", &event);
        Ok(DeleteResponse {
            pid,
            exit_status: code,
            exited_at: MessageField::some(stamp(at)),
            ..DeleteResponse::default()
        })
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Answer<Empty> {
        self.note(&json!({
            "call": "Exec",
            "id": request.id,
            "exec_id": request.exec_id,
            "terminal": request.terminal,
        }));
        self.0.exec(&request)?;
        Ok(Empty::new())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Answer<WaitResponse> {
        let exit = |process: &mut crate::process::Process| process.exit.subscribe();
        let mut exit = self.0.with(&request.id, &request.exec_id, exit)?;
        if self.0.dir().join("mute").exists() {
            std::future::pending::<()>().await;
        }
        let ended = exit.wait_for(Option::is_some).await;
        let (code, at) = ended
            .ok()
            .and_then(|exit| *exit)
            .ok_or_else(|| unknown(&request.id, &request.exec_id))?;
        Ok(WaitResponse {
            exit_status: code,
            exited_at: MessageField::some(stamp(at)),
            ..WaitResponse::default()
        })
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Answer<Empty> {
        self.note(&json!({
            "call": "Kill",
            "id": request.id,
            "exec_id": request.exec_id,
            "signal": request.signal,
            "all": request.all,
        }));
        self.blocking(move |pod| {
            pod.kill(&request.id, &request.exec_id, request.signal, request.all)
        })
        .await?;
        Ok(Empty::new())
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Answer<StateResponse> {
        let (id, exec_id) = (&request.id, &request.exec_id);
        let (started, exit, terminal) = self.0.with(id, exec_id, |process| {
            (process.started, *process.exit.borrow(), process.terminal)
        })?;
        let (code, at): Exit = exit.unwrap_or((0, SystemTime::UNIX_EPOCH));
        let status = match (started, exit) {
            (_, Some(_)) => Status::STOPPED,
            (true, None) => Status::RUNNING,
            (false, None) => Status::CREATED,
        };
        Ok(StateResponse {
            id: id.clone(),
            exec_id: exec_id.clone(),
            pid: self.0.pid(),
            status: EnumOrUnknown::new(status),
            terminal,
            exit_status: code,
            exited_at: MessageField::some(stamp(at)),
            ..StateResponse::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Answer<PidsResponse> {
        if !self.0.has(&request.id) {
            return Err(unknown(&request.id, ""));
        }
        let process = ProcessInfo {
            pid: self.0.pid(),
            ..ProcessInfo::default()
        };
        Ok(PidsResponse {
            processes: vec![process],
            ..PidsResponse::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Answer<StatsResponse> {
        self.note(&json!({"call": "Stats", "id": request.id}));
        if !self.0.has(&request.id) {
            return Err(unknown(&request.id, ""));
        }
        Ok(StatsResponse {
            stats: MessageField::some(figures().map_err(failed)?),
            ..StatsResponse::default()
        })
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Answer<Empty> {
        let resources = String::from_utf8_lossy(&request.resources.value).into_owned();
        self.note(&json!({"call": "Update", "id": request.id, "resources": resources}));
        self.0.place();
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Answer<Empty> {
        let (width, height) = (request.width, request.height);
        self.note(&json!({
            "call": "ResizePty",
            "id": request.id,
            "exec_id": request.exec_id,
            "width": width,
            "height": height,
        }));
        let size = libc::winsize {
            ws_row: u16::try_from(height).map_err(failed)?,
            ws_col: u16::try_from(width).map_err(failed)?,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        self.0.with(&request.id, &request.exec_id, |process| {
            let Some(master) = &process.master else {
                return Err(failed("the process has no terminal"));
            };
            // SAFETY: the descriptor is open, and the kernel only reads the size.
            let done = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
            if done == 0 {
                Ok(Empty::new())
            } else {
                Err(failed(std::io::Error::last_os_error()))
            }
        })?
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Answer<Empty> {
        // The process holds the FIFO itself: it ends when its writers have closed it.
        self.0.with(&request.id, &request.exec_id, |_| Empty::new())
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Answer<ConnectResponse> {
        if !self.0.has(&request.id) {
            return Err(unknown(&request.id, ""));
        }
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: self.0.pid(),
            version: crate::VERSION.to_owned(),
            ..ConnectResponse::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> Answer<Empty> {
        self.note(&json!({"call": "Shutdown", "id": request.id, "now": request.now}));
        if request.now || request.id == self.0.arguments.id {
            if !self.0.dir().join("careless").exists() {
                self.blocking(|pod| {
                    pod.clean();
                    Ok(())
                })
                .await?;
            }
            self.0.shutdown.notify_one();
        }
        Ok(Empty::new())
    }
}
