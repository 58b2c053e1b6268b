//! Whether defaults are what the schema takes: pruned, and valid.

use berth_api::field::{FieldError, FieldPath};
use serde_json::Value as Json;

use super::{map, sub};
use crate::prune::has_unknown;
use crate::schema::Schema;
use crate::validate::validate_at;

pub(super) fn check(schema: &Json, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    part(schema, at, &mut errors);
    errors
}

fn part(schema: &Json, at: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(default) = schema.get("default").filter(|value| !value.is_null()) {
        // What can't be compiled is an error of its own.
        if let Ok(compiled) = Schema::compile_part(schema) {
            let at = at.child("default");
            if has_unknown(default, &compiled) {
                errors.push(FieldError::invalid(
                    &at,
                    default,
                    "must not have unknown fields",
                ));
            }
            errors.extend(validate_at(default, &compiled, at.as_str()));
        }
    }
    // There are none below additionalProperties that would be filled in without a value.
    if let Some(items) = sub(schema, "items") {
        part(items, &at.child("items"), errors);
    }
    for (name, property) in map(schema, "properties") {
        part(property, &at.child("properties").key(name), errors);
    }
    if let Some(inner) = sub(schema, "additionalProperties") {
        part(inner, &at.child("additionalProperties"), errors);
    }
}
