//! The types of the kinds that a policy matches, from discovery and the OpenAPI documents.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use berth_cel::Decl;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::Client;
use kube::discovery::{ApiCapabilities, ApiResource, Discovery};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::check::Typed;
use crate::server::{is_code, path_segment};

/// Kinds of one rule that are looked at, as on the stock controller manager.
const MAX_TYPES: usize = 10;
/// Values in a schema whose references have been followed.
const MAX_NODES: usize = 200_000;
/// How deep references and properties are followed.
const MAX_DEPTH: usize = 64;

/// Group, version, kind.
type Gvk = (String, String, String);

/// What an OpenAPI document says of types.
#[derive(Default, Deserialize)]
struct Document {
    #[serde(default)]
    components: Components,
}

#[derive(Default, Deserialize)]
struct Components {
    #[serde(default)]
    schemas: Map<String, Value>,
}

/// The types of a server; documents and types are read once.
pub(super) struct Types<'a> {
    client: &'a Client,
    discovery: &'a Discovery,
    documents: HashMap<(String, String), Document>,
    known: HashMap<Gvk, Option<Arc<Decl>>>,
}

impl<'a> Types<'a> {
    pub(super) fn new(client: &'a Client, discovery: &'a Discovery) -> Self {
        Self {
            client,
            discovery,
            documents: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// What a policy is checked against. Kinds without a schema are left out.
    ///
    /// # Errors
    /// When a document cannot be read.
    pub(super) async fn of(&mut self, policy: &ValidatingAdmissionPolicy) -> kube::Result<Typed> {
        let mut typed = Typed::default();
        for gvk in matched(policy, self.discovery) {
            let (group, version, kind) = &gvk;
            let name = format!("{group}/{version}, Kind={kind}");
            if let Some(decl) = self.decl(&gvk).await? {
                typed.objects.push((name, decl));
            }
        }
        let params = policy.spec.as_ref().and_then(|s| s.param_kind.as_ref());
        if let Some(params) = params {
            let api_version = params.api_version.clone().unwrap_or_default();
            let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
            let kind = params.kind.clone().unwrap_or_default();
            let gvk = (group.to_owned(), version.to_owned(), kind);
            typed.params = self.decl(&gvk).await?;
        }
        Ok(typed)
    }

    async fn decl(&mut self, gvk: &Gvk) -> kube::Result<Option<Arc<Decl>>> {
        if let Some(known) = self.known.get(gvk) {
            return Ok(known.clone());
        }
        let (group, version, kind) = gvk;
        let at = (group.clone(), version.clone());
        if !self.documents.contains_key(&at) {
            let document = document(self.client, group, version).await?;
            self.documents.insert(at.clone(), document);
        }
        let schemas = self.documents.get(&at).map(|d| &d.components.schemas);
        let decl = schemas.and_then(|schemas| type_of(schemas, group, version, kind));
        let decl = decl.map(Arc::new);
        self.known.insert(gvk.clone(), decl.clone());
        Ok(decl)
    }
}

/// The document of a version of a group; empty where there is none.
async fn document(client: &Client, group: &str, version: &str) -> kube::Result<Document> {
    let segments = if group.is_empty() {
        path_segment(version).map(|version| format!("api/{version}"))
    } else {
        let segments = path_segment(group).zip(path_segment(version));
        segments.map(|(group, version)| format!("apis/{group}/{version}"))
    };
    let Some(path) = segments else {
        return Ok(Document::default());
    };
    let request = http::Request::get(format!("/openapi/v3/{path}"))
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    match client.request(request).await {
        Ok(document) => Ok(document),
        Err(error) if is_code(&error, &[404, 503]) => Ok(Document::default()),
        Err(error) => Err(error),
    }
}

/// The kinds that the rules of a policy name, in order; rules with a wildcard name none.
fn matched(policy: &ValidatingAdmissionPolicy, discovery: &Discovery) -> BTreeSet<Gvk> {
    let constraints = policy
        .spec
        .as_ref()
        .and_then(|s| s.match_constraints.as_ref());
    let rules = constraints.and_then(|c| c.resource_rules.as_deref());
    let mut found = BTreeSet::new();
    for rule in rules.unwrap_or_default() {
        let sorted = |names: Option<&Vec<String>>| -> BTreeSet<String> {
            names.into_iter().flatten().cloned().collect()
        };
        let groups = sorted(rule.api_groups.as_ref());
        let versions = sorted(rule.api_versions.as_ref());
        let has_wildcard = |names: &BTreeSet<String>| names.iter().any(|name| name.contains('*'));
        if has_wildcard(&groups) || has_wildcard(&versions) {
            continue;
        }
        let mut resources = sorted(rule.resources.as_ref());
        resources.retain(|name| !name.contains(['*', '/']));
        let mut count = 0;
        for group in &groups {
            for version in &versions {
                let served = served(discovery, group, version);
                for resource in &resources {
                    let kind = served.iter().find(|(of, _)| of.plural == *resource);
                    let Some((of, _)) = kind else {
                        continue;
                    };
                    found.insert((group.clone(), version.clone(), of.kind.clone()));
                    count += 1;
                    if count == MAX_TYPES {
                        return found;
                    }
                }
            }
        }
    }
    found
}

fn served(
    discovery: &Discovery,
    group: &str,
    version: &str,
) -> Vec<(ApiResource, ApiCapabilities)> {
    discovery
        .get(group)
        .map(|group| group.versioned_resources(version))
        .unwrap_or_default()
}

/// The type of a kind, from the schemas of its document.
fn type_of(schemas: &Map<String, Value>, group: &str, version: &str, kind: &str) -> Option<Decl> {
    let wanted = json!({"group": group, "version": version, "kind": kind});
    let schema = schemas.values().find(|schema| {
        let kinds = schema["x-kubernetes-group-version-kind"].as_array();
        kinds.is_some_and(|kinds| kinds.contains(&wanted))
    })?;
    let mut nodes = MAX_NODES;
    let resolved = resolve(schema, schemas, &mut Vec::new(), &mut nodes);
    let is =
        |pointer: &str, ty: &str| resolved.pointer(pointer).and_then(Value::as_str) == Some(ty);
    // Otherwise, as of a custom resource, what every object has is added.
    let is_whole = is("/properties/kind/type", "string")
        && is("/properties/apiVersion/type", "string")
        && is("/properties/metadata/properties/name/type", "string")
        && is(
            "/properties/metadata/properties/generateName/type",
            "string",
        );
    Decl::named_from_schema(kind, &resolved, !is_whole)
}

/// Anything.
fn any() -> Value {
    json!({"x-kubernetes-int-or-string": true})
}

/// A schema with what it refers to in place of the references. What refers to itself, has no type, or is too much, is
/// anything: a warning that is wrong is worse than one that is missing.
fn resolve<'s>(
    schema: &'s Value,
    all: &'s Map<String, Value>,
    open: &mut Vec<&'s str>,
    nodes: &mut usize,
) -> Value {
    let Some(left) = nodes.checked_sub(1).filter(|_| open.len() < MAX_DEPTH) else {
        return any();
    };
    *nodes = left;
    let reference = schema["$ref"].as_str().or_else(|| {
        let parts = schema["allOf"].as_array().filter(|parts| parts.len() == 1);
        parts.and_then(|parts| parts.first()?.get("$ref")?.as_str())
    });
    if let Some(reference) = reference {
        let name = reference.trim_start_matches("#/components/schemas/");
        let Some(target) = all.get(name).filter(|_| !open.contains(&name)) else {
            return any();
        };
        open.push(name);
        let resolved = resolve(target, all, open, nodes);
        open.pop();
        return resolved;
    }
    let is_preserved = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let is_mixed =
        schema["x-kubernetes-int-or-string"] == true || schema["format"] == "int-or-string";
    let properties = schema["properties"]
        .as_object()
        .filter(|all| !all.is_empty());
    let values = schema.get("additionalProperties").filter(|v| v.is_object());
    match schema["type"].as_str() {
        _ if is_mixed => any(),
        Some("object") if properties.is_some() && !is_preserved => {
            let mut resolved = schema.clone();
            open.push("");
            let properties = properties.into_iter().flatten();
            resolved["properties"] = properties
                .map(|(name, inner)| (name.clone(), resolve(inner, all, open, nodes)))
                .collect::<Map<String, Value>>()
                .into();
            open.pop();
            resolved
        }
        Some("object") if values.is_some() && properties.is_none() => {
            let mut resolved = schema.clone();
            open.push("");
            if let Some(values) = values {
                resolved["additionalProperties"] = resolve(values, all, open, nodes);
            }
            open.pop();
            resolved
        }
        Some("array") if schema["items"].is_object() => {
            let mut resolved = schema.clone();
            open.push("");
            resolved["items"] = resolve(&schema["items"], all, open, nodes);
            open.pop();
            resolved
        }
        Some("string" | "integer" | "number" | "boolean") => schema.clone(),
        Some(_) | None => any(),
    }
}

#[cfg(test)]
mod tests {
    use berth_cel::Env;

    use super::*;

    fn schemas() -> Map<String, Value> {
        let gvk = json!([{"group": "apps", "version": "v1", "kind": "Thing"}]);
        let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
        let schemas = json!({
            "Thing": {"type": "object", "x-kubernetes-group-version-kind": gvk, "properties": {
                "apiVersion": {"type": "string"}, "kind": {"type": "string"},
                "metadata": {"allOf": [reference("Meta")], "default": {}},
                "spec": {"allOf": [reference("Spec")], "default": {}}}},
            "Meta": {"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"},
                "labels": {"type": "object", "additionalProperties": {"type": "string", "default": ""}}}},
            "Spec": {"type": "object", "properties": {"replicas": {"type": "integer"}, "parts": {"type": "array", "items": reference("Part")},
                "again": reference("Spec"), "missing": reference("Missing"), "free": {"type": "object"}, "port": reference("Port"),
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}}}},
            "Part": {"type": "object", "properties": {"on": {"type": "boolean"}}},
            "Port": {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}});
        schemas.as_object().expect("a map").clone()
    }

    #[test]
    fn references_are_followed() {
        let decl = type_of(&schemas(), "apps", "v1", "Thing").expect("a type");
        let env = Env::new().data("object", Arc::new(decl));
        for good in [
            "object.metadata.labels['a'] == object.metadata.name",
            "object.spec.replicas + 1 > 0 && object.spec.parts.all(p, p.on)",
            "object.spec.port == 'a' || object.spec.port == 1",
            "object.spec.again.frob == 1 && object.spec.missing.x && object.spec.free.y && object.spec.open.b == 1",
        ] {
            assert!(
                env.compile(good).is_ok(),
                "{good}: {:?}",
                env.compile(good).err()
            );
        }
        for bad in [
            "object.spec.frob == 1",
            "object.metadata.frob == 1",
            "object.spec.parts.all(p, p.on > 1)",
        ] {
            assert!(env.compile(bad).is_err(), "{bad}");
        }
        assert!(type_of(&schemas(), "apps", "v1", "Part").is_none());
    }

    #[test]
    fn a_custom_resource_has_what_every_object_has() {
        let gvk = json!([{"group": "a.b", "version": "v1", "kind": "Widget"}]);
        let schema = json!({"type": "object", "x-kubernetes-group-version-kind": gvk, "properties": {"size": {"type": "integer"}}});
        let schemas = Map::from_iter([("w".to_owned(), schema)]);
        let decl = type_of(&schemas, "a.b", "v1", "Widget").expect("a type");
        let env = Env::new().data("object", Arc::new(decl));
        assert!(
            env.compile("object.metadata.name == 'a' && object.size > 1")
                .is_ok()
        );
        assert!(env.compile("object.size > 'a'").is_err());
    }

    /// A schema that grows with each reference, as an extension's server may make one.
    #[test]
    fn a_schema_that_is_too_large_is_anything() {
        let mut all = Map::new();
        for n in 0..60 {
            let next = json!({"$ref": format!("#/components/schemas/s{}", n + 1)});
            all.insert(
                format!("s{n}"),
                json!({"type": "object", "properties": {"a": next, "b": next, "c": next}}),
            );
        }
        let gvk = json!([{"group": "", "version": "v1", "kind": "Bomb"}]);
        all["s0"]["x-kubernetes-group-version-kind"] = gvk;
        let begun = std::time::Instant::now();
        assert!(type_of(&all, "", "v1", "Bomb").is_some());
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }
}
