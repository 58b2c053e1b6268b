//! Calls about streams: attach, exec, terminals.

use std::time::Duration;

use containerd_shim_protos::api;
use oci_spec::runtime::Process;
use protobuf::MessageField;
use protobuf::well_known_types::any::Any;

use super::fifo::ExecStreams;
use super::session::{self, Control, Session};
use super::{AttachStreams, CALL, EXEC_LIMIT, ExecOutput, Shim, ShimError, orphans};
use crate::stdio::{Input, Output};

/// Limit of each of exec_sync's outputs, as the kubelet's.
const MAX_SYNC_OUTPUT: usize = 16 << 20;
/// How long after a command's timeout somebody else ends it, for we come first while we live.
const LATER: Duration = Duration::from_secs(1);

impl Shim {
    /// Attaches to a container's streams. Output from before is in the log, not here.
    ///
    /// # Errors
    /// When it is unknown or has no such stream.
    pub async fn attach(&self, id: &str, streams: AttachStreams) -> Result<Session, ShimError> {
        session::open(Control::new(self.clone(), id, ""), streams).await
    }

    /// Runs a process in a container, with its streams. The session's [`Control::wait`] gives the exit code and
    /// forgets the process; dropping the session's stdin half-closes it.
    ///
    /// # Errors
    /// The runtime's own words when it can't be started.
    pub async fn exec(
        &self,
        id: &str,
        process: &Process,
        streams: AttachStreams,
    ) -> Result<Session, ShimError> {
        self.exec_for(id, process, streams, Duration::ZERO).await
    }

    async fn exec_for(
        &self,
        id: &str,
        process: &Process,
        streams: AttachStreams,
        timeout: Duration,
    ) -> Result<Session, ShimError> {
        let session = self.register(id, process, streams, timeout).await?;
        let exec_id = session.control.exec_id().to_owned();
        match self.start_process(id, &exec_id).await {
            Ok(_) => Ok(session),
            Err(e) => {
                let _ = self.delete_process(id, &exec_id).await;
                Err(e)
            }
        }
    }

    /// Makes a process known to the shim, with its streams open. It is still to be started. Should we be gone by its
    /// timeout (zero: none), our shim ends it by itself a little later; with a stranger's, our successor does.
    async fn register(
        &self,
        id: &str,
        process: &Process,
        streams: AttachStreams,
        timeout: Duration,
    ) -> Result<Session, ShimError> {
        let exec_id = format!("{:016x}", rand::random::<u64>());
        let terminal = process.terminal().unwrap_or(false);
        let mut request = api::ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec_id.clone(),
            terminal,
            spec: MessageField::some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
                value: serde_json::to_vec(process).map_err(ShimError::Encode)?,
                ..Default::default()
            }),
            ..Default::default()
        };
        let control = Control::new(self.clone(), id, &exec_id);
        let limit = (!timeout.is_zero()).then(|| timeout + LATER);
        if let Some(keeper) = &self.0.keeper {
            let fifos = ExecStreams::open(&keeper.fifos(id)?, &exec_id, streams, terminal)?;
            fifos.fill(&mut request);
            if let Some(limit) = limit {
                orphans::note(fifos.dir(), limit)?;
            }
            self.0.task.call_empty("Exec", &request, CALL).await?;
            return Ok(fifos.session(control, streams));
        }
        request.stdout = Output::stream_uri();
        if streams.stdin {
            request.stdin = Input::stream_uri(true);
        }
        let limit = limit.map(|limit| (EXEC_LIMIT, limit.as_millis().to_string()));
        let task = &self.0.task;
        task.call_with("Exec", &request, CALL, limit).await?;
        let session = session::open(control, streams).await;
        if session.is_err() {
            let _ = self.delete_process(id, &exec_id).await;
        }
        session
    }

    /// Runs a process and gathers its output. After `timeout` (zero: none) its whole process tree is killed.
    ///
    /// # Errors
    /// [`ShimError::Timeout`], or the runtime's own words when it can't be started.
    pub async fn exec_sync(
        &self,
        id: &str,
        process: &Process,
        timeout: Duration,
    ) -> Result<ExecOutput, ShimError> {
        let streams = AttachStreams {
            stdin: false,
            stdout: true,
            stderr: true,
        };
        if self.0.keeper.is_some() {
            let session = self.exec_for(id, process, streams, timeout).await?;
            let begun = std::future::ready(());
            return session.collect(begun, timeout, MAX_SYNC_OUTPUT).await;
        }
        // Ours may be asked for the end of what has not begun: a short command's end is known at once then.
        let session = self.register(id, process, streams, timeout).await?;
        let exec_id = session.control.exec_id().to_owned();
        let (begin, begun) = tokio::sync::oneshot::channel::<()>();
        let start = async {
            let started = self.start_process(id, &exec_id).await;
            // Nobody listens when the command has ended by now.
            let _ = begin.send(());
            started
        };
        let begun = async {
            let _ = begun.await;
        };
        let end = session.collect(begun, timeout, MAX_SYNC_OUTPUT);
        let (started, ended) = tokio::join!(start, end);
        started?;
        ended
    }

    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// When it has none.
    pub async fn resize(&self, id: &str, width: u32, height: u32) -> Result<(), ShimError> {
        self.resize_process(id, "", width, height).await
    }

    pub(super) async fn resize_process(
        &self,
        id: &str,
        exec_id: &str,
        width: u32,
        height: u32,
    ) -> Result<(), ShimError> {
        let request = api::ResizePtyRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            width,
            height,
            ..Default::default()
        };
        self.0.task.call_empty("ResizePty", &request, CALL).await
    }

    /// Closes a container's stdin.
    ///
    /// # Errors
    /// When it is unknown.
    pub async fn close_stdin(&self, id: &str) -> Result<(), ShimError> {
        if let Some(keeper) = &self.0.keeper {
            keeper.close_stdin(id).await?;
        }
        self.close_process_stdin(id, "").await
    }

    pub(super) async fn close_process_stdin(
        &self,
        id: &str,
        exec_id: &str,
    ) -> Result<(), ShimError> {
        let request = api::CloseIORequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            stdin: true,
            ..Default::default()
        };
        self.0.task.call_empty("CloseIO", &request, CALL).await
    }
}
