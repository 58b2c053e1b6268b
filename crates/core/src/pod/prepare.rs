//! What a creator or updater of a pod may not set, and what follows from the rest.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};

use super::qos;
use crate::gates::{FeatureGates, Gate};

/// Drops the fields whose gate is off; one that the old object has stays.
fn drop_disabled(pod: &mut Pod, old: Option<&Pod>, gates: &FeatureGates) {
    let old = old.and_then(|o| o.spec.as_ref());
    let Some(spec) = pod.spec.as_mut() else {
        return;
    };
    if !gates.enabled(Gate::RuntimeClass) && old.is_none_or(|o| o.runtime_class_name.is_none()) {
        spec.runtime_class_name = None;
    }
    if !gates.enabled(Gate::PodOverhead) && old.is_none_or(|o| o.overhead.is_none()) {
        spec.overhead = None;
    }
}

pub(super) fn create(pod: &mut Pod, gates: &FeatureGates) {
    pod.metadata.generation = Some(1);
    drop_disabled(pod, None, gates);
    let mut status = PodStatus {
        phase: Some("Pending".to_owned()),
        ..PodStatus::default()
    };
    if let Some(spec) = &pod.spec {
        status.qos_class = Some(qos::class(spec).name().to_owned());
        if spec
            .scheduling_gates
            .as_ref()
            .is_some_and(|g| !g.is_empty())
        {
            status.conditions = Some(vec![PodCondition {
                type_: "PodScheduled".to_owned(),
                status: "False".to_owned(),
                reason: Some("SchedulingGated".to_owned()),
                message: Some("Scheduling is blocked due to non-empty scheduling gates".to_owned()),
                ..PodCondition::default()
            }]);
        }
    }
    pod.status = Some(status);
}

pub(super) fn update(pod: &mut Pod, old: &Pod, gates: &FeatureGates) {
    drop_disabled(pod, Some(old), gates);
    pod.status.clone_from(&old.status);
    pod.metadata.generation = old.metadata.generation;
    if pod.spec != old.spec {
        pod.metadata.generation = Some(old.metadata.generation.unwrap_or(0) + 1);
    }
}

pub(super) fn status(pod: &mut Pod, old: &Pod) {
    pod.spec.clone_from(&old.spec);
    pod.metadata
        .deletion_timestamp
        .clone_from(&old.metadata.deletion_timestamp);
    pod.metadata
        .owner_references
        .clone_from(&old.metadata.owner_references);
    pod.metadata.generation = old.metadata.generation;
    if let Some(status) = pod.status.as_mut() {
        // The class is decided once, at creation.
        let before = old.status.as_ref().and_then(|s| s.qos_class.clone());
        if status.qos_class.is_none() {
            status.qos_class = before;
        }
    }
}
