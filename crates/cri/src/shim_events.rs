//! What third-party shims publish of their containers: ends, and that memory ran out. Without events an end is known by
//! the shim's answer to `Wait`; that memory ran out inside a virtual machine is known by its event alone.
//!
//! An event counts when the process that sent it is the shim that runs the container, or a process that the shim has
//! started. Others are logged and ignored: of containers that nobody knows, and of another pod's containers, which a
//! compromised shim or a container with our socket could otherwise report as ended.

use std::sync::Arc;

use berth_shim::client::Shim;
use berth_shim::events::{self, ShimEvent, TaskEvent};
use tokio::net::UnixListener;

use crate::container::Container;
use crate::engine::{Engine, Shared};
use crate::runtime::NAMESPACE;

/// Serves the events service until the future is dropped.
pub(crate) async fn serve(engine: Shared, listener: UnixListener) {
    events::serve(listener, move |event| {
        let engine = Arc::clone(&engine);
        async move { handle(&engine, event).await }
    })
    .await;
}

/// Takes an event, or says why not.
async fn handle(engine: &Engine, event: ShimEvent) -> Result<(), String> {
    let id = &event.container_id;
    if event.namespace != NAMESPACE {
        return Err(format!(
            "container {id} is in namespace {:?}, and not in {NAMESPACE:?}",
            event.namespace
        ));
    }
    let (shim, container) = match find(engine, id) {
        Found::Run(shim, container) => (shim, container),
        // A shim tells of a sandbox's start before we know that it is made, and of ends that we have caused and not waited
        // for. Whoever makes or ends it has the shim's answers.
        Found::Passing => {
            tracing::debug!(id, "an event of a container that is being made or is gone");
            return Ok(());
        }
        Found::Nothing => return Err(format!("container {id} is not known")),
    };
    match shim.is_publisher(id, event.publisher).await {
        Ok(true) => {}
        Ok(false) => {
            return Err(format!(
                "container {id} is not run by the shim that sent it (process {})",
                event.publisher.pid
            ));
        }
        Err(error) => {
            let error = crate::error::chain(&error);
            return Err(format!(
                "the shim of container {id} can't be asked: {error}"
            ));
        }
    }
    match event.kind {
        // StartContainer has it from the shim's answer.
        TaskEvent::Started { pid } => tracing::debug!(id, pid, "a container has started"),
        TaskEvent::Exited { exec_id, exit } => shim.note_exit(id, &exec_id, exit),
        TaskEvent::OutOfMemory => {
            // A guest may let it run out as often as it likes: that is written and logged once.
            if let Some(container) = container
                && container
                    .note_oom_kill()
                    .map_err(|error| crate::error::chain(&error))?
            {
                tracing::info!(id, "a container ran out of memory");
            }
        }
    }
    Ok(())
}

/// What is known of a container by its id.
enum Found {
    /// The shim that runs it, and the container unless it is a sandbox's.
    Run(Shim, Option<Arc<Container>>),
    /// It is being made, or has ended with its shim.
    Passing,
    Nothing,
}

/// Looks for a container or a sandbox container by its full id.
fn find(engine: &Engine, id: &str) -> Found {
    let container = engine.containers.get(id).ok();
    let container = container.filter(|container| container.id == id);
    let sandbox_id = match &container {
        Some(container) => container.record().sandbox_id.clone(),
        None => id.to_owned(),
    };
    let sandbox = engine.sandboxes.get(&sandbox_id).ok();
    match sandbox.filter(|sandbox| sandbox.id == sandbox_id) {
        Some(sandbox) => match sandbox.shim() {
            Ok(shim) => Found::Run(shim, container),
            Err(_) => Found::Passing,
        },
        None if engine.sandboxes.is_made_or_gone(id)
            || engine.warm.has(id)
            || engine.containers.is_made_or_gone(id) =>
        {
            Found::Passing
        }
        None => Found::Nothing,
    }
}
