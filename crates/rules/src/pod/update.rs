//! What an update of a pod may change: images, the deadline (only shorter), tolerations (only more), scheduling
//! gates (only fewer), and of a gated pod its node selector and node affinity (only narrower).

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::{Affinity, Container, NodeAffinity, Pod, PodSpec, Toleration};

use super::validate;
use berth_core::{meta, toleration};

const CHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`, \
     `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to existing \
     tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate(pod: &Pod, old: &Pod) -> Vec<FieldError> {
    let mut errors = meta::validate_update(&pod.metadata, &old.metadata);
    errors.extend(validate::metadata_and_spec(pod));
    let none = PodSpec::default();
    let (new, old) = (
        pod.spec.as_ref().unwrap_or(&none),
        old.spec.as_ref().unwrap_or(&none),
    );
    let at = FieldPath::new("spec");
    for (name, new, old) in [
        (
            "containers",
            new.containers.as_slice(),
            old.containers.as_slice(),
        ),
        (
            "initContainers",
            list(&new.init_containers),
            list(&old.init_containers),
        ),
    ] {
        if new.len() != old.len() {
            errors.push(FieldError::forbidden(
                &at.child(name),
                "pod updates may not add or remove containers",
            ));
            return errors;
        }
        // An empty or padded image was reported above.
    }
    if !deadline(new, old, &at, &mut errors) {
        return errors;
    }
    errors.extend(only_more_tolerations(
        new.tolerations.as_deref().unwrap_or_default(),
        old.tolerations.as_deref().unwrap_or_default(),
        &at.child("tolerations"),
    ));
    let old_gates = old.scheduling_gates.as_deref().unwrap_or_default();
    let gate_names: HashSet<&str> = old_gates.iter().map(|g| g.name.as_str()).collect();
    for (i, gate) in new.scheduling_gates.iter().flatten().enumerate() {
        if !gate_names.contains(gate.name.as_str()) {
            errors.push(FieldError::forbidden(
                &at.child("schedulingGates").index(i).child("name"),
                format!(
                    "only deletion is allowed, but found new scheduling gate '{}'",
                    gate.name
                ),
            ));
        }
    }
    if new == old {
        return errors;
    }
    let mut rest = new.clone();
    put_back(&mut rest, old);
    if !old_gates.is_empty() {
        errors.extend(gated(&mut rest, old, &at));
    }
    if !same(&rest, old) {
        errors.push(FieldError::forbidden(&at, CHANGEABLE));
    }
    errors
}

fn list(containers: &Option<Vec<Container>>) -> &[Container] {
    containers.as_deref().unwrap_or_default()
}

/// Equal but for empty lists and maps that one of them leaves out.
pub(super) fn same(a: &PodSpec, b: &PodSpec) -> bool {
    a == b || {
        // What cannot be compared is not the same.
        let bare = |spec: &PodSpec| {
            let mut value = serde_json::to_value(spec).ok()?;
            drop_empty(&mut value);
            Some(value)
        };
        matches!((bare(a), bare(b)), (Some(a), Some(b)) if a == b)
    }
}

fn drop_empty(value: &mut serde_json::Value) {
    use serde_json::Value;
    let empty = |v: &Value| match v {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(drop_empty);
            // Empty objects say something where they are a volume's source or a container's resources.
            map.retain(|key, v| {
                !(empty(v)
                    || (matches!(key.as_str(), "nodeSelector" | "overhead")
                        && v == &serde_json::json!({})))
            });
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether to go on after the deadline.
fn deadline(new: &PodSpec, old: &PodSpec, at: &FieldPath, errors: &mut Vec<FieldError>) -> bool {
    let at = at.child("activeDeadlineSeconds");
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.push(FieldError::invalid(
                &at,
                seconds,
                "must be between 0 and 2147483647, inclusive",
            ));
            false
        }
        (Some(seconds), Some(before)) if seconds > before => {
            errors.push(FieldError::invalid(
                &at,
                seconds,
                "must be less than or equal to previous value",
            ));
            false
        }
        (None, Some(_)) => {
            errors.push(FieldError::invalid(
                &at,
                None::<i64>,
                "must not update from a positive integer to nil value",
            ));
            true
        }
        _ => true,
    }
}

fn only_more_tolerations(
    new: &[Toleration],
    old: &[Toleration],
    at: &FieldPath,
) -> Vec<FieldError> {
    type Identity<'t> = [&'t Option<String>; 4];
    // All but the seconds, which may change.
    fn identity(t: &Toleration) -> Identity<'_> {
        [&t.key, &t.operator, &t.value, &t.effect]
    }
    let kept: HashSet<Identity<'_>> = new.iter().map(identity).collect();
    if !old.iter().all(|t| kept.contains(&identity(t))) {
        return vec![FieldError::forbidden(
            at,
            "existing toleration can not be modified except its tolerationSeconds",
        )];
    }
    toleration::validate(new, at)
}

/// Takes the changes back that are allowed, so that what is left must be as before.
fn put_back(rest: &mut PodSpec, old: &PodSpec) {
    let images = |new: &mut [Container], old: &[Container]| {
        for (new, old) in new.iter_mut().zip(old) {
            new.image.clone_from(&old.image);
        }
    };
    images(&mut rest.containers, &old.containers);
    if let (Some(new), Some(old)) = (rest.init_containers.as_mut(), old.init_containers.as_ref()) {
        images(new, old);
    }
    rest.active_deadline_seconds = old.active_deadline_seconds;
    rest.scheduling_gates.clone_from(&old.scheduling_gates);
    rest.tolerations.clone_from(&old.tolerations);
    if old.termination_grace_period_seconds.is_some_and(|s| s < 0)
        && rest.termination_grace_period_seconds == Some(1)
    {
        rest.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
}

/// A gated pod may still be narrowed to fewer nodes.
fn gated(rest: &mut PodSpec, old: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if rest.node_selector != old.node_selector {
        let kept =
            |(key, value)| rest.node_selector.as_ref().and_then(|s| s.get(key)) == Some(value);
        if !old.node_selector.iter().flatten().all(kept) {
            errors.push(FieldError::invalid(
                &at.child("nodeSelector"),
                &rest.node_selector,
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
            ));
        }
        rest.node_selector.clone_from(&old.node_selector);
    }
    let of = |spec: &PodSpec| spec.affinity.as_ref().and_then(|a| a.node_affinity.clone());
    let (new_affinity, old_affinity) = (of(rest), of(old));
    if new_affinity != old_affinity {
        errors.extend(narrowed(
            new_affinity.as_ref(),
            old_affinity.as_ref(),
            &at.child("affinity.nodeAffinity"),
        ));
        let affinity = rest.affinity.get_or_insert_with(Affinity::default);
        affinity.node_affinity = old_affinity;
        if old.affinity.is_none() && *affinity == Affinity::default() {
            rest.affinity = None;
        }
    }
    errors
}

/// Required terms may only get more expressions; terms can neither come nor go.
fn narrowed(
    new: Option<&NodeAffinity>,
    old: Option<&NodeAffinity>,
    at: &FieldPath,
) -> Option<FieldError> {
    let terms = |a: Option<&NodeAffinity>| {
        a.and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        })
        .map(|r| r.node_selector_terms.clone())
        .unwrap_or_default()
    };
    let (new, old) = (terms(new), terms(old));
    if old.is_empty() {
        return None;
    }
    let at = at.child("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
    if new.len() != old.len() {
        return Some(FieldError::invalid(
            &at,
            new,
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        ));
    }
    for (i, (new, old)) in new.iter().zip(&old).enumerate() {
        let begins = |new: &Option<Vec<_>>, old: &Option<Vec<_>>| {
            new.as_deref()
                .unwrap_or_default()
                .starts_with(old.as_deref().unwrap_or_default())
        };
        let empty_before = old.match_expressions.as_ref().is_none_or(Vec::is_empty)
            && old.match_fields.as_ref().is_none_or(Vec::is_empty);
        let kept = begins(&new.match_expressions, &old.match_expressions)
            && begins(&new.match_fields, &old.match_fields);
        if !kept || (empty_before && new != old) {
            return Some(FieldError::invalid(
                &at.index(i),
                new,
                "only additions are allowed (no mutations or deletions)",
            ));
        }
    }
    None
}
