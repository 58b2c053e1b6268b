//! Container events for `GetContainerEvents`.

use k8s_cri::v1::{ContainerEventResponse, ContainerEventType};
use tokio::sync::broadcast;

use crate::container::{self, Container};
use crate::engine::{Engine, now};
use crate::sandbox::{self, Sandbox};

/// A listener that falls behind by so many loses the oldest.
const BACKLOG: usize = 1024;

pub(crate) struct Events(broadcast::Sender<ContainerEventResponse>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }
}

impl Events {
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<ContainerEventResponse> {
        self.0.subscribe()
    }

    /// Tells of a container, with its sandbox' state and its own.
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
        self.send(
            &record.id,
            kind,
            sandbox.as_deref(),
            vec![container::status_of(&record)],
        );
    }

    /// Tells of a sandbox; its id stands in the container's field.
    pub(crate) fn sandbox(&self, kind: ContainerEventType, sandbox: &Sandbox) {
        self.send(&sandbox.id, kind, Some(sandbox), Vec::new());
    }

    fn send(
        &self,
        id: &str,
        kind: ContainerEventType,
        sandbox: Option<&Sandbox>,
        containers_statuses: Vec<k8s_cri::v1::ContainerStatus>,
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
