//! The schemas of a group and version, as the stock server writes them: the generated ones of
//! `schemas.json`, with the `x-kubernetes-*` facts of the patch table.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::kinds;
use crate::{
    patch::schema::{self, Kind},
    registry::{Gvk, Resource},
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const NODE: &str = "io.k8s.api.node";

/// Definitions by name.
pub(super) type Definitions = BTreeMap<String, Value>;

/// The name of the schema of a kind in one version of a row, or of a subresource's kind.
pub(super) fn name(gvk: &Gvk) -> String {
    if let Some(kind) = kinds::find(&gvk.group, &gvk.version, &gvk.kind) {
        return kind.schema.to_owned();
    }
    if gvk.group == "node.k8s.io" {
        return format!("{NODE}.{}.{}", gvk.version, gvk.kind);
    }
    let mut group: Vec<&str> = gvk.group.split('.').collect();
    group.reverse();
    format!("{}.{}.{}", group.join("."), gvk.version, gvk.kind)
}

/// The definitions that the rows need in one version; `reference` is the prefix of references
/// (`#/components/schemas/` or `#/definitions/`).
pub(super) fn definitions(rows: &[&Resource], version: &str, reference: &str) -> Definitions {
    let mut all = Definitions::new();
    let mut needed: Vec<String> = ["DeleteOptions", "ListMeta", "Patch", "Status"]
        .iter()
        .map(|kind| format!("{META}.{kind}"))
        .collect();
    let mut own = Vec::new();
    for row in rows {
        let gvk = Gvk::new(&row.group, version, &row.kind);
        own.push((gvk.clone(), row.namespaced()));
        define(row, &gvk, &mut all, reference);
        for sub in &row.subresources {
            if let Some(kind) = kinds::find(&sub.gvk.group, &sub.gvk.version, &sub.gvk.kind) {
                needed.push(kind.schema.to_owned());
                own.push((sub.gvk.clone(), false));
            }
        }
        if row.verbs.contains(&"list") {
            all.insert(format!("{}List", name(&gvk)), list(row, &gvk, reference));
        }
    }
    for schema in all.values() {
        references(schema, reference, &mut needed);
    }
    complete(needed, &mut all, reference);
    let components = reference.starts_with("#/components");
    for (name, schema) in &mut all {
        finish(name, schema, components);
    }
    for (gvk, _) in own {
        if let Some(schema) = all.get_mut(&name(&gvk)) {
            schema["x-kubernetes-group-version-kind"] = json!([kind_value(&gvk)]);
        }
    }
    all
}

pub(super) fn kind_value(gvk: &Gvk) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

/// Adds the schemas of these names, and all that they refer to, from the generated ones.
fn complete(mut needed: Vec<String>, all: &mut Definitions, reference: &str) {
    while let Some(name) = needed.pop() {
        if all.contains_key(&name) {
            continue;
        }
        if let Some(mut schema) = kinds::definition(&name) {
            rename(&mut schema, kinds::REFERENCE, reference);
            references(&schema, reference, &mut needed);
            all.insert(name, schema);
        }
    }
}

/// The names that a schema refers to.
fn references(schema: &Value, prefix: &str, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                found.extend(reference.strip_prefix(prefix).map(str::to_owned));
            }
            map.values().for_each(|v| references(v, prefix, found));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, prefix, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn define(row: &Resource, gvk: &Gvk, all: &mut Definitions, reference: &str) {
    let schema = row.schemas.get(&gvk.version);
    if let Some(schema) = schema.and_then(|text| serde_json::from_str(text).ok()) {
        all.insert(name(gvk), custom(&schema, reference));
    } else if let Some(kind) = kinds::find(&gvk.group, &gvk.version, &gvk.kind) {
        complete(vec![kind.schema.to_owned()], all, reference);
    } else if gvk.group == "node.k8s.io" {
        older_runtime_class(&gvk.version, all, reference);
    } else {
        all.insert(
            name(gvk),
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        );
    }
}

/// The generated schemas have only v1 of RuntimeClass. v1beta1 is the same; v1alpha1 has a spec.
fn older_runtime_class(version: &str, all: &mut Definitions, reference: &str) {
    let (newer, older) = (format!("{NODE}.v1."), format!("{NODE}.{version}."));
    let mut classes = Definitions::new();
    complete(
        vec![format!("{newer}RuntimeClass")],
        &mut classes,
        reference,
    );
    for (name, mut schema) in classes {
        let Some(kind) = name.strip_prefix(&newer) else {
            continue;
        };
        rename(
            &mut schema,
            &format!("{reference}{newer}"),
            &format!("{reference}{older}"),
        );
        all.insert(format!("{older}{kind}"), schema);
    }
    if version != "v1alpha1" {
        return;
    }
    let Some(class) = all.get_mut(&format!("{older}RuntimeClass")) else {
        return;
    };
    let Some(properties) = class.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    let mut inner = Map::new();
    for (top, below) in [
        ("handler", "runtimeHandler"),
        ("overhead", "overhead"),
        ("scheduling", "scheduling"),
    ] {
        if let Some(property) = properties.remove(top) {
            inner.insert(below.to_owned(), property);
        }
    }
    let spec = format!("{older}RuntimeClassSpec");
    properties.insert("spec".to_owned(), json!({"description": "spec represents specification of the RuntimeClass", "$ref": format!("{reference}{spec}")}));
    class["required"] = json!(["spec"]);
    all.insert(spec, json!({
        "description": "RuntimeClassSpec is a specification of a RuntimeClass. It contains parameters that are required to describe the RuntimeClass to the Container Runtime Interface (CRI) implementation, as well as any other components that need to understand how the pod will be run. The RuntimeClassSpec is immutable.",
        "type": "object", "properties": inner, "required": ["runtimeHandler"]}));
}

fn rename(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref")
                && let Some(rest) = reference.strip_prefix(from)
            {
                *reference = format!("{to}{rest}");
            }
            map.values_mut().for_each(|v| rename(v, from, to));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| rename(v, from, to)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What references begin with in an OpenAPI 2 document.
const V2_REFERENCE: &str = "#/definitions/";

/// The schema of a custom kind, with what every object has.
fn custom(schema: &Value, reference: &str) -> Value {
    let mut schema = schema.clone();
    if reference == V2_REFERENCE {
        // With any property a client that checks by this document would refuse all others.
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            return json!({"type": "object"});
        }
        plain(&mut schema);
    }
    if let Some(map) = schema.as_object_mut() {
        let properties = map.entry("properties").or_insert_with(|| json!({}));
        properties["apiVersion"] = json!({"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object."});
        properties["kind"] = json!({"type": "string", "description": "Kind is a string value representing the REST resource this object represents."});
        properties["metadata"] = json!({"$ref": format!("{reference}{META}.ObjectMeta"), "description": "Standard object's metadata."});
    }
    schema
}

/// Takes out what OpenAPI 2 doesn't have.
fn plain(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    for keyword in ["anyOf", "oneOf", "not", "default", "nullable"] {
        map.remove(keyword);
    }
    if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        map.remove("type");
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(name) {
            plain(inner);
        }
    }
    let properties = map.get_mut("properties").and_then(Value::as_object_mut);
    for (_, inner) in properties.into_iter().flatten() {
        plain(inner);
    }
    if let Some(list) = map.get_mut("allOf").and_then(Value::as_array_mut) {
        list.iter_mut().for_each(plain);
    }
}

fn list(row: &Resource, gvk: &Gvk, reference: &str) -> Value {
    json!({
        "description": format!("{} is a list of {}", row.list_kind, row.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object."},
            "kind": {"type": "string", "description": "Kind is a string value representing the REST resource this object represents."},
            "metadata": {"$ref": format!("{reference}{META}.ListMeta"), "description": "Standard list metadata."},
            "items": {"type": "array", "description": format!("List of {}.", row.plural), "items": {"$ref": format!("{reference}{}", name(gvk))}},
        },
        "x-kubernetes-group-version-kind": [kind_value(&Gvk::new(&gvk.group, &gvk.version, &row.list_kind))],
    })
}

/// Writes one definition as the stock server does.
fn finish(name: &str, schema: &mut Value, components: bool) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    match name.rsplit('.').next() {
        Some("Quantity") if name.contains("api.resource") => {
            scalar(map, &["string", "number"], None, components)
        }
        Some("IntOrString") if name.contains("util.intstr") => scalar(
            map,
            &["integer", "string"],
            Some("int-or-string"),
            components,
        ),
        _ => {}
    }
    // a field of the Rust struct that is not an Option, not one that clients must send
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|field| field != "metadata");
        if required.is_empty() {
            map.remove("required");
        }
    }
    let ty = schema::of_schema(name);
    let Some(Value::Object(properties)) = map.get_mut("properties") else {
        return;
    };
    for (field, property) in properties {
        if components {
            references_in_all_of(property);
        }
        if let (Some(field), Some(property)) =
            (ty.and_then(|t| t.field(field)), property.as_object_mut())
        {
            annotate(field, property);
        }
    }
}

fn scalar(map: &mut Map<String, Value>, types: &[&str], format: Option<&str>, components: bool) {
    map.remove("x-kubernetes-int-or-string");
    if components {
        map.insert(
            "oneOf".to_owned(),
            types.iter().map(|t| json!({"type": t})).collect(),
        );
    } else {
        map.insert("type".to_owned(), json!("string"));
    }
    if let Some(format) = format {
        map.insert("format".to_owned(), json!(format));
    }
}

/// OpenAPI 3.0 ignores what stands beside a `$ref`; in an `allOf` it counts.
fn references_in_all_of(property: &mut Value) {
    let Some(map) = property.as_object_mut() else {
        return;
    };
    if let Some(reference) = map.remove("$ref") {
        map.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            references_in_all_of(inner);
        }
    }
}

fn annotate(field: &schema::Field, property: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Value| {
        property.insert(format!("x-kubernetes-{name}"), value);
    };
    match &field.kind {
        Kind::List => put("list-type", json!("atomic")),
        Kind::Set => put("list-type", json!("set")),
        Kind::Keyed(keys) => {
            put("list-type", json!("map"));
            put("list-map-keys", json!(keys));
        }
        Kind::Atomic => put("map-type", json!("atomic")),
        Kind::Struct | Kind::Pointer | Kind::Map | Kind::Raw | Kind::Default(_) => {}
    }
    let strategy = &field.strategy;
    let names = [
        (strategy.merge, "merge"),
        (strategy.replace, "replace"),
        (strategy.retain_keys, "retainKeys"),
    ];
    let names: Vec<&str> = names
        .into_iter()
        .filter(|(is, _)| *is)
        .map(|(_, name)| name)
        .collect();
    if !names.is_empty() {
        put("patch-strategy", json!(names.join(",")));
    }
    if let Some(key) = strategy.key {
        put("patch-merge-key", json!(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_keeps_unknown_fields_has_no_properties_in_openapi_2() {
        let keeps = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}});
        assert_eq!(custom(&keeps, V2_REFERENCE), json!({"type": "object"}));
        let full = custom(&keeps, "#/components/schemas/");
        assert_eq!(full["x-kubernetes-preserve-unknown-fields"], true);
        assert_eq!(full["properties"]["a"]["type"], "string");
        let inside = json!({"type": "object", "properties": {"a": keeps}});
        let shown = custom(&inside, V2_REFERENCE);
        assert_eq!(
            shown["properties"]["a"]["x-kubernetes-preserve-unknown-fields"],
            true
        );
        assert!(shown["properties"]["kind"].is_object());
    }
}
