//! From a request to the event that it brings.

use containerd_shim_protos::events::task::{TaskExit, TaskOOM, TaskStart};
use containerd_shim_protos::shim::events::ForwardRequest;
use protobuf::Message;
use ttrpc::{Code, Status};

use super::{Publisher, ShimEvent, TaskEvent};
use crate::client::{Exit, time};

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
const FORWARD: &str = "Forward";
/// Ids are at most as long as a file's name.
const MAX_ID: usize = 255;

/// The event of a request; `None` for one of a kind that nobody here wants.
pub(super) fn event(request: &[u8], publisher: Publisher) -> Result<Option<ShimEvent>, Status> {
    let request: ttrpc::Request = parse("request", request)?;
    if request.service != SERVICE || request.method != FORWARD {
        let text = format!(
            "/{}/{} is not supported: only {SERVICE}/{FORWARD} is served here",
            shown(&request.service),
            shown(&request.method)
        );
        return Err(ttrpc::get_status(Code::UNIMPLEMENTED, text));
    }
    let forward: ForwardRequest = parse("ForwardRequest", &request.payload)?;
    let Some(envelope) = forward.envelope.into_option() else {
        return Err(invalid("the request has no envelope"));
    };
    let Some(any) = envelope.event.into_option() else {
        return Err(invalid("the envelope has no event"));
    };
    // A type's URL may have a host before the last slash.
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let (container_id, kind) = match name {
        "containerd.events.TaskStart" => {
            let event: TaskStart = parse(name, &any.value)?;
            (event.container_id, TaskEvent::Started { pid: event.pid })
        }
        "containerd.events.TaskExit" => {
            let event: TaskExit = parse(name, &any.value)?;
            let exit = Exit {
                code: event.exit_status,
                at: time(event.exited_at.as_ref()),
            };
            // The first process is called as its container.
            let exec_id = if event.id == event.container_id {
                String::new()
            } else {
                event.id
            };
            check("id", &exec_id)?;
            (event.container_id, TaskEvent::Exited { exec_id, exit })
        }
        "containerd.events.TaskOOM" => {
            let event: TaskOOM = parse(name, &any.value)?;
            (event.container_id, TaskEvent::OutOfMemory)
        }
        _ => return Ok(None),
    };
    check("container_id", &container_id)?;
    check("namespace", &envelope.namespace)?;
    if container_id.is_empty() {
        return Err(invalid(format!("{name} has no container_id")));
    }
    Ok(Some(ShimEvent {
        publisher,
        namespace: envelope.namespace,
        container_id,
        kind,
    }))
}

fn parse<T: Message>(what: &str, bytes: &[u8]) -> Result<T, Status> {
    T::parse_from_bytes(bytes).map_err(|error| {
        let what = shown(what);
        invalid(format!("{what} can't be decoded: {error}"))
    })
}

fn check(field: &str, value: &str) -> Result<(), Status> {
    if value.len() <= MAX_ID {
        return Ok(());
    }
    let length = value.len();
    Err(invalid(format!(
        "{field} has {length} bytes, more than {MAX_ID}"
    )))
}

fn invalid(text: impl Into<String>) -> Status {
    let text: String = text.into();
    ttrpc::get_status(Code::INVALID_ARGUMENT, text)
}

/// The beginning of a text that somebody else chose.
fn shown(text: &str) -> String {
    text.chars().take(MAX_ID).collect()
}
