//! Binding a pod to a node.

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::{Binding, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use thiserror::Error;

/// Why a pod cannot be bound: a 409.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BindError {
    /// It is being deleted.
    #[error("pod {0} is being deleted, cannot be assigned to a host")]
    BeingDeleted(String),
    /// It has a node.
    #[error("pod {pod} is already assigned to node {node:?}")]
    Assigned {
        /// The pod.
        pod: String,
        /// Its node.
        node: String,
    },
    /// It is gated.
    #[error("pod {0} has non-empty .spec.schedulingGates")]
    Gated(String),
    /// The binding is of another pod of the same name.
    #[error("Precondition failed: UID in precondition: {want}, UID in object meta: {have}")]
    OtherPod {
        /// The binding's.
        want: String,
        /// The pod's.
        have: String,
    },
    /// The binding is of an older state of the pod.
    #[error(
        "Precondition failed: ResourceVersion in precondition: {want}, ResourceVersion in object meta: {have}"
    )]
    OtherVersion {
        /// The binding's.
        want: String,
        /// The pod's.
        have: String,
    },
}

/// What is wrong with a binding.
#[must_use]
pub fn validate(binding: &Binding) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = binding.target.kind.as_deref().unwrap_or_default();
    if !kind.is_empty() && kind != "Node" {
        errors.push(FieldError::not_supported(
            &FieldPath::new("target.kind"),
            kind,
            &["Node", "<empty>"],
        ));
    }
    if binding
        .target
        .name
        .as_deref()
        .unwrap_or_default()
        .is_empty()
    {
        errors.push(FieldError::required(&FieldPath::new("target.name"), ""));
    }
    errors
}

/// Assigns the pod and says so in its conditions; the binding's annotations and labels go to the pod.
///
/// # Errors
/// [`BindError`].
pub fn assign(pod: &mut Pod, binding: &Binding, now: Time) -> Result<(), BindError> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let text = |m: &Option<String>| m.clone().unwrap_or_default();
    let (want, have) = (text(&binding.metadata.uid), text(&pod.metadata.uid));
    if !want.is_empty() && want != have {
        return Err(BindError::OtherPod { want, have });
    }
    let (want, have) = (
        text(&binding.metadata.resource_version),
        text(&pod.metadata.resource_version),
    );
    if !want.is_empty() && want != have {
        return Err(BindError::OtherVersion { want, have });
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Err(BindError::BeingDeleted(name));
    }
    let spec = pod.spec.get_or_insert_default();
    if let Some(node) = spec.node_name.clone().filter(|n| !n.is_empty()) {
        return Err(BindError::Assigned { pod: name, node });
    }
    if spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|g| !g.is_empty())
    {
        return Err(BindError::Gated(name));
    }
    spec.node_name.clone_from(&binding.target.name);
    if let Some(annotations) = &binding.metadata.annotations {
        pod.metadata
            .annotations
            .get_or_insert_default()
            .extend(annotations.clone());
    }
    if let Some(labels) = &binding.metadata.labels {
        pod.metadata
            .labels
            .get_or_insert_default()
            .extend(labels.clone());
    }
    let generation = pod.metadata.generation;
    let conditions = pod
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let scheduled = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "True".to_owned(),
        observed_generation: generation,
        last_transition_time: Some(now),
        ..PodCondition::default()
    };
    match conditions.iter_mut().find(|c| c.type_ == scheduled.type_) {
        Some(before) => *before = scheduled,
        None => conditions.push(scheduled),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn assigned(pod: Value, binding: Value) -> Result<Pod, BindError> {
        let mut pod: Pod = serde_json::from_value(pod).unwrap();
        let binding: Binding = serde_json::from_value(binding).unwrap();
        let now: Time = serde_json::from_value(json!("2024-01-01T00:00:00Z")).unwrap();
        assign(&mut pod, &binding, now).map(|()| pod)
    }

    #[test]
    fn a_pod_is_bound_once() {
        let pod = |spec: Value| {
            let mut spec = spec;
            spec["containers"] = json!([]);
            json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec})
        };
        let to = json!({"metadata": {"name": "p", "annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n1"}});
        let bound = assigned(pod(json!({})), to.clone()).unwrap();
        assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("n1"));
        assert_eq!(bound.status.unwrap().conditions.unwrap()[0].status, "True");
        assert_eq!(bound.metadata.annotations.unwrap()["a"], "b");
        assert_eq!(
            assigned(pod(json!({"nodeName": "n0"})), to.clone()).unwrap_err(),
            BindError::Assigned {
                pod: "p".into(),
                node: "n0".into()
            }
        );
        assert_eq!(
            assigned(pod(json!({"schedulingGates": [{"name": "g"}]})), to.clone()).unwrap_err(),
            BindError::Gated("p".into())
        );
        let mut other = to.clone();
        other["metadata"]["uid"] = json!("v");
        assert!(matches!(
            assigned(pod(json!({})), other),
            Err(BindError::OtherPod { .. })
        ));
        let mut older = to;
        older["metadata"]["resourceVersion"] = json!("1");
        assert!(matches!(
            assigned(pod(json!({})), older),
            Err(BindError::OtherVersion { .. })
        ));
    }

    #[test]
    fn bindings() {
        for (target, want) in [
            (json!({"name": "n"}), vec![]),
            (json!({"kind": "Node", "name": "n"}), vec![]),
            (
                json!({"kind": "Pod"}),
                vec![
                    "FieldValueNotSupported target.kind",
                    "FieldValueRequired target.name",
                ],
            ),
        ] {
            let binding: Binding = serde_json::from_value(json!({"target": target})).unwrap();
            let got: Vec<_> = validate(&binding)
                .iter()
                .map(|e| format!("{} {}", e.kind.reason(), e.field))
                .collect();
            assert_eq!(got, want, "{target}");
        }
    }
}
