//! What differs between a ReplicaSet and a ReplicationController.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use berth_core::selector::{is_empty, label_selector_matches};
use berth_workloads::owner::controller_of;
use berth_workloads::replicas::{ReplicaStatus, Replicas};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A kind that keeps so many pods of one template.
pub(in super::super) trait Replicated:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + k8s_openapi::Resource
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The name of the controller's task.
    const TASK: &'static str;
    /// The name of the stock controller's queue.
    const QUEUE: &'static str;

    fn selector(&self) -> Option<LabelSelector>;
    fn template(&self) -> Option<PodTemplateSpec>;
    fn replicas(&self) -> Replicas<'_>;
    fn status(&self) -> ReplicaStatus;
    fn with_status(&self, status: ReplicaStatus) -> Self;
    /// The UIDs of those whose pods belong to the same workload, itself among them.
    fn family(&self, all: &[Arc<Self>]) -> HashSet<String>;

    /// Whether it would adopt this pod.
    fn selects(&self, pod: &Pod) -> bool {
        self.selector().is_some_and(|selector| {
            !is_empty(&selector) && label_selector_matches(&selector, pod.metadata.labels.as_ref())
        })
    }
}

impl Replicated for ReplicaSet {
    const TASK: &'static str = "replica set controller";
    const QUEUE: &'static str = "replicaset";

    fn selector(&self) -> Option<LabelSelector> {
        self.spec.as_ref().map(|spec| spec.selector.clone())
    }

    fn template(&self) -> Option<PodTemplateSpec> {
        self.spec.as_ref()?.template.clone()
    }

    fn replicas(&self) -> Replicas<'_> {
        let spec = self.spec.as_ref();
        replicas(
            self.metadata.generation,
            spec.and_then(|s| s.replicas),
            spec.and_then(|s| s.min_ready_seconds),
            spec.and_then(|s| s.template.as_ref()),
        )
    }

    fn status(&self) -> ReplicaStatus {
        self.status
            .as_ref()
            .map(ReplicaStatus::from)
            .unwrap_or_default()
    }

    fn with_status(&self, status: ReplicaStatus) -> Self {
        Self {
            status: Some(status.into()),
            ..self.clone()
        }
    }

    fn family(&self, all: &[Arc<Self>]) -> HashSet<String> {
        let deployment = controller_of(&self.metadata).map(|owner| &owner.uid);
        let is_related = |set: &&Arc<Self>| {
            let owner = controller_of(&set.metadata).map(|owner| &owner.uid);
            set.metadata.uid == self.metadata.uid || (deployment.is_some() && owner == deployment)
        };
        let related = all.iter().filter(is_related);
        related.filter_map(|set| set.metadata.uid.clone()).collect()
    }
}

impl Replicated for ReplicationController {
    const TASK: &'static str = "replication controller";
    const QUEUE: &'static str = "replicationmanager";

    fn selector(&self) -> Option<LabelSelector> {
        let labels = self.spec.as_ref()?.selector.clone()?;
        Some(LabelSelector {
            match_labels: Some(labels),
            match_expressions: None,
        })
    }

    fn template(&self) -> Option<PodTemplateSpec> {
        self.spec.as_ref()?.template.clone()
    }

    fn replicas(&self) -> Replicas<'_> {
        let spec = self.spec.as_ref();
        replicas(
            self.metadata.generation,
            spec.and_then(|s| s.replicas),
            spec.and_then(|s| s.min_ready_seconds),
            spec.and_then(|s| s.template.as_ref()),
        )
    }

    fn status(&self) -> ReplicaStatus {
        self.status
            .as_ref()
            .map(ReplicaStatus::from)
            .unwrap_or_default()
    }

    fn with_status(&self, status: ReplicaStatus) -> Self {
        Self {
            status: Some(status.into()),
            ..self.clone()
        }
    }

    fn family(&self, _: &[Arc<Self>]) -> HashSet<String> {
        self.metadata.uid.iter().cloned().collect()
    }
}

/// With the API's defaults.
fn replicas(
    generation: Option<i64>,
    wanted: Option<i32>,
    min_ready_seconds: Option<i32>,
    template: Option<&PodTemplateSpec>,
) -> Replicas<'_> {
    Replicas {
        generation,
        wanted: wanted.unwrap_or(1),
        min_ready_seconds: min_ready_seconds.unwrap_or(0),
        template_labels: template.and_then(|t| t.metadata.as_ref()?.labels.as_ref()),
    }
}
