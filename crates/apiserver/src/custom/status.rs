//! What a definition's status says about it.

use berth_rules::kinds::api_group::{self, Approval};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames,
};
use serde_json::{Value, json};

use super::naming::Conflict;
use crate::metadata as meta;

const APPROVAL: &str = "KubernetesAPIApprovalPolicyConformant";
const NON_STRUCTURAL: &str = "NonStructuralSchema";

/// Whether the status says that a condition holds.
pub(super) fn holds(definition: &CustomResourceDefinition, kind: &str) -> bool {
    definition
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|c| c.type_ == kind && c.status == "True")
}

/// The names that the status says were accepted.
pub(super) fn accepted(definition: &CustomResourceDefinition) -> CustomResourceDefinitionNames {
    definition
        .status
        .as_ref()
        .and_then(|s| s.accepted_names.clone())
        .unwrap_or_default()
}

/// What the status of a definition says, at one of its revisions.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    pub(super) revision: i64,
    pub(super) names: CustomResourceDefinitionNames,
    pub(super) conflict: Option<Conflict>,
    pub(super) established: bool,
    /// Why the schema of a version can't be enforced.
    pub(super) violation: Option<String>,
}

/// The definition with its status as it should be; conditions of others are kept.
pub(super) fn with_status(
    mut object: Value,
    definition: &CustomResourceDefinition,
    told: &Told,
    now: &Value,
) -> Value {
    let violation = told.violation.as_deref();
    let mut wanted = vec![match &told.conflict {
        None => ("NamesAccepted", true, "NoConflicts", "no conflicts found"),
        Some(conflict) => ("NamesAccepted", false, conflict.reason, &*conflict.message),
    }];
    wanted.push(if told.established {
        let why = "the initial names have been accepted";
        ("Established", true, "InitialNamesAccepted", why)
    } else {
        let why = "not all names are accepted";
        ("Established", false, "NotAccepted", why)
    });
    wanted.extend(approved(definition));
    wanted.extend(violation.map(|violation| (NON_STRUCTURAL, true, "Violations", violation)));
    let mut conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if violation.is_none() {
        // As on the stock server it is there only while it holds.
        conditions.retain(|condition| condition["type"] != NON_STRUCTURAL);
    }
    for (kind, holds, reason, message) in wanted {
        let status = if holds { "True" } else { "False" };
        let mut condition = json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": now});
        match conditions.iter_mut().find(|c| c["type"] == kind) {
            None => conditions.push(condition),
            Some(had) => {
                if had["status"] == status {
                    condition["lastTransitionTime"] = had["lastTransitionTime"].clone();
                }
                *had = condition;
            }
        }
    }
    let stored = super::row::storage_version(definition);
    let mut versions: Vec<String> = object
        .pointer("/status/storedVersions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect();
    if !versions.contains(&stored) {
        versions.push(stored);
    }
    object["status"] = json!({
        "conditions": conditions,
        "acceptedNames": told.names,
        "storedVersions": versions,
    });
    meta::set(&mut object, "resourceVersion", None);
    object
}

fn approved(
    definition: &CustomResourceDefinition,
) -> Option<(&'static str, bool, &'static str, &'static str)> {
    let annotations = definition.metadata.annotations.as_ref();
    let (holds, reason, message) = match api_group::approval(&definition.spec.group, annotations) {
        Approval::NotNeeded => return None,
        Approval::Approved => (
            true,
            "ApprovedAnnotation",
            "the approval annotation is a URL",
        ),
        Approval::Bypassed => (
            false,
            "UnapprovedAnnotation",
            "not approved: the approval annotation begins with \"unapproved\"",
        ),
        Approval::Missing => (
            false,
            "MissingAnnotation",
            "protected groups must have approval annotation \"api-approved.kubernetes.io\"",
        ),
        Approval::Invalid => (
            false,
            "InvalidAnnotation",
            "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a \
             reason starting with \"unapproved\"",
        ),
    };
    Some((APPROVAL, holds, reason, message))
}
