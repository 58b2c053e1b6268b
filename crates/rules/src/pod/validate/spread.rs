//! Topology spread constraints.

use std::collections::HashMap;

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::PodSpec;

use super::affinity;
use berth_core::meta;

fn positive(errors: &mut Vec<FieldError>, at: &FieldPath, value: i32) {
    if value <= 0 {
        errors.push(FieldError::invalid(at, value, "must be greater than zero"));
    }
}

pub(super) fn validate(spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let all = spec
        .topology_spread_constraints
        .as_deref()
        .unwrap_or_default();
    // The reference reports the earlier of two that are the same.
    let last: HashMap<(&str, &str), usize> = all
        .iter()
        .enumerate()
        .map(|(i, c)| ((c.topology_key.as_str(), c.when_unsatisfiable.as_str()), i))
        .collect();
    for (i, c) in all.iter().enumerate() {
        let at = at.index(i);
        positive(&mut errors, &at.child("maxSkew"), c.max_skew);
        if c.topology_key.is_empty() {
            errors.push(FieldError::required(
                &at.child("topologyKey"),
                "can not be empty",
            ));
        }
        if !matches!(
            c.when_unsatisfiable.as_str(),
            "DoNotSchedule" | "ScheduleAnyway"
        ) {
            errors.push(FieldError::not_supported(
                &at.child("whenUnsatisfiable"),
                &c.when_unsatisfiable,
                &["DoNotSchedule", "ScheduleAnyway"],
            ));
        }
        let key = (c.topology_key.as_str(), c.when_unsatisfiable.as_str());
        if last.get(&key).is_some_and(|last| *last > i) {
            errors.push(FieldError::duplicate(
                &at.child("{topologyKey, whenUnsatisfiable}"),
                format!("{{{}, {}}}", c.topology_key, c.when_unsatisfiable),
            ));
        }
        if let Some(domains) = c.min_domains {
            let at = at.child("minDomains");
            positive(&mut errors, &at, domains);
            if c.when_unsatisfiable != "DoNotSchedule" {
                errors.push(FieldError::invalid(
                    &at,
                    domains,
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule",
                ));
            }
        }
        for (name, policy) in [
            ("nodeAffinityPolicy", &c.node_affinity_policy),
            ("nodeTaintsPolicy", &c.node_taints_policy),
        ] {
            if let Some(policy) = policy
                .as_deref()
                .filter(|p| !matches!(*p, "Honor" | "Ignore"))
            {
                errors.push(FieldError::not_supported(
                    &at.child(name),
                    policy,
                    &["Honor", "Ignore"],
                ));
            }
        }
        errors.extend(affinity::label_keys(
            c.match_label_keys.as_deref(),
            None,
            c.label_selector.as_ref(),
            &at,
        ));
        if let Some(selector) = &c.label_selector {
            errors.extend(meta::validate_label_selector(
                selector,
                &at.child("labelSelector"),
            ));
        }
    }
    errors
}
