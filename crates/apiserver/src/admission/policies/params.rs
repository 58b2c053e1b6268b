//! The parameters that a binding gives to its policy.

use berth_core::selector::label_selector_matches;
use k8s_openapi::api::admissionregistration::v1::{ParamKind, ParamRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::super::Attributes;
use super::super::form;
use super::super::invocation::Invocation;
use super::super::matching::Lookup;
use crate::storage::Stored;

#[derive(Deserialize)]
struct Labelled {
    #[serde(default)]
    metadata: ObjectMeta,
}

/// The parameters, null for none: the policy is evaluated once for each.
///
/// # Errors
/// Why there are none that could be used.
pub(super) async fn collect(
    kind: Option<&ParamKind>,
    reference: Option<&ParamRef>,
    attributes: &Attributes<'_>,
    lookup: &Lookup,
) -> Result<Vec<Value>, String> {
    let namespace = attributes.namespace;
    let (Some(kind), Some(reference)) = (kind, reference) else {
        return Ok(vec![Value::Null]);
    };
    let invocation = find_kind(kind, lookup)?;
    let row = &invocation.row;
    let own = reference.namespace.as_deref().unwrap_or_default();
    let namespace = match (row.namespaced(), own) {
        (false, "") => "",
        (false, _) => {
            return Err(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
                    .to_owned(),
            );
        }
        (true, "") if namespace.is_empty() => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                    .to_owned(),
            );
        }
        (true, "") => namespace,
        (true, own) => own,
    };
    let mut found = Vec::new();
    match (
        reference.name.as_deref().unwrap_or_default(),
        &reference.selector,
    ) {
        ("", Some(selector)) => {
            for stored in lookup.storage.list(&row.storage, Some(namespace)) {
                let object: Labelled = stored.decode().map_err(|error| error.to_string())?;
                if label_selector_matches(selector, object.metadata.labels.as_ref()) {
                    found.push(show(attributes, &stored, &invocation).await?);
                }
            }
        }
        ("", None) => return Err("one of name or selector must be provided".to_owned()),
        (name, _) => {
            if let Some(stored) = lookup.storage.get(&row.storage, namespace, name) {
                found.push(show(attributes, &stored, &invocation).await?);
            }
        }
    }
    if found.is_empty() && reference.parameter_not_found_action.as_deref() != Some("Allow") {
        return Err(
            "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned(),
        );
    }
    Ok(found)
}

/// The row and version of a kind of parameters.
fn find_kind(kind: &ParamKind, lookup: &Lookup) -> Result<Invocation, String> {
    let api_version = kind.api_version.as_deref().unwrap_or_default();
    let name = kind.kind.as_deref().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let table = lookup.registry.table();
    let row = table
        .find_kind(group, name)
        .filter(|row| row.serves(version));
    let row = row.ok_or_else(|| {
        format!("failed to find resource referenced by paramKind: '{api_version}, Kind={name}'")
    })?;
    Ok(Invocation {
        row: row.clone(),
        version: version.to_owned(),
    })
}

async fn show(
    attributes: &Attributes<'_>,
    stored: &Stored,
    invocation: &Invocation,
) -> Result<Value, String> {
    let mut value = stored.value().map_err(|error| error.to_string())?;
    form::convert(attributes, invocation, &mut value)
        .await
        .map_err(|error| error.to_string())?;
    Ok(value)
}
