//! Whether a schema is structural: types outside of value validation, nothing that shapes data inside of it.

use berth_api::field::{FieldError, FieldPath};
use berth_cel::Regexp;
use serde_json::{Value as Json, json};

use super::{list, map, says, sub, text};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

pub(super) fn check(schema: &Json, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    invariants(schema, Level::Root, at, &mut errors);
    completes(schema, schema, at, at, &mut errors);
    errors
}

/// `anyOf: [{type: integer}, {type: string}]`, which goes with `x-kubernetes-int-or-string`.
fn is_int_or_string(schema: &Json) -> bool {
    schema.get("anyOf") == Some(&json!([{"type": "integer"}, {"type": "string"}]))
}

fn invariants(schema: &Json, level: Level, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    if kind == "array"
        && sub(schema, "items").is_none()
        && !schema.get("items").is_some_and(Json::is_array)
    {
        errors.push(FieldError::required(
            &at.child("items"),
            "must be specified",
        ));
    }
    if let Some(items) = sub(schema, "items") {
        invariants(items, Level::Item, &at.child("items"), errors);
    }
    for (name, property) in map(schema, "properties") {
        invariants(
            property,
            Level::Field,
            &at.child("properties").key(name),
            errors,
        );
    }
    if says(schema, "additionalProperties") || sub(schema, "additionalProperties").is_some() {
        if level == Level::Root {
            errors.push(FieldError::forbidden(
                &at.child("additionalProperties"),
                "must not be used at the root",
            ));
        }
        if let Some(inner) = sub(schema, "additionalProperties") {
            invariants(
                inner,
                Level::Field,
                &at.child("additionalProperties"),
                errors,
            );
        }
    }
    extensions(schema, at, errors);
    let int_or_string = says(schema, "x-kubernetes-int-or-string");
    let skip_any = int_or_string && is_int_or_string(schema);
    let skip_all = int_or_string && list(schema, "allOf").next().is_some_and(is_int_or_string);
    values(schema, skip_any, skip_all, at, errors);
    kind_of(schema, level, at, errors);
    let embedded = says(schema, "x-kubernetes-embedded-resource");
    let has_metadata = level == Level::Root || embedded;
    for name in ["kind", "apiVersion"] {
        let property = schema
            .get("properties")
            .and_then(|properties| properties.get(name));
        if let Some(property) =
            property.filter(|property| has_metadata && text(property, "type") != "string")
        {
            let at = at.child("properties").key(name).child("type");
            errors.push(FieldError::invalid(
                &at,
                text(property, "type"),
                "must be string",
            ));
        }
    }
    if let Some(metadata) = schema
        .get("properties")
        .and_then(|properties| properties.get("metadata"))
    {
        let at = at.child("properties").key("metadata");
        if has_metadata && text(metadata, "type") != "object" {
            errors.push(FieldError::invalid(
                &at.child("type"),
                text(metadata, "type"),
                "must be object",
            ));
        }
        if level == Level::Root && !is_plain_metadata(metadata) {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(&at, why));
        }
    }
    if embedded
        && !says(schema, "x-kubernetes-preserve-unknown-fields")
        && !says(schema, "properties")
    {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&at.child("properties"), why));
    }
}

/// Whether the metadata at the root says no more than what its names may be.
fn is_plain_metadata(metadata: &Json) -> bool {
    let known = |name: &str| matches!(name, "name" | "generateName");
    map(metadata, "properties").all(|(name, _)| known(name))
        && metadata.as_object().into_iter().flatten().all(|(name, _)| {
            !says(metadata, name) || matches!(name.as_str(), "type" | "properties")
        })
}

fn kind_of(schema: &Json, level: Level, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    let embedded = says(schema, "x-kubernetes-embedded-resource");
    let free = says(schema, "x-kubernetes-int-or-string")
        || says(schema, "x-kubernetes-preserve-unknown-fields");
    let at_type = at.child("type");
    if embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.is_empty() {
            FieldError::required(&at_type, why)
        } else {
            FieldError::invalid(&at_type, kind, why)
        });
    } else if kind.is_empty() && !free {
        errors.push(FieldError::required(
            &at_type,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ));
    }
    if embedded && says(schema, "additionalProperties") {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(
            &at.child("additionalProperties"),
            why,
        ));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(
            &at_type,
            kind,
            "must be object at the root",
        ));
    }
}

fn extensions(schema: &Json, at: &FieldPath, errors: &mut Vec<FieldError>) {
    if !says(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for name in [
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ] {
        if says(schema, name) {
            errors.push(FieldError::invalid(
                &at.child(name),
                true,
                "must be false if x-kubernetes-int-or-string is true",
            ));
        }
    }
}

/// The value validation of a part.
fn values(
    schema: &Json,
    skip_any: bool,
    skip_all: bool,
    at: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    if !skip_any {
        for (index, inner) in list(schema, "anyOf").enumerate() {
            nested(inner, false, &at.child("anyOf").index(index), errors);
        }
    }
    for (index, inner) in list(schema, "allOf").enumerate() {
        nested(
            inner,
            skip_all && index == 0,
            &at.child("allOf").index(index),
            errors,
        );
    }
    for (index, inner) in list(schema, "oneOf").enumerate() {
        nested(inner, false, &at.child("oneOf").index(index), errors);
    }
    if let Some(inner) = sub(schema, "not") {
        nested(inner, false, &at.child("not"), errors);
    }
    let pattern = text(schema, "pattern");
    if let Err(why) = Regexp::compile(pattern) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(&at.child("pattern"), pattern, why));
    }
}

/// What must not be said inside of value validation, and how the reference puts it.
const FORBIDDEN: [(&str, &str); 12] = [
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    (
        "x-kubernetes-preserve-unknown-fields",
        "must be false to be structural",
    ),
    (
        "x-kubernetes-embedded-resource",
        "must be false to be structural",
    ),
    (
        "x-kubernetes-int-or-string",
        "must be false to be structural",
    ),
    (
        "x-kubernetes-list-map-keys",
        "must be empty to be structural",
    ),
    (
        "x-kubernetes-list-type",
        "must be undefined to be structural",
    ),
    (
        "x-kubernetes-map-type",
        "must be undefined to be structural",
    ),
];

fn nested(schema: &Json, skip_any: bool, at: &FieldPath, errors: &mut Vec<FieldError>) {
    values(schema, skip_any, false, at, errors);
    if let Some(items) = sub(schema, "items") {
        nested(items, false, &at.child("items"), errors);
    }
    for (name, property) in map(schema, "properties") {
        nested(property, false, &at.child("properties").key(name), errors);
    }
    for (name, why) in FORBIDDEN {
        let said = says(schema, name)
            || (matches!(name, "default" | "additionalProperties")
                && schema.get(name).is_some_and(|v| !v.is_null()));
        if said {
            errors.push(FieldError::forbidden(&at.child(name), why));
        }
    }
    if says(schema, "x-kubernetes-validations") {
        errors.push(FieldError::forbidden(
            &at.child("x-kubernetes-validations"),
            "must be empty to be structural",
        ));
    }
    if schema
        .get("properties")
        .is_some_and(|properties| properties.get("metadata").is_some())
    {
        let at = at.child("properties").key("metadata");
        errors.push(FieldError::forbidden(
            &at,
            "must not be specified in a nested context",
        ));
    }
}

/// Whether all that value validation at the root names is outside of it, too.
fn completes(
    schema: &Json,
    value: &Json,
    at: &FieldPath,
    from: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, inner) in list(value, name).enumerate() {
            complete_nested(schema, inner, at, &from.child(name).index(index), errors);
        }
    }
    if let Some(inner) = sub(value, "not") {
        complete_nested(schema, inner, at, &from.child("not"), errors);
    }
}

fn complete_nested(
    schema: &Json,
    value: &Json,
    at: &FieldPath,
    from: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    completes(schema, value, at, from, errors);
    let missing = |at: &FieldPath, from: &FieldPath| {
        FieldError::required(at, format!("because it is defined in {from}"))
    };
    if let Some(inner) = sub(value, "items") {
        let (at, from) = (at.child("items"), from.child("items"));
        match sub(schema, "items") {
            Some(items) => complete_nested(items, inner, &at, &from, errors),
            None => errors.push(missing(&at, &from)),
        }
    }
    for (name, inner) in map(value, "properties") {
        let (at, from) = (
            at.child("properties").key(name),
            from.child("properties").key(name),
        );
        match schema
            .get("properties")
            .and_then(|properties| properties.get(name))
        {
            Some(property) => complete_nested(property, inner, &at, &from, errors),
            None => errors.push(missing(&at, &from)),
        }
    }
}
