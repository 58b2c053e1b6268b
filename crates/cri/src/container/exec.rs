//! Processes in running containers: `Exec`, `ExecSync`, `Attach`.

use std::time::Duration;

use berth_cri_api::v1::ExecSyncRequest;
use berth_oci::Spec;
use berth_shim::client::{AttachStreams, ExecOutput, Session};

use super::Container;
use crate::engine::{Engine, Shared};
use crate::error::CriError;
use crate::filtered;
use crate::streaming::Streams;

fn process(
    engine: &Engine,
    container: &Container,
    command: &[String],
    terminal: bool,
) -> Result<berth_oci::RuntimeProcess, CriError> {
    if command.is_empty() {
        return Err(CriError::Invalid("no command to execute".to_owned()));
    }
    let path = engine.layout.bundle(&container.id).join("config.json");
    let text = std::fs::read(&path).map_err(CriError::io("read", &path))?;
    let spec: Spec = serde_json::from_slice(&text)?;
    let mut process = berth_oci::exec_process(&spec, command, terminal);
    if filtered::has(&spec) {
        filtered::wrap(&mut process);
    }
    Ok(process)
}

/// Runs a command with its streams, on a terminal of the size (width, height) that its client has said.
pub(crate) async fn exec(
    engine: &Shared,
    id: &str,
    command: &[String],
    streams: Streams,
    size: Option<(u16, u16)>,
) -> Result<Session, CriError> {
    let container = engine.containers.get(id)?;
    let shim = container.running(engine)?.shim()?;
    let mut process = process(engine, &container, command, streams.tty)?;
    if let (true, Some((width, height))) = (streams.tty, size) {
        berth_oci::set_console_size(&mut process, width, height);
    }
    shim.exec(&container.id, &process, AttachStreams::from(streams))
        .await
        .map_err(CriError::shim("execute in container", &container.id))
}

/// Runs a command, gathers what it writes, and ends it after the timeout.
pub(crate) async fn exec_sync(
    engine: &Shared,
    request: ExecSyncRequest,
) -> Result<ExecOutput, CriError> {
    let container = engine.containers.get(&request.container_id)?;
    let shim = container.running(engine)?.shim()?;
    let process = process(engine, &container, &request.cmd, false)?;
    let timeout = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
    shim.exec_sync(&container.id, &process, timeout)
        .await
        .map_err(CriError::shim("execute in container", &container.id))
}

/// Joins the streams of a container's first process.
pub(crate) async fn attach(
    engine: &Shared,
    id: &str,
    streams: Streams,
) -> Result<Session, CriError> {
    let container = engine.containers.get(id)?;
    let shim = container.running(engine)?.shim()?;
    shim.attach(&container.id, AttachStreams::from(streams))
        .await
        .map_err(CriError::shim("attach to container", &container.id))
}
