//! The operations of a row: paths, verbs, parameters and what goes in and out.

use serde_json::{Map, Value, json};

use super::{kinds, schemas};
use crate::{
    patch::PatchKind,
    registry::{Gvk, Resource, Subresource},
};

/// Which of the two document forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Swagger 2.0.
    V2,
    /// OpenAPI 3.0.
    V3,
}

impl Form {
    pub(super) fn reference(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }
}

/// The verbs and the HTTP method, action and operation prefix of each.
const VERBS: [(&str, &str, &str, &str); 7] = [
    ("list", "get", "list", "list"),
    ("create", "post", "post", "create"),
    (
        "deletecollection",
        "delete",
        "deletecollection",
        "deletecollection",
    ),
    ("get", "get", "get", "read"),
    ("update", "put", "put", "replace"),
    ("patch", "patch", "patch", "patch"),
    ("delete", "delete", "delete", "delete"),
];

/// All paths of a row in one version.
pub(super) fn paths(row: &Resource, version: &str, form: Form) -> Vec<(String, Value)> {
    let prefix = if row.group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{}/{version}", row.group)
    };
    let base = if row.namespaced() {
        format!("{prefix}/namespaces/{{namespace}}/{}", row.plural)
    } else {
        format!("{prefix}/{}", row.plural)
    };
    let gvk = Gvk::new(&row.group, version, &row.kind);
    let tag = tag(&row.group, version);
    let operations = |verbs: &[&str], item: bool, gvk: &Gvk, suffix: &str, scope: &str| {
        let mut operations = Map::new();
        for (verb, method, action, word) in VERBS {
            let on_item = matches!(verb, "get" | "update" | "patch" | "delete");
            if verbs.contains(&verb) && (on_item == item || !suffix.is_empty()) {
                let id = format!("{word}{}{scope}{}{suffix}", camel(&tag), row.kind);
                operations.insert(
                    method.to_owned(),
                    operation(form, verb, action, &id, &tag, gvk, row),
                );
            }
        }
        operations
    };
    let scope = if row.namespaced() { "Namespaced" } else { "" };
    let namespace = row.namespaced().then(|| {
        parameter(
            form,
            "namespace",
            "path",
            "string",
            "object name and auth scope, such as for teams and projects",
        )
    });
    let name = parameter(
        form,
        "name",
        "path",
        "string",
        &format!("name of the {}", row.kind),
    );
    let mut paths = Vec::new();
    let mut add = |path: String, mut operations: Map<String, Value>, parameters: Vec<Value>| {
        if !operations.is_empty() {
            operations.insert("parameters".to_owned(), Value::Array(parameters));
            paths.push((path, Value::Object(operations)));
        }
    };
    if row.namespaced() && row.verbs.contains(&"list") {
        add(
            format!("{prefix}/{}", row.plural),
            operations(&["list"], false, &gvk, "", ""),
            Vec::new(),
        );
    }
    add(
        base.clone(),
        operations(&row.verbs, false, &gvk, "", scope),
        namespace.iter().cloned().collect(),
    );
    let item: Vec<Value> = [name].into_iter().chain(namespace).collect();
    add(
        format!("{base}/{{name}}"),
        operations(&row.verbs, true, &gvk, "", scope),
        item.clone(),
    );
    for sub in &row.subresources {
        let gvk = subresource_gvk(row, sub, version);
        let suffix = camel(sub.name);
        add(
            format!("{base}/{{name}}/{}", sub.name),
            operations(sub.verbs, true, &gvk, &suffix, scope),
            item.clone(),
        );
    }
    paths
}

fn subresource_gvk(row: &Resource, sub: &Subresource, version: &str) -> Gvk {
    if sub.gvk.group == row.group && sub.gvk.kind == row.kind {
        Gvk::new(&row.group, version, &row.kind)
    } else {
        sub.gvk.clone()
    }
}

fn operation(
    form: Form,
    verb: &str,
    action: &str,
    id: &str,
    tag: &str,
    gvk: &Gvk,
    row: &Resource,
) -> Value {
    let reference = |name: String| json!({"$ref": format!("{}{name}", form.reference())});
    // what exec, attach and the like take is not an object
    let is_object =
        gvk.kind == row.kind || kinds::find(&gvk.group, &gvk.version, &gvk.kind).is_some();
    let own = || {
        if is_object {
            reference(schemas::name(gvk))
        } else {
            json!({"type": "string"})
        }
    };
    let meta = |kind: &str| reference(format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"));
    let (answer, body) = match verb {
        "list" => (reference(format!("{}List", schemas::name(gvk))), None),
        "create" | "update" => (own(), Some(own())),
        "patch" => (own(), Some(meta("Patch"))),
        "delete" | "deletecollection" => (meta("Status"), Some(meta("DeleteOptions"))),
        _ => (own(), None),
    };
    let mut parameters: Vec<Value> = query(verb)
        .iter()
        .map(|(name, ty, text)| {
            // kubectl looks for fieldValidation among a patch's own parameters, and does not follow references
            if form == Form::V3 && verb != "patch" {
                json!({"$ref": format!("#/components/parameters/{name}")})
            } else {
                parameter(form, name, "query", ty, text)
            }
        })
        .collect();
    let mut operation = json!({
        "tags": [tag],
        "operationId": id,
        "description": format!("{} {}", describe(verb), row.kind),
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": schemas::kind_value(gvk),
    });
    let code = if verb == "create" { "201" } else { "200" };
    match form {
        Form::V2 => {
            operation["responses"] = json!({code: {"description": "OK", "schema": answer}, "401": {"description": "Unauthorized"}});
            operation["produces"] = json!(["application/json", "application/yaml"]);
            operation["schemes"] = json!(["https"]);
            if let Some(body) = body {
                parameters.push(json!({"name": "body", "in": "body", "required": !verb.starts_with("delete"), "schema": body}));
            }
            operation["consumes"] = if verb == "patch" {
                json!(PatchKind::MEDIA_TYPES)
            } else {
                json!(["*/*"])
            };
        }
        Form::V3 => {
            operation["responses"] = json!({code: {"description": "OK", "content": {"application/json": {"schema": answer}}}, "401": {"description": "Unauthorized"}});
            if let Some(body) = body {
                let types: &[&str] = if verb == "patch" {
                    &PatchKind::MEDIA_TYPES
                } else {
                    &["*/*"]
                };
                let content: Map<String, Value> = types
                    .iter()
                    .map(|t| ((*t).to_owned(), json!({"schema": body})))
                    .collect();
                operation["requestBody"] =
                    json!({"content": content, "required": !verb.starts_with("delete")});
            }
        }
    }
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    operation
}

fn describe(verb: &str) -> &'static str {
    match verb {
        "list" => "list or watch objects of kind",
        "create" => "create a",
        "deletecollection" => "delete collection of",
        "get" => "read the specified",
        "update" => "replace the specified",
        "patch" => "partially update the specified",
        _ => "delete a",
    }
}

type Query = (&'static str, &'static str, &'static str);

const DRY_RUN: Query = (
    "dryRun",
    "string",
    "When present, indicates that modifications should not be persisted. The only valid value is All.",
);
const MANAGER: Query = (
    "fieldManager",
    "string",
    "Name of the actor that makes the changes; required for apply patches.",
);
const VALIDATION: Query = (
    "fieldValidation",
    "string",
    "What to do with unknown and duplicate fields: Ignore, Warn (the default) or Strict.",
);
const LISTING: [Query; 9] = [
    (
        "allowWatchBookmarks",
        "boolean",
        "Requests watch events with type BOOKMARK.",
    ),
    (
        "continue",
        "string",
        "Token of the previous page of a list.",
    ),
    (
        "fieldSelector",
        "string",
        "Restricts the objects by their fields.",
    ),
    (
        "labelSelector",
        "string",
        "Restricts the objects by their labels.",
    ),
    (
        "limit",
        "integer",
        "The maximum number of objects in a page.",
    ),
    (
        "resourceVersion",
        "string",
        "The resource version that the answer must at least have.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "How resourceVersion is applied to lists: Exact or NotOlderThan.",
    ),
    ("timeoutSeconds", "integer", "Timeout of the list or watch."),
    (
        "watch",
        "boolean",
        "Stream changes instead of answering a list.",
    ),
];
const DELETING: [Query; 4] = [
    DRY_RUN,
    (
        "gracePeriodSeconds",
        "integer",
        "The duration in seconds before the object should be deleted; zero deletes immediately.",
    ),
    (
        "orphanDependents",
        "boolean",
        "Deprecated: use propagationPolicy.",
    ),
    (
        "propagationPolicy",
        "string",
        "Whether and how dependents are deleted: Orphan, Background or Foreground.",
    ),
];

fn query(verb: &str) -> Vec<Query> {
    match verb {
        "list" => LISTING.to_vec(),
        "create" | "update" => vec![DRY_RUN, MANAGER, VALIDATION],
        "patch" => {
            let force = (
                "force",
                "boolean",
                "Take fields over from other managers; for apply patches only.",
            );
            vec![DRY_RUN, MANAGER, VALIDATION, force]
        }
        "delete" => DELETING.to_vec(),
        "deletecollection" => DELETING.into_iter().chain(LISTING).collect(),
        _ => Vec::new(),
    }
}

/// The query parameters that the operations of an OpenAPI 3 document refer to.
pub(super) fn shared_parameters() -> Vec<(String, Value)> {
    LISTING
        .into_iter()
        .chain(DELETING)
        .chain([MANAGER, VALIDATION])
        .map(|(name, ty, text)| {
            let parameter = parameter(Form::V3, name, "query", ty, text);
            (name.to_owned(), parameter)
        })
        .collect()
}

fn parameter(form: Form, name: &str, place: &str, ty: &str, text: &str) -> Value {
    let mut parameter = json!({"name": name, "in": place, "description": text});
    match form {
        Form::V2 => {
            parameter["type"] = json!(ty);
            parameter["uniqueItems"] = json!(true);
        }
        Form::V3 => parameter["schema"] = json!({"type": ty, "uniqueItems": true}),
    }
    if place == "path" {
        parameter["required"] = json!(true);
    }
    parameter
}

/// `core_v1`, `node_v1beta1`.
fn tag(group: &str, version: &str) -> String {
    let group = group
        .split('.')
        .next()
        .filter(|g| !g.is_empty())
        .unwrap_or("core");
    format!("{group}_{version}")
}

fn camel(text: &str) -> String {
    let mut upper = true;
    let mut camel = String::new();
    for c in text.chars() {
        match c {
            '_' | '-' | '/' => upper = true,
            c if upper => {
                camel.extend(c.to_uppercase());
                upper = false;
            }
            c => camel.push(c),
        }
    }
    camel
}
