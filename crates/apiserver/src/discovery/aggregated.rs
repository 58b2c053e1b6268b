//! Aggregated discovery: all groups, versions and resources in one answer.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Aggregated, lists};
use crate::aggregation::Remote;
use crate::registry::{Gvk, Resource, Table};

/// The core group alone (`/api`), or all others (`/apis`).
pub(super) fn groups(
    table: &Table,
    remotes: &[Arc<Remote>],
    form: Aggregated,
    core: bool,
) -> Value {
    let items: Vec<Value> = lists::all_groups(table, remotes)
        .iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let of = |r: &&Arc<Remote>| r.group == *group && r.version == *version;
                    match remotes.iter().find(of) {
                        Some(remote) => remote_value(remote),
                        None => version_value(table, group, version),
                    }
                })
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

/// A version of another server, from the list of its resources.
fn remote_value(remote: &Remote) -> Value {
    let list = remote.resources();
    let all = list
        .as_deref()
        .and_then(|list| list["resources"].as_array());
    let all: Vec<&Value> = all.into_iter().flatten().collect();
    let name = |resource: &Value| resource["name"].as_str().unwrap_or_default().to_owned();
    let kind = |resource: &Value| {
        let text = |field: &str, or: &str| {
            let own = resource[field].as_str().unwrap_or_default();
            json!(if own.is_empty() { or } else { own })
        };
        json!({"group": text("group", &remote.group), "version": text("version", &remote.version), "kind": resource["kind"]})
    };
    let mut resources = Vec::new();
    for resource in all.iter().filter(|resource| !name(resource).contains('/')) {
        let mut value = json!({
            "resource": resource["name"],
            "responseKind": kind(resource),
            "scope": if resource["namespaced"] == json!(true) { "Namespaced" } else { "Cluster" },
            "singularResource": resource["singularName"],
            "verbs": resource["verbs"],
        });
        for field in ["shortNames", "categories"] {
            if resource[field].is_array() {
                value[field] = resource[field].clone();
            }
        }
        let prefix = format!("{}/", name(resource));
        let subresources: Vec<Value> = all
            .iter()
            .filter_map(|sub| {
                let name = name(sub);
                let name = name.strip_prefix(&prefix)?;
                Some(json!({"subresource": name, "responseKind": kind(sub), "verbs": sub["verbs"]}))
            })
            .collect();
        if !subresources.is_empty() {
            value["subresources"] = Value::Array(subresources);
        }
        resources.push(value);
    }
    let freshness = if remote.is_available() {
        "Current"
    } else {
        "Stale"
    };
    json!({"version": remote.version, "resources": resources, "freshness": freshness})
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
