//! The RPCs before a stream: what was asked for is checked, and a URL handed out for it.

use berth_cri_api::v1::{AttachRequest, ExecRequest, PortForwardRequest};

use super::{Request, Streams};
use crate::engine::Shared;
use crate::error::CriError;
use crate::record::Phase;

pub(crate) fn prepare_exec(engine: &Shared, request: ExecRequest) -> Result<String, CriError> {
    let container = engine.containers.get(&request.container_id)?;
    container.running(engine)?;
    if request.cmd.is_empty() {
        return Err(CriError::Invalid("no command to execute".to_owned()));
    }
    let streams = check(Streams {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        tty: request.tty,
    })?;
    engine.streaming.url(Request::Exec {
        container: container.id.clone(),
        command: request.cmd,
        streams,
    })
}

pub(crate) fn prepare_attach(engine: &Shared, request: &AttachRequest) -> Result<String, CriError> {
    let container = engine.containers.get(&request.container_id)?;
    container.running(engine)?;
    let streams = check(Streams {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        tty: request.tty,
    })?;
    engine.streaming.url(Request::Attach {
        container: container.id.clone(),
        streams,
    })
}

pub(crate) fn prepare_forward(
    engine: &Shared,
    request: &PortForwardRequest,
) -> Result<String, CriError> {
    let sandbox = engine.sandboxes.get(&request.pod_sandbox_id)?;
    if sandbox.phase() != Phase::Ready {
        return Err(CriError::State(format!(
            "pod sandbox {} is not ready",
            sandbox.id
        )));
    }
    let ports: Result<Vec<u16>, _> = request
        .port
        .iter()
        .map(|port| u16::try_from(*port))
        .collect();
    let ports = ports
        .ok()
        // A channel's number is one byte.
        .filter(|ports| ports.len() <= 127)
        .ok_or_else(|| CriError::Invalid("the ports are no ports, or too many".to_owned()))?;
    engine.streaming.url(Request::PortForward {
        sandbox: sandbox.id.clone(),
        ports,
    })
}

/// The rules that the CRI sets for stream requests.
fn check(streams: Streams) -> Result<Streams, CriError> {
    if streams.tty && streams.stderr {
        return Err(CriError::Invalid(
            "tty and stderr cannot both be set".to_owned(),
        ));
    }
    if !streams.stdin && !streams.stdout && !streams.stderr {
        return Err(CriError::Invalid(
            "one of stdin, stdout and stderr must be set".to_owned(),
        ));
    }
    Ok(streams)
}
