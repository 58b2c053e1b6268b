//! Declarations from structural schemas, as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::escape::escape;
use crate::types::{Decl, DeclKind, FieldDecl, ListKind, ObjectDecl};

/// The largest request, in bytes: no data is larger.
pub(crate) const MAX_REQUEST: u64 = 3 * 1024 * 1024;
/// The longest name of an object.
const MAX_NAME: u64 = 253;
/// How deep schemas are followed.
const MAX_DEPTH: u32 = 256;

impl Decl {
    /// What data of a structural schema is; None when expressions can't see it: an object without known properties, a
    /// list of such. With `root` set, for an object of its own: `apiVersion`, `kind`, `metadata.name` and
    /// `metadata.generateName` are there, whatever the schema says.
    #[must_use]
    pub fn from_schema(schema: &Json, root: bool) -> Option<Self> {
        build(schema, root, "object", MAX_DEPTH)
    }

    /// [`Self::from_schema`] under a name, which messages show and which tells types apart.
    #[must_use]
    pub fn named_from_schema(name: &str, schema: &Json, root: bool) -> Option<Self> {
        build(schema, root, name, MAX_DEPTH)
    }

    /// How often data of this declaration can occur in a request, when the number isn't bounded by a schema.
    #[must_use]
    pub fn max_cardinality(&self) -> u64 {
        MAX_REQUEST / self.min_serialized.saturating_add(1)
    }
}

fn flag(schema: &Json, name: &str) -> bool {
    schema.get(name).and_then(Json::as_bool).unwrap_or(false)
}

fn bound(schema: &Json, name: &str) -> Option<u64> {
    schema
        .get(name)
        .and_then(Json::as_i64)
        .map(|value| u64::try_from(value).unwrap_or(0))
}

fn decl(kind: DeclKind, max_elements: u64, min_serialized: u64) -> Decl {
    Decl {
        kind,
        max_elements: Some(max_elements),
        min_serialized,
    }
}

fn build(schema: &Json, root: bool, name: &str, depth: u32) -> Option<Decl> {
    let depth = depth.checked_sub(1)?;
    if flag(schema, "x-kubernetes-int-or-string") {
        let max = bound(schema, "maxLength").map_or(MAX_REQUEST - 2, |max| max.saturating_mul(4));
        return Some(decl(DeclKind::Dyn, max, 1));
    }
    match schema.get("type").and_then(Json::as_str)? {
        "array" => list(schema, name, depth),
        "object" => match schema
            .get("additionalProperties")
            .filter(|value| value.is_object() && !root)
        {
            Some(values) => {
                let value = build(
                    values,
                    flag(values, "x-kubernetes-embedded-resource"),
                    &format!("{name}.@elem"),
                    depth,
                )?;
                let max = bound(schema, "maxProperties")
                    .unwrap_or((MAX_REQUEST - 2) / (value.min_serialized + 6));
                Some(decl(DeclKind::Map(Arc::new(value)), max, 2))
            }
            None => Some(object(schema, root, name, depth)),
        },
        "string" => Some(string(schema)),
        "boolean" => Some(decl(DeclKind::Bool, 0, 4)),
        "number" => Some(decl(DeclKind::Double, 0, 1)),
        "integer" => Some(decl(DeclKind::Int, 0, 1)),
        _ => None,
    }
}

fn list(schema: &Json, name: &str, depth: u32) -> Option<Decl> {
    let items = schema.get("items")?;
    let element = build(
        items,
        flag(items, "x-kubernetes-embedded-resource"),
        &format!("{name}.@idx"),
        depth,
    )?;
    let max = bound(schema, "maxItems").unwrap_or((MAX_REQUEST - 2) / (element.min_serialized + 1));
    let kind = match schema.get("x-kubernetes-list-type").and_then(Json::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema
                .get("x-kubernetes-list-map-keys")
                .and_then(Json::as_array);
            // The elements are objects, whose fields have other names in expressions.
            let keys = keys
                .into_iter()
                .flatten()
                .filter_map(Json::as_str)
                .filter_map(escape)
                .collect();
            ListKind::Map(keys)
        }
        _ => ListKind::Atomic,
    };
    Some(decl(DeclKind::List(Arc::new(element), kind), max, 2))
}

fn string(schema: &Json) -> Decl {
    let max = bound(schema, "maxLength");
    match schema.get("format").and_then(Json::as_str) {
        Some("byte") => decl(DeclKind::Bytes, max.unwrap_or(MAX_REQUEST - 2), 2),
        Some("duration") => decl(DeclKind::Duration, 32, 3),
        Some("date") => decl(DeclKind::Date, 12, 12),
        Some("date-time") => decl(DeclKind::DateTime, 32, 21),
        _ => {
            let values = schema.get("enum").and_then(Json::as_array);
            let longest = values.map(|values| {
                values
                    .iter()
                    .filter_map(Json::as_str)
                    .map(str::len)
                    .max()
                    .unwrap_or(0)
            });
            let max = match (max, longest) {
                (Some(max), _) => max.saturating_mul(4),
                (None, Some(longest)) => u64::try_from(longest).unwrap_or(u64::MAX),
                (None, None) => MAX_REQUEST - 2,
            };
            decl(DeclKind::String, max, 2)
        }
    }
}

fn object(schema: &Json, root: bool, name: &str, depth: u32) -> Decl {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    let mut fields = BTreeMap::new();
    let mut min_serialized: u64 = 2;
    let properties = schema.get("properties").and_then(Json::as_object);
    for (property, inner) in properties.into_iter().flatten() {
        let Some(escaped) = escape(property) else {
            continue;
        };
        let embedded = flag(inner, "x-kubernetes-embedded-resource");
        let Some(field) = build(inner, embedded, &format!("{name}.{property}"), depth) else {
            continue;
        };
        if required.contains(&property.as_str()) && inner.get("default").is_none() {
            let length = u64::try_from(property.len()).unwrap_or(u64::MAX);
            min_serialized = min_serialized
                .saturating_add(length)
                .saturating_add(field.min_serialized + 4);
        }
        fields.insert(
            escaped,
            FieldDecl {
                name: property.clone(),
                decl: Arc::new(field),
            },
        );
    }
    if root {
        let text = |max| Arc::new(decl(DeclKind::String, max, 2));
        for property in ["apiVersion", "kind"] {
            fields.insert(
                property.to_owned(),
                FieldDecl {
                    name: property.to_owned(),
                    decl: text(MAX_REQUEST - 2),
                },
            );
        }
        let names = ["name", "generateName"].map(|property| {
            (
                property.to_owned(),
                FieldDecl {
                    name: property.to_owned(),
                    decl: text(MAX_NAME * 4),
                },
            )
        });
        let metadata = ObjectDecl {
            name: format!("{name}.metadata"),
            fields: BTreeMap::from(names),
        };
        let metadata = decl(DeclKind::Object(Arc::new(metadata)), 0, 2);
        fields.insert(
            "metadata".to_owned(),
            FieldDecl {
                name: "metadata".to_owned(),
                decl: Arc::new(metadata),
            },
        );
    }
    decl(
        DeclKind::Object(Arc::new(ObjectDecl {
            name: name.to_owned(),
            fields,
        })),
        0,
        min_serialized,
    )
}
