//! What holds for the metadata of every object (apimachinery's `ValidateObjectMeta` and its update form).

use std::collections::{BTreeMap, HashSet};

use berth_api::field::{ERRORS_LIMIT, FieldError, FieldPath};
use berth_api::names::{self, Complaints};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

/// A rule for names.
pub type NameRule = fn(&str) -> Complaints;

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `metadata.namespace` is required.
    Namespaced,
    /// `metadata.namespace` is forbidden.
    Cluster,
}

/// The reference to the controller of an object.
#[must_use]
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let mut owners = meta.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true))
}

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// The metadata of a new object; its name has been generated already.
#[must_use]
pub fn validate(meta: &ObjectMeta, scope: Scope, name_rule: NameRule) -> Vec<FieldError> {
    let path = FieldPath::new("metadata");
    let mut errors = Vec::new();
    if let Some(prefix) = meta.generate_name.as_deref().filter(|p| !p.is_empty()) {
        let at = path.child("generateName");
        extend_invalid(
            &mut errors,
            &at,
            prefix,
            name_rule(&names::without_trailing_dash(prefix)),
        );
    }
    let at = path.child("name");
    match meta.name.as_deref().unwrap_or_default() {
        "" => errors.push(FieldError::required(
            &at,
            "name or generateName is required",
        )),
        name => extend_invalid(&mut errors, &at, name, name_rule(name)),
    }
    let at = path.child("namespace");
    match (scope, meta.namespace.as_deref().unwrap_or_default()) {
        (Scope::Namespaced, "") => errors.push(FieldError::required(&at, "")),
        (Scope::Namespaced, namespace) => {
            extend_invalid(&mut errors, &at, namespace, names::dns1123_label(namespace));
        }
        (Scope::Cluster, "") => {}
        (Scope::Cluster, _) => errors.push(FieldError::forbidden(&at, "not allowed on this type")),
    }
    if let Some(generation) = meta.generation.filter(|g| *g < 0) {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            generation,
            "must be greater than or equal to 0",
        ));
    }
    errors.extend(common(meta, &path));
    errors.extend(finalizers(
        meta.finalizers.as_deref().unwrap_or_default(),
        &path.child("finalizers"),
    ));
    errors
}

/// The metadata of an object that replaces `old`.
#[must_use]
pub fn validate_update(meta: &ObjectMeta, old: &ObjectMeta) -> Vec<FieldError> {
    let path = FieldPath::new("metadata");
    let mut errors = Vec::new();
    if old.deletion_timestamp.is_some() {
        let before: HashSet<&String> = old.finalizers.iter().flatten().collect();
        let new: Vec<_> = meta
            .finalizers
            .iter()
            .flatten()
            .filter(|f| !before.contains(*f))
            .collect();
        if !new.is_empty() {
            errors.push(FieldError::forbidden(
                &path.child("finalizers"),
                format!("no new finalizers can be added if the object is being deleted, found new finalizers {new:?}"),
            ));
        }
    }
    if meta
        .resource_version
        .as_deref()
        .unwrap_or_default()
        .is_empty()
    {
        errors.push(FieldError::invalid(
            &path.child("resourceVersion"),
            "",
            "must be specified for an update",
        ));
    }
    if meta.generation.unwrap_or(0) < old.generation.unwrap_or(0) {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            meta.generation.unwrap_or(0),
            "must not be decremented",
        ));
    }
    immutable(&mut errors, &path.child("name"), &meta.name, &old.name);
    immutable(
        &mut errors,
        &path.child("namespace"),
        &meta.namespace,
        &old.namespace,
    );
    immutable(&mut errors, &path.child("uid"), &meta.uid, &old.uid);
    immutable(
        &mut errors,
        &path.child("creationTimestamp"),
        &meta.creation_timestamp,
        &old.creation_timestamp,
    );
    immutable(
        &mut errors,
        &path.child("deletionTimestamp"),
        &meta.deletion_timestamp,
        &old.deletion_timestamp,
    );
    immutable(
        &mut errors,
        &path.child("deletionGracePeriodSeconds"),
        &meta.deletion_grace_period_seconds,
        &old.deletion_grace_period_seconds,
    );
    errors.extend(common(meta, &path));
    errors
}

/// Adds an error when a field that never changes would change.
pub fn immutable<T: PartialEq + serde::Serialize>(
    errors: &mut Vec<FieldError>,
    at: &FieldPath,
    new: &T,
    old: &T,
) {
    if new != old {
        errors.push(FieldError::invalid(at, new, "field is immutable"));
    }
}

/// One `Invalid` error per complaint.
pub fn extend_invalid(
    errors: &mut Vec<FieldError>,
    at: &FieldPath,
    value: &str,
    complaints: Complaints,
) {
    // Many more than anybody reads: a client chooses how many keys there are.
    if errors.len() >= 10 * ERRORS_LIMIT {
        return;
    }
    errors.extend(
        complaints
            .into_iter()
            .map(|c| FieldError::invalid(at, value, c)),
    );
}

fn common(meta: &ObjectMeta, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(labels) = &meta.labels {
        errors.extend(validate_labels(labels, &path.child("labels")));
    }
    if let Some(annotations) = &meta.annotations {
        errors.extend(validate_annotations(
            annotations,
            &path.child("annotations"),
        ));
    }
    if let Some(owners) = &meta.owner_references {
        errors.extend(owner_references(owners, &path.child("ownerReferences")));
    }
    errors
}

/// Keys are qualified names, values label values; errors stand at the map itself.
#[must_use]
pub fn validate_labels(labels: &BTreeMap<String, String>, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels {
        extend_invalid(&mut errors, at, key, names::qualified_name(key));
        extend_invalid(&mut errors, at, value, names::label_value(value));
    }
    errors
}

/// Keys are qualified names in any case; all together at most 256 KiB.
#[must_use]
pub fn validate_annotations(
    annotations: &BTreeMap<String, String>,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in annotations {
        extend_invalid(
            &mut errors,
            at,
            key,
            names::qualified_name(&key.to_lowercase()),
        );
        size += key.len() + value.len();
    }
    if size > names::ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(at, names::ANNOTATIONS_MAX));
    }
    errors
}

fn owner_references(owners: &[OwnerReference], at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controllers = 0;
    for owner in owners {
        let version = owner.api_version.rsplit('/').next().unwrap_or_default();
        if version.is_empty() || owner.api_version.matches('/').count() > 1 {
            errors.push(FieldError::invalid(
                &at.child("apiVersion"),
                &owner.api_version,
                "version must not be empty",
            ));
        }
        for (name, value) in [
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ] {
            if value.is_empty() {
                errors.push(FieldError::invalid(
                    &at.child(name),
                    value,
                    "must not be empty",
                ));
            }
        }
        if owner.kind == "Event" && owner.api_version == "v1" {
            errors.push(FieldError::invalid(
                at,
                owner,
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if owner.controller == Some(true) {
            controllers += 1;
            // Once: the error shows the whole list.
            if controllers == 2 {
                errors.push(FieldError::invalid(
                    at,
                    owners,
                    "only one reference can have controller set to true",
                ));
            }
        }
    }
    errors
}

fn finalizers(finalizers: &[String], at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for finalizer in finalizers {
        extend_invalid(&mut errors, at, finalizer, names::qualified_name(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|f| f == name);
    if has(ORPHAN) && has(FOREGROUND) {
        errors.push(FieldError::invalid(
            at,
            finalizers,
            format!("finalizers {ORPHAN} and {FOREGROUND} cannot be both set"),
        ));
    }
    errors
}

/// A label selector as objects hold it.
#[must_use]
pub fn validate_label_selector(selector: &LabelSelector, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(labels) = &selector.match_labels {
        errors.extend(validate_labels(labels, &at.child("matchLabels")));
    }
    for (i, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let at = at.child("matchExpressions").index(i);
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                &at.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                &at.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                &at.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        extend_invalid(
            &mut errors,
            &at.child("key"),
            &expression.key,
            names::qualified_name(&expression.key),
        );
        for (j, value) in values.iter().enumerate() {
            extend_invalid(
                &mut errors,
                &at.child("values").index(j),
                value,
                names::label_value(value),
            );
        }
    }
    errors
}

#[cfg(test)]
mod tests;
