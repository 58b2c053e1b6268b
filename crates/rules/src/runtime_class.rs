//! node.k8s.io RuntimeClass.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::node::v1::RuntimeClass;

use crate::Rules;
use crate::network_floor;
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};
use berth_core::resource_list::{self, Holder};
use berth_core::toleration;

impl Rules for RuntimeClass {
    /// Empty lists and maps are as good as none, and not shown.
    fn default(&mut self) {
        if let Some(overhead) = &mut self.overhead {
            overhead.pod_fixed.take_if(|fixed| fixed.is_empty());
        }
        if let Some(scheduling) = &mut self.scheduling {
            scheduling.node_selector.take_if(|s| s.is_empty());
            scheduling.tolerations.take_if(|t| t.is_empty());
        }
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {}

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        errors.extend(validate_body(self));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        meta::immutable(
            &mut errors,
            &FieldPath::new("handler"),
            &self.handler,
            &old.handler,
        );
        errors.extend(validate_body(self));
        errors
    }
}

fn validate_body(class: &RuntimeClass) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = FieldPath::new("handler");
    if class.handler.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        let complaints = names::dns1123_label(&class.handler);
        meta::extend_invalid(&mut errors, &at, &class.handler, complaints);
    }
    if let Some(overhead) = &class.overhead {
        // The reference checks overhead as the limits of a container, and its errors say so.
        errors.extend(resource_list::validate_requirements(
            overhead.pod_fixed.as_ref(),
            None,
            Holder::Container,
            &FieldPath::new("overhead"),
        ));
    }
    if let Some(scheduling) = &class.scheduling {
        let at = FieldPath::new("scheduling");
        if let Some(selector) = &scheduling.node_selector {
            errors.extend(meta::validate_labels(selector, &at.child("nodeSelector")));
        }
        let tolerations = scheduling.tolerations.as_deref().unwrap_or_default();
        let at = at.child("tolerations");
        errors.extend(toleration::validate(tolerations, &at));
        errors.extend(toleration::validate_unique(tolerations, &at));
    }
    errors.extend(network_floor::validate(class));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn causes(errors: &[FieldError]) -> Vec<String> {
        let mut all: Vec<_> = errors
            .iter()
            .map(|e| format!("{} {}", e.kind.reason(), e.field))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    fn class(mut body: Value) -> RuntimeClass {
        body["metadata"] = json!({"name": "x", "resourceVersion": "1"});
        berth_api::decode::from_value(&body).unwrap()
    }

    #[test]
    fn empty_lists_are_not_shown() {
        let mut empty = class(json!({"handler": "h", "overhead": {"podFixed": {}},
            "scheduling": {"nodeSelector": {}, "tolerations": []}}));
        Rules::default(&mut empty);
        let shown = serde_json::to_value(&empty).unwrap();
        assert_eq!(
            (&shown["overhead"], &shown["scheduling"]),
            (&json!({}), &json!({}))
        );
    }

    #[test]
    fn what_is_wrong_with_a_class() {
        let long = "a".repeat(64);
        let limits = |list: Value| json!({"handler": "runc", "overhead": {"podFixed": list}});
        for (body, want) in [
            (json!({"handler": "runc"}), vec![]),
            (json!({"handler": "0"}), vec![]),
            (json!({"handler": ""}), vec!["FieldValueRequired handler"]),
            (json!({}), vec!["FieldValueRequired handler"]),
            (
                json!({"handler": "run.c"}),
                vec!["FieldValueInvalid handler"],
            ),
            (
                json!({"handler": "Runc"}),
                vec!["FieldValueInvalid handler"],
            ),
            (json!({"handler": long}), vec!["FieldValueInvalid handler"]),
            (
                limits(
                    json!({"cpu": "250m", "memory": "120Mi", "ephemeral-storage": "1Gi", "example.com/gpu": 1}),
                ),
                vec![],
            ),
            (
                limits(json!({"cpu": "-1"})),
                vec!["FieldValueInvalid overhead.limits[cpu]"],
            ),
            (
                limits(json!({"frobs": "1"})),
                vec!["FieldValueInvalid overhead.limits[frobs]"],
            ),
            (
                limits(json!({"pods": "3"})),
                vec!["FieldValueInvalid overhead.limits[pods]"],
            ),
            (
                limits(json!({"hugepages-2Mi": "4Mi"})),
                vec!["FieldValueForbidden overhead"],
            ),
            (
                limits(json!({"hugepages-2Mi": "3Mi", "cpu": 1})),
                vec!["FieldValueInvalid overhead.limits[hugepages-2Mi]"],
            ),
            (
                limits(json!({"example.com/gpu": "500m"})),
                vec!["FieldValueInvalid overhead.limits[example.com/gpu]"],
            ),
            (
                limits(json!({"bad name": "1"})),
                vec!["FieldValueInvalid overhead.limits[bad name]"],
            ),
            (
                json!({"handler": "a", "scheduling": {"nodeSelector": {"a": "b"}}}),
                vec![],
            ),
            (
                json!({"handler": "a", "scheduling": {"nodeSelector": {"a": long}}}),
                vec!["FieldValueInvalid scheduling.nodeSelector"],
            ),
            (
                json!({"handler": "a", "scheduling": {"tolerations": [{"key": "k"}, {"key": "k"}]}}),
                vec!["FieldValueDuplicate scheduling.tolerations[1]"],
            ),
            (
                json!({"handler": "a.b", "overhead": {"podFixed": {"cpu": "-1"}}, "scheduling": {"tolerations": [{}]}}),
                vec![
                    "FieldValueInvalid handler",
                    "FieldValueInvalid overhead.limits[cpu]",
                    "FieldValueInvalid scheduling.tolerations[0].operator",
                ],
            ),
        ] {
            assert_eq!(causes(&class(body.clone()).validate()), want, "{body}");
        }
    }

    #[test]
    fn the_handler_is_immutable_the_rest_is_not() {
        let old = class(json!({"handler": "runc"}));
        for (body, want) in [
            (
                json!({"handler": "runc", "overhead": {"podFixed": {"cpu": 1}}, "scheduling": {"nodeSelector": {}}}),
                vec![],
            ),
            (
                json!({"handler": "crun"}),
                vec!["FieldValueInvalid handler"],
            ),
            (
                json!({"handler": "runc", "overhead": {"podFixed": {"cpu": -1}}}),
                vec!["FieldValueInvalid overhead.limits[cpu]"],
            ),
        ] {
            assert_eq!(
                causes(&class(body.clone()).validate_update(&old)),
                want,
                "{body}"
            );
        }
    }
}
