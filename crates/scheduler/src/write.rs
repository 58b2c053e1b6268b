//! What the scheduler writes: bindings, the PodScheduled condition, events. Runs beside the decisions.

use std::sync::{Arc, PoisonError};

use berth_core::event::{EventCorrelator, EventType, EventWrite};
use berth_supervise::{Brief, Outage};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Event, ObjectReference, Pod};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::Mutex;
use tracing::debug;

/// Something that has happened to a pod.
pub(crate) struct Occurrence {
    pub(crate) pod: Arc<Pod>,
    pub(crate) type_: EventType,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

/// The scheduler's pen.
pub(crate) struct Writer {
    client: Client,
    events: Mutex<EventCorrelator>,
    statuses: std::sync::Mutex<Outage>,
}

impl Writer {
    pub(crate) fn new(client: Client, component: &str) -> Self {
        Self {
            client,
            events: Mutex::new(EventCorrelator::new(component, None)),
            statuses: std::sync::Mutex::new(Outage::new(
                "cannot write that a pod is unschedulable",
            )),
        }
    }

    /// Tells the log how writing a pod's status went.
    pub(crate) fn status_written(&self, pod: &Pod, result: &kube::Result<()>) {
        let mut outage = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => outage.works(),
            Err(error) => {
                let pod = pod.name_any();
                outage.failed(format_args!("pod {pod}: {}", Brief(error)));
            }
        }
    }

    /// Binds the pod to the node.
    pub(crate) async fn bind(&self, pod: &Pod, node: &str) -> kube::Result<()> {
        let namespace = pod.namespace().unwrap_or_default();
        let name = pod.name_any();
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                uid: pod.metadata.uid.clone(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let _: serde_json::Value = api
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await?;
        Ok(())
    }

    /// Says in the pod's status that it fits nowhere, unless it says so already.
    pub(crate) async fn mark_unschedulable(&self, pod: &Pod, message: &str) -> kube::Result<()> {
        let conditions = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_deref());
        let told = conditions.unwrap_or_default().iter().any(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.message.as_deref() == Some(message)
        });
        if told {
            return Ok(());
        }
        let api: Api<Pod> =
            Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        // Of this very pod: one that changed meanwhile, bound by somebody else perhaps, comes round again.
        let metadata = json!({
            "uid": pod.metadata.uid,
            "resourceVersion": pod.metadata.resource_version,
        });
        let patch = json!({"metadata": metadata, "status": {"conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now()),
        }]}});
        match api
            .patch_status(
                &pod.name_any(),
                &PatchParams::default(),
                &Patch::Strategic(patch),
            )
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            result => result.map(drop),
        }
    }

    /// Records an event about a pod. An event that can't be written is lost, as everywhere in Kubernetes.
    pub(crate) async fn event(&self, occurrence: &Occurrence) {
        let Occurrence {
            pod,
            type_,
            reason,
            message,
            at,
        } = occurrence;
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            ..ObjectReference::default()
        };
        let write = self
            .events
            .lock()
            .await
            .record(&about, *type_, reason, message, *at);
        let (name, result) = match write {
            EventWrite::Create(event) => {
                let namespace = event.metadata.namespace.clone().unwrap_or_default();
                let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
                let name = event.name_any();
                (name, api.create(&PostParams::default(), &event).await)
            }
            EventWrite::Patch {
                namespace,
                name,
                body,
            } => {
                let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
                let result = api
                    .patch(&name, &PatchParams::default(), &Patch::Merge(body))
                    .await;
                (name, result)
            }
        };
        if let Err(error) = result {
            debug!(event = name, %error, "an event was not written");
            self.events.lock().await.forget(&name);
        }
    }
}
