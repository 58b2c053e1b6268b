//! `spec.successPolicy`: which indexes are enough (KEP-3998).

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::SuccessPolicy;

use super::indexes::parse;

/// The number of the first rule that is met.
pub(super) fn matching_rule(
    policy: &SuccessPolicy,
    succeeded: &BTreeSet<i32>,
    completions: i32,
) -> Option<usize> {
    policy.rules.iter().position(|rule| {
        let wanted = rule
            .succeeded_indexes
            .as_deref()
            .map(|text| parse(text, completions));
        let reached = match &wanted {
            Some(wanted) => succeeded.intersection(wanted).count(),
            None => succeeded.len(),
        };
        match (rule.succeeded_count, wanted) {
            (Some(count), _) => reached >= crate::pod::length(count),
            (None, Some(wanted)) => reached == wanted.len(),
            (None, None) => false,
        }
    })
}
