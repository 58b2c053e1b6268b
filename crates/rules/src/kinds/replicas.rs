//! The counts in the status of a ReplicaSet or ReplicationController.

use berth_api::field::{FieldError, FieldPath};

use crate::values::non_negative;

/// Counts of pods, and the generation that they are of.
pub(super) struct Counts {
    pub(super) replicas: i32,
    pub(super) fully_labeled: Option<i32>,
    pub(super) ready: Option<i32>,
    pub(super) available: Option<i32>,
    pub(super) terminating: Option<i32>,
    pub(super) observed_generation: Option<i64>,
}

/// No count is negative, and none is of more pods than there are.
pub(super) fn validate(counts: &Counts) -> Vec<FieldError> {
    let at = FieldPath::new("status");
    let mut errors = Vec::new();
    non_negative(&mut errors, &at.child("replicas"), Some(counts.replicas));
    let parts = [
        ("fullyLabeledReplicas", counts.fully_labeled),
        ("readyReplicas", counts.ready),
        ("availableReplicas", counts.available),
    ];
    for (name, value) in parts {
        non_negative(&mut errors, &at.child(name), value);
    }
    non_negative(
        &mut errors,
        &at.child("terminatingReplicas"),
        counts.terminating,
    );
    non_negative(
        &mut errors,
        &at.child("observedGeneration"),
        counts.observed_generation,
    );
    for (name, value) in parts {
        if let Some(value) = value.filter(|value| *value > counts.replicas) {
            let why = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(&at.child(name), value, why));
        }
    }
    let available = counts.available.unwrap_or(0);
    if available > counts.ready.unwrap_or(0) {
        let why = "cannot be greater than readyReplicas";
        errors.push(FieldError::invalid(
            &at.child("availableReplicas"),
            available,
            why,
        ));
    }
    errors
}
