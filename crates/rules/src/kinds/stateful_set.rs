//! apps/v1 StatefulSet.

use std::collections::BTreeSet;

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use berth_core::selector;
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetStatus,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume};

use crate::Rules;
use crate::pod::template;
use crate::values::{
    at_most_all, default_text, int_or_percent, is_none_of_all, non_negative, not_decremented, text,
};
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

const ROLLING_UPDATE: &str = "RollingUpdate";
const ON_DELETE: &str = "OnDelete";
const RETENTIONS: [&str; 2] = ["Retain", "Delete"];
const FIXED: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
     'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
     forbidden";

impl Rules for StatefulSet {
    fn default(&mut self) {
        let Some(spec) = &mut self.spec else {
            return;
        };
        template::set_defaults(&mut spec.template);
        default_text(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        default_text(&mut strategy.type_, ROLLING_UPDATE);
        if strategy.type_.as_deref() == Some(ROLLING_UPDATE) {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.partition.get_or_insert(0);
        }
        let retention = spec
            .persistent_volume_claim_retention_policy
            .get_or_insert_default();
        default_text(&mut retention.when_deleted, "Retain");
        default_text(&mut retention.when_scaled, "Retain");
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            Rules::default(claim);
        }
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(StatefulSetStatus {
            available_replicas: Some(0),
            ..StatefulSetStatus::default()
        });
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.status.clone_from(&old.status);
    }

    fn prepare_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_label);
        errors.extend(spec_errors(self));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(spec_errors(self));
        if let (Some(new), Some(old)) = (&self.spec, &old.spec) {
            let mut allowed = old.clone();
            allowed.replicas = new.replicas;
            allowed.ordinals.clone_from(&new.ordinals);
            allowed.template.clone_from(&new.template);
            allowed.update_strategy.clone_from(&new.update_strategy);
            allowed.revision_history_limit = new.revision_history_limit;
            allowed
                .persistent_volume_claim_retention_policy
                .clone_from(&new.persistent_volume_claim_retention_policy);
            allowed.min_ready_seconds = new.min_ready_seconds;
            if *new != allowed {
                errors.push(FieldError::forbidden(&FieldPath::new("spec"), FIXED));
            }
        }
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let none = StatefulSetStatus::default();
        let status = self.status.as_ref().unwrap_or(&none);
        let before = old.status.as_ref().unwrap_or(&none);
        let mut errors = validate_status(status);
        errors.extend(meta::validate_update(&self.metadata, &old.metadata));
        not_decremented(
            &mut errors,
            &FieldPath::new("status.collisionCount"),
            status.collision_count,
            before.collision_count,
        );
        errors
    }
}

fn spec_errors(set: &StatefulSet) -> Vec<FieldError> {
    let none = StatefulSetSpec::default();
    let spec = set.spec.as_ref().unwrap_or(&none);
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    match text(&spec.pod_management_policy) {
        "" => errors.push(FieldError::required(&at.child("podManagementPolicy"), "")),
        "OrderedReady" | "Parallel" => {}
        other => errors.push(FieldError::invalid(
            &at.child("podManagementPolicy"),
            other,
            "must be 'OrderedReady' or 'Parallel'",
        )),
    }
    let none = StatefulSetUpdateStrategy::default();
    let strategy = spec.update_strategy.as_ref().unwrap_or(&none);
    errors.extend(validate_strategy(strategy, &at.child("updateStrategy")));
    if let Some(retention) = &spec.persistent_volume_claim_retention_policy {
        let at = at.child("persistentVolumeClaimRetentionPolicy");
        for (name, value) in [
            ("whenDeleted", &retention.when_deleted),
            ("whenScaled", &retention.when_scaled),
        ] {
            let value = text(value);
            if !RETENTIONS.contains(&value) {
                errors.push(FieldError::not_supported(
                    &at.child(name),
                    value,
                    &RETENTIONS,
                ));
            }
        }
    }
    non_negative(&mut errors, &at.child("replicas"), spec.replicas);
    non_negative(
        &mut errors,
        &at.child("minReadySeconds"),
        spec.min_ready_seconds,
    );
    if let Some(ordinals) = &spec.ordinals {
        non_negative(&mut errors, &at.child("ordinals.start"), ordinals.start);
    }
    non_negative(
        &mut errors,
        &at.child("revisionHistoryLimit"),
        spec.revision_history_limit,
    );
    errors.extend(template::validate_selector(
        &spec.selector,
        &at.child("selector"),
    ));
    let selector = Some(&spec.selector).filter(|s| !selector::is_empty(s));
    let whole = with_claims(spec);
    let at = at.child("template");
    errors.extend(template::validate_selected(
        &whole,
        selector,
        "StatefulSet",
        &at,
    ));
    errors
}

/// The template with a volume for each claim that the set makes for its pods; such a volume takes the place of one of
/// the same name.
fn with_claims(spec: &StatefulSetSpec) -> PodTemplateSpec {
    let mut whole = spec.template.clone();
    let claims = spec.volume_claim_templates.iter().flatten();
    let names: BTreeSet<&String> = claims
        .filter_map(|claim| claim.metadata.name.as_ref())
        .collect();
    if names.is_empty() {
        return whole;
    }
    let volumes = whole
        .spec
        .get_or_insert_default()
        .volumes
        .get_or_insert_default();
    volumes.retain(|volume| !names.contains(&volume.name));
    volumes.extend(names.into_iter().map(|name| Volume {
        name: name.clone(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: name.clone(),
            read_only: None,
        }),
        ..Volume::default()
    }));
    whole
}

fn validate_strategy(strategy: &StatefulSetUpdateStrategy, at: &FieldPath) -> Vec<FieldError> {
    let rolling_at = at.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        ("", _) => vec![FieldError::required(at, "")],
        (ON_DELETE, Some(rolling)) => vec![FieldError::invalid(
            &rolling_at,
            rolling,
            "only allowed for updateStrategy 'RollingUpdate'",
        )],
        (ROLLING_UPDATE, Some(rolling)) => validate_rolling(rolling, &rolling_at),
        (ON_DELETE | ROLLING_UPDATE, None) => Vec::new(),
        (_, _) => vec![FieldError::invalid(
            at,
            strategy,
            "must be 'RollingUpdate' or 'OnDelete'",
        )],
    }
}

fn validate_rolling(rolling: &RollingUpdateStatefulSetStrategy, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    non_negative(&mut errors, &at.child("partition"), rolling.partition);
    if let Some(unavailable) = &rolling.max_unavailable {
        let at = at.child("maxUnavailable");
        int_or_percent(&mut errors, &at, unavailable);
        if is_none_of_all(Some(unavailable)) {
            errors.push(FieldError::invalid(&at, unavailable, "cannot be 0"));
        }
        at_most_all(&mut errors, &at, unavailable);
    }
    errors
}

fn validate_status(status: &StatefulSetStatus) -> Vec<FieldError> {
    let at = FieldPath::new("status");
    let mut errors = Vec::new();
    non_negative(&mut errors, &at.child("replicas"), Some(status.replicas));
    let parts = [
        ("readyReplicas", status.ready_replicas),
        ("currentReplicas", status.current_replicas),
        ("updatedReplicas", status.updated_replicas),
        ("availableReplicas", status.available_replicas),
    ];
    for (name, value) in parts {
        non_negative(&mut errors, &at.child(name), value);
    }
    non_negative(
        &mut errors,
        &at.child("observedGeneration"),
        status.observed_generation,
    );
    non_negative(
        &mut errors,
        &at.child("collisionCount"),
        status.collision_count,
    );
    for (name, value) in parts {
        if let Some(value) = value.filter(|value| *value > status.replicas) {
            let why = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(&at.child(name), value, why));
        }
    }
    let available = status.available_replicas.unwrap_or(0);
    if available > status.ready_replicas.unwrap_or(0) {
        let why = "cannot be greater than status.readyReplicas";
        errors.push(FieldError::invalid(
            &at.child("availableReplicas"),
            available,
            why,
        ));
    }
    errors
}
