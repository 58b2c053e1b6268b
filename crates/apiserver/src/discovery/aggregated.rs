//! Aggregated discovery: all groups, versions and resources in one answer.

use serde_json::{Value, json};

use super::Aggregated;
use crate::registry::{Gvk, Resource, Table};

/// The core group alone (`/api`), or all others (`/apis`).
pub(super) fn groups(table: &Table, form: Aggregated, core: bool) -> Value {
    let items: Vec<Value> = table
        .groups()
        .iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| version_value(table, group, version))
                .collect();
            json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{}", form.name()), "metadata": {}, "items": items,
    })
}

fn version_value(table: &Table, group: &str, version: &str) -> Value {
    let rows = table
        .rows()
        .iter()
        .filter(|row| row.group == group && row.serves(version));
    let resources: Vec<Value> = rows.map(|row| resource(row, version)).collect();
    json!({"version": version, "resources": resources, "freshness": "Current"})
}

fn kind(gvk: &Gvk) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

fn resource(row: &Resource, version: &str) -> Value {
    let mut value = json!({
        "resource": row.plural,
        "responseKind": kind(&Gvk::new(&row.group, version, &row.kind)),
        "scope": if row.namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        value["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        value["categories"] = json!(row.categories);
    }
    if !row.subresources.is_empty() {
        let subresources = row.subresources.iter().map(|sub| {
            let gvk = if sub.gvk.group == row.group && sub.gvk.kind == row.kind {
                Gvk::new(&row.group, version, &row.kind)
            } else {
                sub.gvk.clone()
            };
            json!({"subresource": sub.name, "responseKind": kind(&gvk), "verbs": sub.verbs})
        });
        value["subresources"] = Value::Array(subresources.collect());
    }
    value
}
