//! When a job counts as failed or as done: `podFailurePolicy` and `successPolicy`.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicyRule,
};

use super::{INDEXED, MAX_INDEXES};
use crate::values::{non_negative, one_of, positive, text};
use berth_core::meta;

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_CONDITIONS: usize = 20;
/// How long a list of indexes may be.
const MAX_INDEX_TEXT: usize = 64 * 1024;

pub(super) fn set_defaults(spec: &mut JobSpec) {
    for rule in spec
        .pod_failure_policy
        .iter_mut()
        .flat_map(|p| &mut p.rules)
    {
        for pattern in rule.on_pod_conditions.iter_mut().flatten() {
            crate::values::default_text(&mut pattern.status, "True");
        }
    }
}

pub(super) fn validate(spec: &JobSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(policy) = &spec.pod_failure_policy {
        let at = at.child("podFailurePolicy.rules");
        if policy.rules.len() > MAX_RULES {
            errors.push(FieldError::too_many(&at, policy.rules.len(), MAX_RULES));
        } else {
            for (i, rule) in policy.rules.iter().enumerate() {
                errors.extend(failure_rule(spec, rule, &at.index(i)));
            }
        }
    }
    if let Some(policy) = &spec.success_policy {
        let at = at.child("successPolicy");
        if text(&spec.completion_mode) != INDEXED {
            let why = "requires indexed completion mode";
            errors.push(FieldError::invalid(&at, policy, why));
        }
        let at = at.child("rules");
        if policy.rules.is_empty() {
            let why = "at least one rules must be specified when the successPolicy is specified";
            errors.push(FieldError::required(&at, why));
        } else if policy.rules.len() > MAX_RULES {
            errors.push(FieldError::too_many(&at, policy.rules.len(), MAX_RULES));
        } else {
            for (i, rule) in policy.rules.iter().enumerate() {
                errors.extend(success_rule(spec, rule, &at.index(i)));
            }
        }
    }
    errors
}

fn failure_rule(spec: &JobSpec, rule: &PodFailurePolicyRule, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
    one_of(&mut errors, &at.child("action"), &rule.action, &actions);
    if rule.action == "FailIndex" && spec.backoff_limit_per_index.is_none() {
        let why = "requires the backoffLimitPerIndex to be set";
        errors.push(FieldError::invalid(&at.child("action"), &rule.action, why));
    }
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
    match (&rule.on_exit_codes, conditions.is_empty()) {
        (Some(_), false) => errors.push(FieldError::invalid(
            at,
            rule,
            "specifying both OnExitCodes and OnPodConditions is not supported",
        )),
        (None, true) => errors.push(FieldError::invalid(
            at,
            rule,
            "specifying one of OnExitCodes and OnPodConditions is required",
        )),
        (Some(_), true) | (None, false) => {}
    }
    if let Some(codes) = &rule.on_exit_codes {
        errors.extend(exit_codes(spec, codes, &at.child("onExitCodes")));
    }
    let at = at.child("onPodConditions");
    if conditions.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(&at, conditions.len(), MAX_CONDITIONS));
        return errors;
    }
    for (i, pattern) in conditions.iter().enumerate() {
        let at = at.index(i);
        let kind = &pattern.type_;
        meta::extend_invalid(
            &mut errors,
            &at.child("type"),
            kind,
            names::qualified_name(kind),
        );
        let status = text(&pattern.status);
        one_of(
            &mut errors,
            &at.child("status"),
            status,
            &["False", "True", "Unknown"],
        );
    }
    errors
}

fn exit_codes(
    spec: &JobSpec,
    codes: &PodFailurePolicyOnExitCodesRequirement,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    one_of(
        &mut errors,
        &at.child("operator"),
        &codes.operator,
        &["In", "NotIn"],
    );
    if let Some(name) = &codes.container_name {
        let pods = spec.template.spec.as_ref();
        let init = pods.iter().flat_map(|s| s.init_containers.iter().flatten());
        let mut known = pods.iter().flat_map(|s| &s.containers).chain(init);
        if !known.any(|container| container.name == *name) {
            let why = "must be one of the container or initContainer names in the pod template";
            errors.push(FieldError::invalid(&at.child("containerName"), name, why));
        }
    }
    let at = at.child("values");
    if codes.values.is_empty() {
        errors.push(FieldError::invalid(
            &at,
            &codes.values,
            "at least one value is required",
        ));
    } else if codes.values.len() > MAX_EXIT_CODES {
        errors.push(FieldError::too_many(
            &at,
            codes.values.len(),
            MAX_EXIT_CODES,
        ));
        return errors;
    }
    let mut seen = HashSet::new();
    let is_ordered = codes.values.is_sorted();
    for (i, code) in codes.values.iter().enumerate() {
        if *code == 0 && codes.operator == "In" {
            let why = "must not be 0 for the In operator";
            errors.push(FieldError::invalid(&at.index(i), code, why));
        }
        if !seen.insert(code) {
            errors.push(FieldError::duplicate(&at.index(i), code));
        }
    }
    if !is_ordered {
        errors.push(FieldError::invalid(&at, &codes.values, "must be ordered"));
    }
    errors
}

fn success_rule(spec: &JobSpec, rule: &SuccessPolicyRule, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(at, why));
    }
    let completions = spec.completions.unwrap_or(0);
    let mut total = None;
    if let Some(indexes) = &rule.succeeded_indexes {
        let at = at.child("succeededIndexes");
        if indexes.len() > MAX_INDEX_TEXT {
            errors.push(FieldError::too_long(&at, MAX_INDEX_TEXT));
        } else {
            match count_indexes(indexes, completions) {
                Ok(count) => total = Some(count),
                Err(why) => errors.push(FieldError::invalid(
                    &at,
                    indexes,
                    format!("error parsing succeededIndexes: {why}"),
                )),
            }
        }
    }
    if let Some(count) = rule.succeeded_count {
        let at = at.child("succeededCount");
        non_negative(&mut errors, &at, Some(count));
        positive(&mut errors, &at, i64::from(count));
        let most = format!(
            "must be less than or equal to {completions} (the number of specified completions)"
        );
        if count > completions {
            errors.push(FieldError::invalid(&at, count, most));
        }
        if let Some(total) = total.filter(|total| count > *total) {
            let why = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(FieldError::invalid(&at, count, why));
        }
    }
    errors
}

/// How many indexes a list such as `0,2-4` names: ascending, each below `completions`.
fn count_indexes(list: &str, completions: i32) -> Result<i32, String> {
    let mut count = 0_i32;
    let mut before = -1;
    for part in list.split(',').filter(|_| !list.is_empty()) {
        let number = |text: &str| {
            let parsed = text.parse::<i32>().ok().filter(|_| !text.starts_with('+'));
            parsed.ok_or_else(|| format!("cannot convert string to integer for index: {text:?}"))
        };
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first <= before || last < first {
            return Err(format!(
                "non-increasing order, previous: {before}, current: {part}"
            ));
        }
        if last >= completions.min(MAX_INDEXES) {
            return Err(format!("too large index: {part:?}"));
        }
        count = count.saturating_add(last - first + 1);
        before = last;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes() {
        assert_eq!(count_indexes("", 5), Ok(0));
        assert_eq!(count_indexes("0,2-4", 5), Ok(4));
        for bad in ["5", "1,0", "2-1", "-1", "a", "1,,2", "0-2147483647", "+1"] {
            assert!(count_indexes(bad, 5).is_err(), "{bad}");
        }
    }
}
