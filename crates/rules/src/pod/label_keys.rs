//! `matchLabelKeys` and `mismatchLabelKeys` of pod affinity (KEP-3633): written into the label selector when the pod is created, so
//! that schedulers look at the selector alone.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

/// Does it for each term of the pod. A key that the pod has no label of means nothing.
pub(super) fn merge(pod: &mut Pod) {
    let Pod { metadata, spec, .. } = pod;
    let none = BTreeMap::new();
    let labels = metadata.labels.as_ref().unwrap_or(&none);
    let spec = spec.as_mut();
    let Some(affinity) = spec.and_then(|spec| spec.affinity.as_mut()) else {
        return;
    };
    let near = affinity.pod_affinity.iter_mut().map(|all| {
        (
            &mut all.required_during_scheduling_ignored_during_execution,
            &mut all.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let apart = affinity.pod_anti_affinity.iter_mut().map(|all| {
        (
            &mut all.required_during_scheduling_ignored_during_execution,
            &mut all.preferred_during_scheduling_ignored_during_execution,
        )
    });
    for (required, preferred) in near.chain(apart) {
        let preferred = preferred.iter_mut().flatten();
        let preferred = preferred.map(|one| &mut one.pod_affinity_term);
        for term in required.iter_mut().flatten().chain(preferred) {
            merge_term(term, labels);
        }
    }
}

fn merge_term(term: &mut PodAffinityTerm, labels: &BTreeMap<String, String>) {
    let Some(selector) = term.label_selector.as_mut() else {
        return;
    };
    let keys = [
        (&term.match_label_keys, "In"),
        (&term.mismatch_label_keys, "NotIn"),
    ];
    for (keys, operator) in keys {
        for key in keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                let expressions = selector.match_expressions.get_or_insert_default();
                expressions.push(LabelSelectorRequirement {
                    key: key.clone(),
                    operator: operator.to_owned(),
                    values: Some(vec![value.clone()]),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_become_requirements_of_the_pods_own_values() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"labels": {"app": "web", "hash": "1", "tenant": "a"}},
            "spec": {"containers": [], "affinity": {
                "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm":
                    {"topologyKey": "k", "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["hash", "none"]}}]},
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "k", "labelSelector": {}, "mismatchLabelKeys": ["tenant"]},
                    {"topologyKey": "k"}]},
            }},
        }))
        .unwrap();
        merge(&mut pod);
        let affinity = serde_json::to_value(pod.spec.unwrap().affinity.unwrap()).unwrap();
        let near = &affinity["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(
            near["podAffinityTerm"]["labelSelector"]["matchExpressions"],
            json!([{"key": "hash", "operator": "In", "values": ["1"]}])
        );
        let apart = &affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(
            apart[0]["labelSelector"]["matchExpressions"],
            json!([{"key": "tenant", "operator": "NotIn", "values": ["a"]}])
        );
        assert_eq!(apart[1]["labelSelector"], json!(null));
    }
}
