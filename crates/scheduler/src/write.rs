//! What the scheduler writes: bindings, the PodScheduled condition, events. Runs beside the decisions.

use std::sync::{Arc, PoisonError};

use berth_core::event::{EventCorrelator, EventType, EventWrite};
use berth_placement::claims::{SELECTED_NODE, selected_node};
use berth_supervise::{Brief, Outage};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Binding, Event, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod,
};
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
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

/// Which node a pod's status promises to it.
pub(crate) enum Nominated {
    /// What it says holds.
    Unchanged,
    /// None.
    Nowhere,
    /// This one.
    Node(String),
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

    /// Says in the pod's status that it fits nowhere, and which node is promised to it, unless it says so already.
    pub(crate) async fn mark_unschedulable(
        &self,
        pod: &Pod,
        message: &str,
        nominated: &Nominated,
    ) -> kube::Result<()> {
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref());
        let has = status.and_then(|status| status.nominated_node_name.as_deref());
        let has = has.unwrap_or_default();
        let same_node = match nominated {
            Nominated::Unchanged => true,
            Nominated::Nowhere => has.is_empty(),
            Nominated::Node(node) => has == node,
        };
        let told = conditions.unwrap_or_default().iter().any(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.message.as_deref() == Some(message)
        });
        if told && same_node {
            return Ok(());
        }
        // Of this very pod: one that changed meanwhile, bound by somebody else perhaps, comes round again.
        let metadata = json!({
            "uid": pod.metadata.uid,
            "resourceVersion": pod.metadata.resource_version,
        });
        let mut patch = json!({"metadata": metadata, "status": {"conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now()),
        }]}});
        match nominated {
            Nominated::Unchanged => {}
            Nominated::Nowhere => patch["status"]["nominatedNodeName"] = json!(null),
            Nominated::Node(node) => patch["status"]["nominatedNodeName"] = json!(node),
        }
        self.patch_status(pod, patch).await
    }

    /// No node is promised to the pod any more.
    pub(crate) async fn withdraw_node(&self, pod: &Pod) -> kube::Result<()> {
        let patch = json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {"nominatedNodeName": null},
        });
        self.patch_status(pod, patch).await
    }

    /// Deletes a pod that makes room for another, and says so in its status before. Whether it was still there.
    pub(crate) async fn evict(&self, victim: &Pod, component: &str) -> kube::Result<bool> {
        let patch = json!({"metadata": {"uid": victim.metadata.uid}, "status": {"conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": format!("{component}: preempting to accommodate a higher priority pod"),
            "observedGeneration": victim.metadata.generation,
            "lastTransitionTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now()),
        }]}});
        self.patch_status(victim, patch).await?;
        let api = self.pods_beside(victim);
        // Of this very pod: another of its name may have another priority.
        let only = DeleteParams {
            preconditions: Some(Preconditions {
                uid: victim.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(&victim.name_any(), &only).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The volume is the claim's, if both are still as they were seen.
    pub(crate) async fn reserve(
        &self,
        volume: &PersistentVolume,
        claim: &PersistentVolumeClaim,
    ) -> kube::Result<()> {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let meta = &claim.metadata;
        let patch = json!({
            "metadata": {
                "uid": volume.metadata.uid,
                "resourceVersion": volume.metadata.resource_version,
                "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"},
            },
            "spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": meta.namespace, "name": meta.name, "uid": meta.uid}},
        });
        let how = PatchParams::default();
        api.patch(&volume.name_any(), &how, &Patch::Merge(patch))
            .await
            .map(drop)
    }

    /// The claim's volume is to be made for the node, if the claim is still as it was seen.
    pub(crate) async fn select_node(
        &self,
        claim: &PersistentVolumeClaim,
        node: &str,
    ) -> kube::Result<()> {
        if selected_node(claim) == Some(node) {
            return Ok(());
        }
        let namespace = claim.namespace().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({"metadata": {
            "uid": claim.metadata.uid,
            "resourceVersion": claim.metadata.resource_version,
            "annotations": {SELECTED_NODE: node},
        }});
        let how = PatchParams::default();
        api.patch(&claim.name_any(), &how, &Patch::Merge(patch))
            .await
            .map(drop)
    }

    fn pods_beside(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default())
    }

    /// Patches the status. Where the pod has changed meanwhile or is gone nothing is written: it comes round again.
    async fn patch_status(&self, pod: &Pod, patch: serde_json::Value) -> kube::Result<()> {
        let api = self.pods_beside(pod);
        let how = PatchParams::default();
        let (name, patch) = (pod.name_any(), Patch::Strategic(patch));
        match api.patch_status(&name, &how, &patch).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
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
