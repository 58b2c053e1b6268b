//! How fast an autoscaler may scale.

use berth_api::field::{FieldError, FieldPath};
use berth_api::quantity::Quantity;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior,
};

use crate::values::{default_text, one_of, one_of_if_set};

const MAX_WINDOW_SECONDS: i32 = 3600;
const MAX_PERIOD_SECONDS: i32 = 1800;

fn policy(kind: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy {
        type_: kind.to_owned(),
        value,
        period_seconds: 15,
    }
}

/// Upwards four pods or as many again at once, downwards all at once.
pub(super) fn set_defaults(behavior: &mut HorizontalPodAutoscalerBehavior) {
    let up = behavior.scale_up.get_or_insert_default();
    up.stabilization_window_seconds.get_or_insert(0);
    default_text(&mut up.select_policy, "Max");
    up.policies
        .get_or_insert_with(|| vec![policy("Pods", 4), policy("Percent", 100)]);
    let down = behavior.scale_down.get_or_insert_default();
    default_text(&mut down.select_policy, "Max");
    down.policies
        .get_or_insert_with(|| vec![policy("Percent", 100)]);
}

pub(super) fn validate(
    behavior: &HorizontalPodAutoscalerBehavior,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, rules) in [
        ("scaleUp", &behavior.scale_up),
        ("scaleDown", &behavior.scale_down),
    ] {
        if let Some(rules) = rules {
            validate_rules(&mut errors, rules, &at.child(name));
        }
    }
    errors
}

fn validate_rules(errors: &mut Vec<FieldError>, rules: &HPAScalingRules, at: &FieldPath) {
    if let Some(seconds) = rules.stabilization_window_seconds {
        let at = at.child("stabilizationWindowSeconds");
        if seconds < 0 {
            let why = "must be greater than or equal to zero";
            errors.push(FieldError::invalid(&at, seconds, why));
        }
        if seconds > MAX_WINDOW_SECONDS {
            let why = format!("must be less than or equal to {MAX_WINDOW_SECONDS}");
            errors.push(FieldError::invalid(&at, seconds, why));
        }
    }
    if let Some(tolerance) = &rules.tolerance {
        let at = at.child("tolerance");
        match tolerance.0.parse::<Quantity>() {
            Ok(quantity) if quantity.is_negative() => {
                let why = "must be greater or equal to zero";
                errors.push(FieldError::invalid(&at, &tolerance.0, why));
            }
            Ok(_) => {}
            Err(error) => errors.push(FieldError::invalid(&at, &tolerance.0, error.to_string())),
        }
    }
    let select = rules.select_policy.as_deref();
    one_of_if_set(
        errors,
        &at.child("selectPolicy"),
        select,
        &["Disabled", "Max", "Min"],
    );
    let at = at.child("policies");
    let policies = rules.policies.as_deref().unwrap_or_default();
    if policies.is_empty() {
        errors.push(FieldError::required(
            &at,
            "must specify at least one Policy",
        ));
    }
    for (i, policy) in policies.iter().enumerate() {
        let at = at.index(i);
        one_of(
            errors,
            &at.child("type"),
            &policy.type_,
            &["Percent", "Pods"],
        );
        for (name, value) in [
            ("value", policy.value),
            ("periodSeconds", policy.period_seconds),
        ] {
            if value <= 0 {
                let why = "must be greater than zero";
                errors.push(FieldError::invalid(&at.child(name), value, why));
            }
        }
        if policy.period_seconds > MAX_PERIOD_SECONDS {
            let why = format!("must be less than or equal to {MAX_PERIOD_SECONDS}");
            errors.push(FieldError::invalid(
                &at.child("periodSeconds"),
                policy.period_seconds,
                why,
            ));
        }
    }
}
