//! The lists of old: APIVersions, APIGroupList, APIGroup and APIResourceList.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::aggregation::Remote;
use crate::registry::{Gvk, Resource, Table, group_version};

pub(super) fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

pub(super) fn groups(table: &Table, remotes: &[Arc<Remote>]) -> Value {
    let groups: Vec<Value> = all_groups(table, remotes)
        .iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| group_value(group, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// The groups of this server and, after them, those of others by their priorities.
pub(super) fn all_groups(table: &Table, remotes: &[Arc<Remote>]) -> Vec<(String, Vec<String>)> {
    let mut groups = table.groups();
    let mut others: Vec<&Arc<Remote>> = remotes.iter().collect();
    others.sort_by_key(|remote| {
        let priorities = (remote.group_priority, remote.version_priority);
        (std::cmp::Reverse(priorities), remote.group.clone())
    });
    for remote in others {
        match groups.iter_mut().find(|(group, _)| *group == remote.group) {
            Some((_, versions)) => versions.push(remote.version.clone()),
            None => groups.push((remote.group.clone(), vec![remote.version.clone()])),
        }
    }
    groups
}

pub(super) fn group(table: &Table, remotes: &[Arc<Remote>], name: &str) -> Option<Value> {
    let groups = all_groups(table, remotes);
    let (group, versions) = groups
        .iter()
        .find(|(group, _)| group == name && !group.is_empty())?;
    let mut value = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Some(target), Value::Object(fields)) =
        (value.as_object_mut(), group_value(group, versions))
    {
        target.extend(fields);
    }
    Some(value)
}

fn group_value(group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|v| json!({"groupVersion": group_version(group, v), "version": v}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// The resources of a version; none when it is not served.
pub(super) fn resources(table: &Table, group: &str, version: &str) -> Option<Value> {
    let rows: Vec<_> = table
        .rows()
        .iter()
        .filter(|row| row.group == group && row.serves(version))
        .collect();
    if rows.is_empty() {
        return None;
    }
    let mut resources = Vec::new();
    for row in rows {
        resources.push(resource(row));
        for sub in &row.subresources {
            resources.push(subresource(
                row,
                &format!("{}/{}", row.plural, sub.name),
                &sub.gvk,
                sub.verbs,
                version,
            ));
        }
    }
    let mut list = json!({"kind": "APIResourceList", "groupVersion": group_version(group, version), "resources": resources});
    if !group.is_empty() {
        list["apiVersion"] = json!("v1");
    }
    Some(list)
}

fn resource(row: &Resource) -> Value {
    let mut value = json!({
        "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced(), "kind": row.kind, "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        value["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        value["categories"] = json!(row.categories);
    }
    value
}

fn subresource(row: &Resource, name: &str, gvk: &Gvk, verbs: &[&str], version: &str) -> Value {
    let mut value = Map::new();
    value.insert("name".to_owned(), json!(name));
    value.insert("singularName".to_owned(), json!(""));
    value.insert("namespaced".to_owned(), json!(row.namespaced()));
    if gvk.group != row.group || !row.serves(&gvk.version) {
        value.insert("group".to_owned(), json!(gvk.group));
        value.insert("version".to_owned(), json!(gvk.version));
    } else if gvk.version != version && gvk.kind != row.kind {
        value.insert("version".to_owned(), json!(gvk.version));
    }
    value.insert("kind".to_owned(), json!(gvk.kind));
    value.insert("verbs".to_owned(), json!(verbs));
    Value::Object(value)
}
