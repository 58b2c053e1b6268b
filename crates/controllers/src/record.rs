//! Events of the controllers.

use berth_core::event::{EventCorrelator, EventWrite};
use berth_workloads::Event;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self, ObjectReference};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt as _};
use tokio::sync::Mutex;
use tracing::debug;

/// Writes events as one component.
pub(crate) struct Recorder {
    client: Client,
    events: Mutex<EventCorrelator>,
}

impl Recorder {
    pub(crate) fn new(client: Client, component: &str) -> Self {
        Self {
            client,
            events: Mutex::new(EventCorrelator::new(component, None)),
        }
    }

    /// Records an event about an object. One that can't be written is lost, as everywhere in Kubernetes.
    pub(crate) async fn record<K>(&self, about: &K, event: &Event)
    where
        K: Resource<DynamicType = ()>,
    {
        let reference: ObjectReference = about.object_ref(&());
        let Event {
            type_,
            reason,
            message,
        } = event;
        let now = Timestamp::now();
        let write = self
            .events
            .lock()
            .await
            .record(&reference, *type_, reason, message, now);
        let (name, result) = match write {
            EventWrite::Create(event) => {
                let namespace = event.namespace().unwrap_or_default();
                let api: Api<v1::Event> = Api::namespaced(self.client.clone(), &namespace);
                let name = event.name_any();
                (name, api.create(&PostParams::default(), &event).await)
            }
            EventWrite::Patch {
                namespace,
                name,
                body,
            } => {
                let api: Api<v1::Event> = Api::namespaced(self.client.clone(), &namespace);
                let params = PatchParams::default();
                let result = api.patch(&name, &params, &Patch::Merge(body)).await;
                (name, result)
            }
        };
        if let Err(error) = result {
            debug!(event = name, %error, "an event was not written");
            self.events.lock().await.forget(&name);
        }
    }
}
