//! The row that a definition asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_api::status::ApiError;
use berth_core::meta;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionVersion,
};
use serde_json::Value;

use super::printer;
use crate::field_label::FieldLabel;
use crate::registry::{
    Converter, Gvk, Resource, ResourceHandler, Scope, Subresource, SubresourceHandler,
};
use crate::storage::key;
use crate::strategy::custom::{Custom, Parts, ScalePaths};

const VERBS: [&str; 8] = [
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];

/// The version that a definition stores.
pub(super) fn storage_version(definition: &CustomResourceDefinition) -> String {
    let versions = &definition.spec.versions;
    versions
        .iter()
        .find(|v| v.storage)
        .or(versions.first())
        .map_or_else(String::new, |v| v.name.clone())
}

/// Newest and most stable first: v2, v1, v1beta1, v1alpha1, other names.
fn rank(version: &str) -> (u8, i64, i64) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let major: i64 = rest[..digits].parse().ok()?;
        match &rest[digits..] {
            "" => Some((0, -major, 0)),
            beta if beta.starts_with("beta") => Some((1, -major, -beta[4..].parse::<i64>().ok()?)),
            alpha if alpha.starts_with("alpha") => {
                Some((2, -major, -alpha[5..].parse::<i64>().ok()?))
            }
            _ => None,
        }
    };
    parse().unwrap_or((3, 0, 0))
}

fn schema_of(version: &CustomResourceDefinitionVersion) -> Option<Value> {
    let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    serde_json::to_value(schema).ok()
}

/// Where the numbers of `scale` are.
fn strategy_scale(served: &[&CustomResourceDefinitionVersion]) -> Option<ScalePaths> {
    let scale = served
        .iter()
        .find_map(|v| v.subresources.as_ref()?.scale.as_ref())?;
    Some(ScalePaths {
        replicas: pointer(&scale.spec_replicas_path),
        observed: pointer(&scale.status_replicas_path),
        selector: scale.label_selector_path.as_deref().map(pointer),
    })
}

/// The fields that selectors may name, by version.
fn selectable_in(served: &[&CustomResourceDefinitionVersion]) -> BTreeMap<String, Vec<String>> {
    let of = |version: &CustomResourceDefinitionVersion| {
        let fields = version.selectable_fields.iter().flatten();
        fields.map(|field| label_of(&field.json_path)).collect()
    };
    let versions = served
        .iter()
        .map(|version| (version.name.clone(), of(version)));
    versions.collect()
}

/// `.spec.color` as selectors name it.
fn label_of(path: &str) -> String {
    path.trim_start_matches('.').to_owned()
}

/// The fields that selectors may name, of all versions together.
fn selectable(served: &[&CustomResourceDefinitionVersion]) -> Vec<FieldLabel> {
    let mut labels: Vec<FieldLabel> = Vec::new();
    for field in served
        .iter()
        .flat_map(|v| v.selectable_fields.iter().flatten())
    {
        let label = label_of(&field.json_path);
        if labels.iter().all(|known| known.label != label) {
            labels.push(FieldLabel {
                label: label.into(),
                pointer: pointer(&field.json_path).into(),
                absent: "".into(),
                instead: "",
            });
        }
    }
    labels
}

/// `.spec.replicas` as a JSON pointer.
fn pointer(path: &str) -> String {
    let names = path.split('.').filter(|name| !name.is_empty());
    names
        .map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")))
        .collect()
}

/// The row, under the names that were accepted; `revision` is that of the definition.
pub(super) fn of(
    definition: &CustomResourceDefinition,
    names: &CustomResourceDefinitionNames,
    converter: Option<Arc<dyn Converter>>,
    revision: i64,
) -> Resource {
    let spec = &definition.spec;
    let mut served: Vec<&CustomResourceDefinitionVersion> =
        spec.versions.iter().filter(|v| v.served).collect();
    served.sort_by_key(|v| rank(&v.name));
    let storage_version = storage_version(definition);
    let schemas: BTreeMap<String, Value> = spec
        .versions
        .iter()
        .filter_map(|v| Some((v.name.clone(), schema_of(v)?)))
        .collect();
    let has_status = served
        .iter()
        .any(|v| v.subresources.as_ref().is_some_and(|s| s.status.is_some()));
    let (scope, rule_scope) = if spec.scope == "Namespaced" {
        (Scope::Namespaced, meta::Scope::Namespaced)
    } else {
        (Scope::Cluster, meta::Scope::Cluster)
    };
    let gvk = Gvk::new(&spec.group, &storage_version, &names.kind);
    let mut subresources = Vec::new();
    let mut scales = None;
    if has_status {
        subresources.push(Subresource {
            name: "status",
            gvk: gvk.clone(),
            verbs: &["get", "patch", "update"],
            handler: SubresourceHandler::Status,
        });
    }
    if let Some(scale) = strategy_scale(&served) {
        subresources.push(Subresource::scale());
        scales = Some(scale);
    }
    let columns = served
        .first()
        .and_then(|v| v.additional_printer_columns.clone())
        .unwrap_or_default();
    Resource {
        group: spec.group.clone(),
        versions: served.iter().map(|v| v.name.clone()).collect(),
        kind: names.kind.clone(),
        list_kind: names
            .list_kind
            .clone()
            .unwrap_or_else(|| format!("{}List", names.kind)),
        plural: spec.names.plural.clone(),
        singular: names
            .singular
            .clone()
            .unwrap_or_else(|| names.kind.to_lowercase()),
        short_names: names.short_names.clone().unwrap_or_default(),
        categories: names.categories.clone().unwrap_or_default(),
        scope,
        verbs: VERBS.to_vec(),
        subresources,
        handler: ResourceHandler::Stored,
        storage: key::custom(&spec.group, &spec.names.plural),
        strategy: Arc::new(Custom::new(
            rule_scope,
            &gvk,
            &names.plural,
            &spec
                .versions
                .iter()
                .map(|v| v.name.clone())
                .collect::<Vec<_>>(),
            &schemas,
            Parts {
                has_status,
                scale: scales,
                selectable: selectable(&served),
                selectable_in: selectable_in(&served),
                terminating: definition.metadata.deletion_timestamp.is_some(),
                revision,
            },
        )),
        printer: printer::of(&columns),
        convert: (spec.versions.len() > 1).then(|| {
            let by_webhook = converter.is_some();
            let convert: crate::registry::Convert =
                Arc::new(move |object: &mut Value, from: &str, to: &str| {
                    if by_webhook {
                        return Err(ApiError::Internal(format!(
                            "{from} is converted to {to} by the webhook of its definition alone"
                        )));
                    }
                    object["apiVersion"] = Value::String(to.to_owned());
                    Ok(())
                });
            convert
        }),
        converter,
        schemas: schemas
            .into_iter()
            .map(|(version, schema)| (version, schema.to_string().into()))
            .collect(),
        storage_gvk: gvk,
        storage_version,
    }
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn versions_stand_with_the_most_stable_first() {
        let mut versions = ["foo", "v1alpha1", "v1beta1", "v2", "v1", "v1beta2", "v10"];
        versions.sort_by_key(|v| rank(v));
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]
        );
    }
}
