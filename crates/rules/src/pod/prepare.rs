//! What a creator or updater of a pod may not set, and what follows from the rest.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};

use super::apply_resize;
use berth_core::gates::{FeatureGates, Gate};
use berth_core::qos;

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
    super::label_keys::merge(pod);
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

/// All of `old` but what identifies the write: the name, the version it is based on and who manages which fields.
fn restore(pod: &mut Pod, old: &Pod) -> Pod {
    let mut whole = old.clone();
    whole
        .metadata
        .resource_version
        .clone_from(&pod.metadata.resource_version);
    whole.metadata.managed_fields = pod.metadata.managed_fields.take();
    std::mem::replace(pod, whole)
}

fn moved_on(pod: &mut Pod, old: &Pod) {
    pod.metadata.generation = old.metadata.generation;
    if pod.spec != old.spec {
        pod.metadata.generation = Some(old.metadata.generation.unwrap_or(0) + 1);
    }
}

/// Only the list of ephemeral containers changes, neither labels nor anything else.
pub(super) fn ephemeral_containers(pod: &mut Pod, old: &Pod) {
    let given = restore(pod, old);
    pod.spec.get_or_insert_default().ephemeral_containers =
        given.spec.and_then(|s| s.ephemeral_containers);
    moved_on(pod, old);
}

/// Only resources change, of the pod and of containers that are there, and resize policies.
pub(super) fn resize(pod: &mut Pod, old: &Pod) {
    *pod = apply_resize(pod, old);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(labels: serde_json::Value, image: &str, cpu: &str, debug: bool) -> Pod {
        let mut body = json!({
            "metadata": {"name": "p", "namespace": "n", "generation": 1, "labels": labels},
            "spec": {"containers": [{"name": "c", "image": image, "resources": {"limits": {"cpu": cpu}}}]},
        });
        if debug {
            body["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "i"}]);
        }
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_subresource_changes_its_own_part_and_nothing_else() {
        let old = pod(json!({"a": "1"}), "i", "1", false);
        let given = pod(json!({"a": "2"}), "other", "2", true);
        let mut debugged = given.clone();
        ephemeral_containers(&mut debugged, &old);
        let mut want = pod(json!({"a": "1"}), "i", "1", true);
        want.metadata.generation = Some(2);
        assert_eq!(debugged, want);
        let mut resized = given;
        resize(&mut resized, &old);
        let mut want = pod(json!({"a": "1"}), "i", "2", false);
        want.metadata.generation = Some(2);
        assert_eq!(resized, want);
    }
}
