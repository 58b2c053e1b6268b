//! Tolerations: validation, whether one covers another, merging, and matching taints.

use std::collections::{HashMap, HashSet};

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::meta::extend_invalid;

/// Effects that a taint can have.
pub const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// Tolerations as pods and classes hold them.
#[must_use]
pub fn validate(tolerations: &[Toleration], at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, t) in tolerations.iter().enumerate() {
        let at = at.index(i);
        let (key, operator, value, effect) = (
            text(&t.key),
            text(&t.operator),
            text(&t.value),
            text(&t.effect),
        );
        if !key.is_empty() {
            extend_invalid(
                &mut errors,
                &at.child("key"),
                key,
                names::qualified_name(key),
            );
        } else if operator != "Exists" {
            errors.push(FieldError::invalid(
                &at.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if t.toleration_seconds.is_some() && effect != "NoExecute" {
            errors.push(FieldError::invalid(
                &at.child("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        match operator {
            "Equal" | "" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.push(FieldError::invalid(
                        &at.child("operator"),
                        value,
                        wrong.join("; "),
                    ));
                }
            }
            "Exists" if !value.is_empty() => errors.push(FieldError::invalid(
                &at.child("operator"),
                value,
                "value must be empty when `operator` is 'Exists'",
            )),
            "Exists" => {}
            other => errors.push(FieldError::not_supported(
                &at.child("operator"),
                other,
                &["Equal", "Exists"],
            )),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.push(FieldError::not_supported(
                &at.child("effect"),
                effect,
                &EFFECTS,
            ));
        }
    }
    errors
}

/// No two tolerations with the same key, operator, value and effect.
#[must_use]
pub fn validate_unique(tolerations: &[Toleration], at: &FieldPath) -> Vec<FieldError> {
    let mut before = HashSet::new();
    tolerations
        .iter()
        .enumerate()
        .filter(|(_, t)| !before.insert(identity(t)))
        .map(|(i, t)| FieldError::duplicate(&at.index(i), t))
        .collect()
}

/// What makes a toleration itself, its duration apart.
fn identity(t: &Toleration) -> (&str, &str, &str, &str) {
    (
        text(&t.key),
        text(&t.operator),
        text(&t.value),
        text(&t.effect),
    )
}

fn same(a: &Toleration, b: &Toleration) -> bool {
    identity(a) == identity(b) && a.toleration_seconds == b.toleration_seconds
}

/// Whether whatever `narrow` tolerates, `wide` tolerates too, as the reference decides it: an unset operator of
/// `narrow` is covered only by the very same toleration or by `Exists`.
#[must_use]
pub fn is_superset(wide: &Toleration, narrow: &Toleration) -> bool {
    if same(wide, narrow) {
        return true;
    }
    let any_key = text(&wide.key).is_empty() && text(&wide.operator) == "Exists";
    if !any_key && text(&wide.key) != text(&narrow.key) {
        return false;
    }
    if !text(&wide.effect).is_empty() && text(&wide.effect) != text(&narrow.effect) {
        return false;
    }
    // Without a bound `wide` lasts forever.
    if text(&wide.effect) == "NoExecute"
        && let Some(bound) = wide.toleration_seconds
        && narrow.toleration_seconds.is_none_or(|n| n > bound)
    {
        return false;
    }
    match text(&wide.operator) {
        "Equal" | "" => {
            text(&narrow.operator) == "Equal" && text(&wide.value) == text(&narrow.value)
        }
        "Exists" => true,
        _ => false,
    }
}

/// The union: of each pair where one covers the other only the wider stays, the earlier where both do.
/// The order is that of `first`, then `second`.
#[must_use]
pub fn merge(first: &[Toleration], second: &[Toleration]) -> Vec<Toleration> {
    // Of those that are the same in everything the first one stays, so that afterwards only another one covers.
    let mut seen = HashSet::new();
    let all: Vec<&Toleration> = first
        .iter()
        .chain(second)
        .filter(|t| seen.insert((identity(t), t.toleration_seconds)))
        .collect();
    let mut later = Cover::default();
    let mut is_covered_later = vec![false; all.len()];
    for (covered, t) in is_covered_later.iter_mut().zip(&all).rev() {
        *covered = later.covers(t);
        later.add(t);
    }
    let mut kept = Cover::default();
    let mut merged = Vec::new();
    for (t, covered) in all.into_iter().zip(is_covered_later) {
        if !covered && !kept.covers(t) {
            kept.add(t);
            merged.push(t.clone());
        }
    }
    merged
}

/// What a set of tolerations covers as [`is_superset`] says, without comparing each with each: pods choose how many
/// tolerations they have.
#[derive(Default)]
struct Cover<'t> {
    /// Of operator `Exists`, by key and effect: for how long at most, `None` without bound.
    any_value: HashMap<(&'t str, &'t str), Option<i64>>,
    /// Of operator `Equal`, by key, effect and value.
    equal: HashMap<(&'t str, &'t str, &'t str), Option<i64>>,
}

impl<'t> Cover<'t> {
    fn add(&mut self, t: &'t Toleration) {
        let (key, operator, value, effect) = identity(t);
        let bound = t.toleration_seconds.filter(|_| effect == "NoExecute");
        let longest = match operator {
            "Exists" => self.any_value.entry((key, effect)).or_insert(bound),
            "Equal" | "" => self.equal.entry((key, effect, value)).or_insert(bound),
            _ => return,
        };
        *longest = match (*longest, bound) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (None, _) | (_, None) => None,
        };
    }

    fn covers(&self, t: &Toleration) -> bool {
        let (key, operator, value, effect) = identity(t);
        let lasts = |bound: Option<&Option<i64>>| match bound {
            None => false,
            Some(None) => true,
            Some(Some(bound)) => t.toleration_seconds.is_some_and(|own| own <= *bound),
        };
        // An empty key or effect stands for all.
        ["", effect].into_iter().any(|effect| {
            lasts(self.any_value.get(&("", effect)))
                || lasts(self.any_value.get(&(key, effect)))
                || (operator == "Equal" && lasts(self.equal.get(&(key, effect, value))))
        })
    }
}

/// Whether a toleration tolerates a taint.
#[must_use]
pub fn tolerates(t: &Toleration, taint: &Taint) -> bool {
    if !text(&t.effect).is_empty() && text(&t.effect) != taint.effect {
        return false;
    }
    if !text(&t.key).is_empty() && text(&t.key) != taint.key {
        return false;
    }
    match text(&t.operator) {
        "Equal" | "" => text(&t.value) == text(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

/// The first of the taints that the filter wants looked at and that nothing tolerates.
pub fn first_untolerated<'t>(
    taints: &'t [Taint],
    tolerations: &[Toleration],
    relevant: impl Fn(&Taint) -> bool,
) -> Option<&'t Taint> {
    taints
        .iter()
        .find(|taint| relevant(taint) && !tolerations.iter().any(|t| tolerates(t, taint)))
}

#[cfg(test)]
mod tests;
