//! Affinity to nodes and to other pods.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PodAffinityTerm, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use berth_core::meta;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn validate(affinity: Option<&Affinity>, at: &FieldPath) -> Vec<FieldError> {
    let Some(affinity) = affinity else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    if let Some(node) = &affinity.node_affinity {
        errors.extend(to_nodes(node, &at.child("nodeAffinity")));
    }
    if let Some(pods) = &affinity.pod_affinity {
        errors.extend(to_pods(
            pods.required_during_scheduling_ignored_during_execution
                .as_deref(),
            pods.preferred_during_scheduling_ignored_during_execution
                .as_deref(),
            &at.child("podAffinity"),
        ));
    }
    if let Some(pods) = &affinity.pod_anti_affinity {
        errors.extend(to_pods(
            pods.required_during_scheduling_ignored_during_execution
                .as_deref(),
            pods.preferred_during_scheduling_ignored_during_execution
                .as_deref(),
            &at.child("podAntiAffinity"),
        ));
    }
    errors
}

fn weight(errors: &mut Vec<FieldError>, at: &FieldPath, value: i32) {
    if !(1..=100).contains(&value) {
        errors.push(FieldError::invalid(
            &at.child("weight"),
            value,
            "must be in the range 1-100",
        ));
    }
}

fn to_nodes(affinity: &NodeAffinity, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(selector) = &affinity.required_during_scheduling_ignored_during_execution {
        errors.extend(node_selector(selector, &at.child(REQUIRED)));
    }
    let preferred = affinity
        .preferred_during_scheduling_ignored_during_execution
        .iter()
        .flatten();
    for (i, one) in preferred.enumerate() {
        let at = at.child(PREFERRED).index(i);
        weight(&mut errors, &at, one.weight);
        errors.extend(term(&one.preference, false, &at.child("preference")));
    }
    errors
}

/// Terms of which one must fit.
pub(in crate::pod) fn node_selector(selector: &NodeSelector, at: &FieldPath) -> Vec<FieldError> {
    let at = at.child("nodeSelectorTerms");
    let mut errors = Vec::new();
    if selector.node_selector_terms.is_empty() {
        let why = "must have at least one node selector term";
        errors.push(FieldError::required(&at, why));
    }
    for (i, one) in selector.node_selector_terms.iter().enumerate() {
        errors.extend(term(one, true, &at.index(i)));
    }
    errors
}

fn term(term: &NodeSelectorTerm, check_values: bool, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, r) in term.match_expressions.iter().flatten().enumerate() {
        errors.extend(by_label(
            r,
            check_values,
            &at.child("matchExpressions").index(i),
        ));
    }
    for (i, r) in term.match_fields.iter().flatten().enumerate() {
        errors.extend(by_field(r, &at.child("matchFields").index(i)));
    }
    errors
}

fn by_label(r: &NodeSelectorRequirement, check_values: bool, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let values = r.values.as_deref().unwrap_or_default();
    let values_at = at.child("values");
    match r.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
            &values_at,
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
            &values_at,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "Gt" | "Lt" if values.len() != 1 => errors.push(FieldError::required(
            &values_at,
            "must be specified single value when `operator` is 'Lt' or 'Gt'",
        )),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.push(FieldError::invalid(
            &at.child("operator"),
            other,
            "not a valid selector operator",
        )),
    }
    meta::extend_invalid(
        &mut errors,
        &at.child("key"),
        &r.key,
        names::qualified_name(&r.key),
    );
    if check_values {
        for (i, value) in values.iter().enumerate() {
            meta::extend_invalid(
                &mut errors,
                &values_at.index(i),
                value,
                names::label_value(value),
            );
        }
    }
    errors
}

fn by_field(r: &NodeSelectorRequirement, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let values = r.values.as_deref().unwrap_or_default();
    match r.operator.as_str() {
        "In" | "NotIn" if values.len() != 1 => errors.push(FieldError::required(
            &at.child("values"),
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        )),
        "In" | "NotIn" => {}
        other => errors.push(FieldError::invalid(
            &at.child("operator"),
            other,
            "not a valid selector operator",
        )),
    }
    if r.key == "metadata.name" {
        for (i, value) in values.iter().enumerate() {
            let at = at.child("values").index(i);
            meta::extend_invalid(&mut errors, &at, value, names::dns1123_subdomain(value));
        }
    } else {
        errors.push(FieldError::invalid(
            &at.child("key"),
            &r.key,
            "not a valid field selector key",
        ));
    }
    errors
}

fn to_pods(
    required: Option<&[PodAffinityTerm]>,
    preferred: Option<&[WeightedPodAffinityTerm]>,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, one) in required.unwrap_or_default().iter().enumerate() {
        errors.extend(pod_term(one, &at.child(REQUIRED).index(i)));
    }
    for (i, one) in preferred.unwrap_or_default().iter().enumerate() {
        let at = at.child(PREFERRED).index(i);
        weight(&mut errors, &at, one.weight);
        errors.extend(pod_term(
            &one.pod_affinity_term,
            &at.child("podAffinityTerm"),
        ));
    }
    errors
}

fn pod_term(term: &PodAffinityTerm, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, selector) in [
        ("labelSelector", &term.label_selector),
        ("namespaceSelector", &term.namespace_selector),
    ] {
        if let Some(selector) = selector {
            errors.extend(meta::validate_label_selector(selector, &at.child(name)));
        }
    }
    for namespace in term.namespaces.iter().flatten() {
        let complaints = names::dns1123_label(namespace);
        meta::extend_invalid(&mut errors, &at.child("namespace"), namespace, complaints);
    }
    errors.extend(label_keys(
        term.match_label_keys.as_deref(),
        term.mismatch_label_keys.as_deref(),
        term.label_selector.as_ref(),
        at,
    ));
    let key = term.topology_key.as_str();
    if key.is_empty() {
        errors.push(FieldError::required(
            &at.child("topologyKey"),
            "can not be empty",
        ));
    }
    meta::extend_invalid(
        &mut errors,
        &at.child("topologyKey"),
        key,
        names::qualified_name(key),
    );
    errors
}

/// `matchLabelKeys` and `mismatchLabelKeys`.
pub(super) fn label_keys(
    matching: Option<&[String]>,
    mismatching: Option<&[String]>,
    selector: Option<&LabelSelector>,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, keys) in [
        ("matchLabelKeys", matching),
        ("mismatchLabelKeys", mismatching),
    ] {
        let keys = keys.unwrap_or_default();
        let at = at.child(name);
        if !keys.is_empty() && selector.is_none() {
            errors.push(FieldError::forbidden(
                &at,
                "must not be specified when labelSelector is not set",
            ));
            continue;
        }
        for (i, key) in keys.iter().enumerate() {
            meta::extend_invalid(&mut errors, &at.index(i), key, names::qualified_name(key));
        }
    }
    let mismatching: HashSet<&String> = mismatching.unwrap_or_default().iter().collect();
    for (i, key) in matching.unwrap_or_default().iter().enumerate() {
        if mismatching.contains(key) {
            errors.push(FieldError::invalid(
                &at.child("matchLabelKeys").index(i),
                key,
                "exists in both matchLabelKeys and mismatchLabelKeys",
            ));
        }
    }
    errors
}
