//! What may be in each part of a schema.

use berth_api::field::{FieldError, FieldPath};
use serde_json::Value as Json;

use super::{list, map, says, sub, text};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const UNSUPPORTED: [(&str, &str); 6] = [
    ("id", "id is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("$ref", "$ref is not supported"),
];
const METADATA: [&str; 3] = ["metadata", "kind", "apiVersion"];

pub(super) fn check(schema: &Json, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    part(
        schema,
        at,
        &Above {
            root: true,
            inside_metadata: false,
            no_defaults: None,
        },
        &mut errors,
    );
    errors
}

/// Where a part is.
#[derive(Clone)]
struct Above {
    root: bool,
    inside_metadata: bool,
    /// Why there must be no defaults.
    no_defaults: Option<String>,
}

fn part(schema: &Json, at: &FieldPath, above: &Above, errors: &mut Vec<FieldError>) {
    standard(schema, at, above, errors);
    if says(schema, "uniqueItems") {
        let why =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&at.child("uniqueItems"), why));
    }
    let inside = Above {
        root: false,
        ..above.clone()
    };
    if let Some(additional) = schema
        .get("additionalProperties")
        .filter(|value| !value.is_null())
    {
        if says(schema, "properties") && additional != &Json::Bool(true) {
            let why = "additionalProperties and properties are mutual exclusive";
            errors.push(FieldError::forbidden(
                &at.child("additionalProperties"),
                why,
            ));
        }
        let mut inside = inside.clone();
        if above.inside_metadata {
            inside.no_defaults =
                Some("inside additionalProperties applying to object metadata".to_owned());
        }
        if additional.is_object() {
            part(
                additional,
                &at.child("additionalProperties"),
                &inside,
                errors,
            );
        }
    }
    for (name, property) in map(schema, "properties") {
        let mut inside = inside.clone();
        if (above.root || says(schema, "x-kubernetes-embedded-resource"))
            && METADATA.contains(&name.as_str())
        {
            inside.inside_metadata = true;
            if above.root {
                inside.no_defaults = Some(format!("in top-level {name}"));
            }
        }
        part(property, &at.child("properties").key(name), &inside, errors);
    }
    if let Some(inner) = sub(schema, "not") {
        part(inner, &at.child("not"), &inside, errors);
    }
    for name in ["allOf", "oneOf", "anyOf"] {
        for (index, inner) in list(schema, name).enumerate() {
            part(inner, &at.child(name).index(index), &inside, errors);
        }
    }
    if let Some(items) = sub(schema, "items") {
        part(items, &at.child("items"), &inside, errors);
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Json::Bool(false)) {
        let at = at.child("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(&at, false, "must be true or undefined"));
    }
    lists(schema, at, errors);
    if let Some(kind) = schema.get("x-kubernetes-map-type").and_then(Json::as_str) {
        expects_type(schema, at, "object", "x-kubernetes-map-type", errors);
        if !matches!(kind, "atomic" | "granular") {
            errors.push(FieldError::not_supported(
                &at.child("x-kubernetes-map-type"),
                kind,
                &["atomic", "granular"],
            ));
        }
    }
    for (index, rule) in list(schema, "x-kubernetes-validations").enumerate() {
        self::rule(
            schema,
            rule,
            &at.child("x-kubernetes-validations").index(index),
            errors,
        );
    }
}

fn standard(schema: &Json, at: &FieldPath, above: &Above, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&at.child("type"), why));
    }
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&at.child("type"), kind, &TYPES));
    }
    if let Some(reason) = &above.no_defaults
        && schema.get("default").is_some_and(|value| !value.is_null())
    {
        errors.push(FieldError::forbidden(
            &at.child("default"),
            format!("must not be set {reason}"),
        ));
    }
    for (name, why) in UNSUPPORTED {
        if says(schema, name) {
            errors.push(FieldError::forbidden(&at.child(name), why));
        }
    }
    if schema.get("items").is_some_and(Json::is_array) {
        errors.push(FieldError::forbidden(
            &at.child("items"),
            "items must be a schema object and not an array",
        ));
    }
    if above.inside_metadata && says(schema, "x-kubernetes-embedded-resource") {
        let why = "must not be used inside of resource meta";
        errors.push(FieldError::forbidden(
            &at.child("x-kubernetes-embedded-resource"),
            why,
        ));
    }
    // An infinite or negative count would be enforced as none at all.
    if schema
        .get("multipleOf")
        .and_then(Json::as_f64)
        .is_some_and(|factor| factor <= 0.0)
    {
        errors.push(FieldError::invalid(
            &at.child("multipleOf"),
            &schema["multipleOf"],
            "must be greater than 0",
        ));
    }
}

fn expects_type(
    schema: &Json,
    at: &FieldPath,
    wanted: &str,
    by: &str,
    errors: &mut Vec<FieldError>,
) {
    let kind = text(schema, "type");
    let why = format!("must be {wanted} if {by} is specified");
    if kind.is_empty() {
        errors.push(FieldError::required(&at.child("type"), why));
    } else if kind != wanted {
        errors.push(FieldError::invalid(&at.child("type"), kind, why));
    }
}

fn lists(schema: &Json, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let kind = schema.get("x-kubernetes-list-type").and_then(Json::as_str);
    let at_kind = at.child("x-kubernetes-list-type");
    let at_keys = at.child("x-kubernetes-list-map-keys");
    let items = sub(schema, "items");
    let keys: Vec<&str> = list(schema, "x-kubernetes-list-map-keys")
        .filter_map(Json::as_str)
        .collect();
    if let Some(kind) = kind {
        expects_type(schema, at, "array", "x-kubernetes-list-type", errors);
        if !matches!(kind, "atomic" | "set" | "map") {
            errors.push(FieldError::not_supported(
                &at_kind,
                kind,
                &["atomic", "set", "map"],
            ));
        }
    }
    if kind == Some("set")
        && let Some(items) = items
    {
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let wrong =
            |name: &str| FieldError::invalid(&at.child("items").child(name), items.get(name), why);
        match text(items, "type") {
            "array"
                if text(items, "x-kubernetes-list-type") != "atomic"
                    && says(items, "x-kubernetes-list-type") =>
            {
                errors.push(wrong("x-kubernetes-list-type"));
            }
            "object" if text(items, "x-kubernetes-map-type") != "atomic" => {
                errors.push(wrong("x-kubernetes-map-type"))
            }
            _ => {}
        }
    }
    if !keys.is_empty() && kind != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match kind {
            None => FieldError::required(&at_kind, why),
            Some(kind) => FieldError::invalid(&at_kind, kind, why),
        });
    }
    if kind == Some("map") {
        if keys.is_empty() {
            errors.push(FieldError::required(
                &at_keys,
                "must not be empty if x-kubernetes-list-type is map",
            ));
        }
        let Some(items) = items else {
            errors.push(FieldError::required(
                &at.child("items"),
                "must have a schema if x-kubernetes-list-type is map",
            ));
            return;
        };
        if text(items, "type") != "object" {
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(
                &at.child("items").child("type"),
                text(items, "type"),
                why,
            ));
        }
        self::keys(&keys, items, at, errors);
    }
    if matches!(kind, Some("map" | "set"))
        && let (Some(items), Some(kind)) = (items, kind)
        && says(items, "nullable")
    {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.push(FieldError::forbidden(
            &at.child("items").child("nullable"),
            why,
        ));
    }
}

fn keys(keys: &[&str], items: &Json, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let at_keys = at.child("x-kubernetes-list-map-keys");
    let at_properties = at.child("items").child("properties");
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].contains(key) {
            errors.push(FieldError::invalid(
                &at_keys,
                keys,
                "must not contain duplicate entries",
            ));
        }
        let Some(property) = items
            .get("properties")
            .and_then(|properties| properties.get(*key))
        else {
            errors.push(FieldError::invalid(
                &at_keys,
                keys,
                "entries must all be names of item properties",
            ));
            continue;
        };
        if matches!(text(property, "type"), "array" | "object") {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(
                &at_properties.key(key).child("type"),
                text(property, "type"),
                why,
            ));
        }
        if !list(items, "required").any(|name| name == key)
            && property.get("default").is_none_or(Json::is_null)
        {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(
                &at_properties.key(key).child("default"),
                why,
            ));
        }
        if says(property, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(
                &at_properties.key(key).child("nullable"),
                why,
            ));
        }
    }
}

const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

fn rule(schema: &Json, rule: &Json, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let broken = |text: &str| text.contains(['\n', '\r']);
    let (source, message) = (text(rule, "rule"), text(rule, "message"));
    if source.trim().is_empty() {
        errors.push(FieldError::required(
            &at.child("rule"),
            "rule is not specified",
        ));
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.push(FieldError::invalid(
            &at.child("message"),
            message,
            "must be non-empty if specified",
        ));
    } else if broken(message.trim()) {
        errors.push(FieldError::invalid(
            &at.child("message"),
            message,
            "must not contain line breaks",
        ));
    } else if broken(source.trim()) && message.trim().is_empty() {
        errors.push(FieldError::required(
            &at.child("message"),
            "message must be specified if rule contains line breaks",
        ));
    }
    let expression = text(rule, "messageExpression");
    if !expression.is_empty() && expression.trim().is_empty() {
        let why = "messageExpression must be non-empty if specified";
        errors.push(FieldError::required(&at.child("messageExpression"), why));
    }
    if let Some(reason) = rule
        .get("reason")
        .and_then(Json::as_str)
        .filter(|reason| !REASONS.contains(reason))
    {
        errors.push(FieldError::not_supported(
            &at.child("reason"),
            reason,
            &REASONS,
        ));
    }
    let path = text(rule, "fieldPath");
    if path.is_empty() {
        return;
    }
    if path.trim().is_empty() {
        errors.push(FieldError::invalid(
            &at.child("fieldPath"),
            path,
            "must be non-empty if specified",
        ));
    }
    if broken(path) {
        errors.push(FieldError::invalid(
            &at.child("fieldPath"),
            path,
            "must not contain line breaks",
        ));
    }
    if crate::path::find(schema, path, true).is_err() {
        errors.push(FieldError::invalid(
            &at.child("fieldPath"),
            path,
            "must be a valid path",
        ));
    }
}
