//! What is wrong with the schema of a definition, in the reference's words: whether it is structural, whether its
//! defaults fit it, whether its rules compile and what they can cost.

mod defaults;
mod expressions;
mod fields;
mod parts;
mod structural;

use berth_api::field::{FieldError, FieldPath};
use serde_json::Value as Json;

pub use fields::{check_scale_path, check_selectable_fields};

/// What is checked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Whether the version has the subresource `status`: it restricts what is at the root.
    pub status: bool,
}

/// What may stand at the root of a schema beside the subresource `status`.
const AT_ROOT: [&str; 23] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
    "nullable",
];

/// Whether a field of a schema says something: null, false, empty and zero are as if it weren't there.
pub(crate) fn says(schema: &Json, name: &str) -> bool {
    match schema.get(name) {
        None | Some(Json::Null | Json::Bool(false)) => false,
        Some(Json::String(text)) => !text.is_empty(),
        Some(Json::Array(list)) => !list.is_empty(),
        Some(Json::Object(map)) => !map.is_empty(),
        Some(Json::Bool(true) | Json::Number(_)) => true,
    }
}

pub(crate) fn text<'s>(schema: &'s Json, name: &str) -> &'s str {
    schema.get(name).and_then(Json::as_str).unwrap_or_default()
}

pub(crate) fn list<'s>(schema: &'s Json, name: &str) -> impl Iterator<Item = &'s Json> {
    schema
        .get(name)
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
}

pub(crate) fn map<'s>(
    schema: &'s Json,
    name: &str,
) -> impl Iterator<Item = (&'s String, &'s Json)> {
    schema
        .get(name)
        .and_then(Json::as_object)
        .into_iter()
        .flatten()
}

/// The schema of a field of a schema, when it is one.
pub(crate) fn sub<'s>(schema: &'s Json, name: &str) -> Option<&'s Json> {
    schema.get(name).filter(|inner| inner.is_object())
}

/// What is wrong with `openAPIV3Schema`, which is at `at`.
#[must_use]
pub fn check(schema: &Json, at: &FieldPath, options: Options) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if options.status {
        root(schema, at, &mut errors);
    }
    if says(schema, "nullable") {
        errors.push(FieldError::forbidden(
            &at.child("nullable"),
            "nullable cannot be true at the root",
        ));
    }
    let mut structure = structural::check(schema, at);
    structure.sort_by_cached_key(|error| format!("{}{}", error.field, error.body()));
    let mut structured = structure.is_empty();
    errors.extend(structure);
    let parts = parts::check(schema, at);
    if structured && parts.is_empty() {
        let wrong = defaults::check(schema, at);
        structured = wrong.is_empty();
        errors.extend(wrong);
    }
    // Expressions are about schemas that are right otherwise.
    let rules = structured && parts.is_empty();
    errors.extend(parts);
    if rules {
        errors.extend(expressions::check(schema, at));
    }
    errors
}

fn root(schema: &Json, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let kind = text(schema, "type");
    if kind != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(&at.child("type"), kind, why));
        return;
    }
    let names = schema
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str());
    if names
        .into_iter()
        .any(|name| says(schema, name) && !AT_ROOT.contains(&name))
    {
        let allowed: Vec<String> = AT_ROOT[..22]
            .iter()
            .map(|name| (*name).to_owned())
            .collect();
        let why = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            allowed.join(" ")
        );
        let mut error = FieldError::invalid(at, "", why);
        error.value.clear();
        errors.push(error);
    }
}
