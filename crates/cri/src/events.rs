//! Container events for `GetContainerEvents`.

use berth_cri_api::v1::{ContainerEventResponse, ContainerEventType, ContainerStatus};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tonic::Status;

use crate::container::{self, Container};
use crate::engine::{Engine, now};
use crate::sandbox::{self, Sandbox};

/// A listener that falls behind by so many loses the oldest.
const BACKLOG: usize = 1024;

pub(crate) struct Events(broadcast::Sender<ContainerEventResponse>);

/// What `GetContainerEvents` answers: from now on, until the server ends. A listener that fell behind is told so, and
/// has to look at everything anew.
pub(crate) fn stream(
    engine: &Engine,
) -> BoxStream<'static, Result<ContainerEventResponse, Status>> {
    BroadcastStream::new(engine.events.0.subscribe())
        .map(|event| event.map_err(|lagged| Status::data_loss(lagged.to_string())))
        .take_until(engine.shutdown.clone().cancelled_owned())
        .boxed()
}

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }
}

impl Events {
    /// Tells of a container, with the state of its sandbox and of all containers there: a kubelet takes what an event
    /// says for the whole pod.
    pub(crate) fn container(
        &self,
        engine: &Engine,
        kind: ContainerEventType,
        container: &Container,
    ) {
        if self.0.receiver_count() == 0 {
            return;
        }
        let record = container.record();
        let sandbox = engine.sandboxes.get(&record.sandbox_id).ok();
        let statuses = statuses(engine, &record.sandbox_id);
        self.send(&record.id, kind, sandbox.as_deref(), statuses);
    }

    /// Tells of a sandbox; its id stands in the container's field.
    pub(crate) fn sandbox(&self, engine: &Engine, kind: ContainerEventType, sandbox: &Sandbox) {
        if self.0.receiver_count() == 0 {
            return;
        }
        let statuses = statuses(engine, &sandbox.id);
        self.send(&sandbox.id, kind, Some(sandbox), statuses);
    }

    fn send(
        &self,
        id: &str,
        kind: ContainerEventType,
        sandbox: Option<&Sandbox>,
        containers_statuses: Vec<ContainerStatus>,
    ) {
        // Nobody listening is fine.
        let _ = self.0.send(ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: now(),
            pod_sandbox_status: sandbox.map(|sandbox| sandbox::status_of(&sandbox.record())),
            containers_statuses,
        });
    }
}

fn statuses(engine: &Engine, sandbox_id: &str) -> Vec<ContainerStatus> {
    container::of_sandbox(engine, sandbox_id)
        .iter()
        .map(|container| container::status_of(&container.record()))
        .collect()
}
