//! Paths that a definition names: selectable fields, and those of the subresource `scale`.

use std::collections::BTreeSet;

use berth_api::field::{FieldError, FieldPath};
use serde_json::Value as Json;

use super::text;
use crate::path::find;

/// The most selectable fields of a version.
const MAX_SELECTABLE: usize = 8;

/// Checks `selectableFields` of a version: their JSON paths, in order.
#[must_use]
pub fn check_selectable_fields(paths: &[String], schema: &Json, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut unique = BTreeSet::new();
    for (index, path) in paths.iter().enumerate() {
        let at = at.index(index).child("jsonPath");
        if path.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let (names, found) = match find(schema, path, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(
                    &at,
                    path,
                    format!("is an invalid path: {why}"),
                ));
                continue;
            }
        };
        if names.first().is_some_and(|name| name == "metadata") {
            errors.push(FieldError::invalid(
                &at,
                path,
                "must not point to fields in metadata",
            ));
        }
        if !matches!(text(found, "type"), "string" | "boolean" | "integer") {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&at, path, why));
        }
        if !unique.insert(names) {
            errors.push(FieldError::duplicate(&at, path));
        }
    }
    if unique.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(at, unique.len(), MAX_SELECTABLE));
    }
    errors
}

/// Checks a path of `scale`, which must begin with one of these: `.spec.`, `.status.`.
#[must_use]
pub fn check_scale_path(
    path: &str,
    required: bool,
    under: &[&str],
    at: &FieldPath,
) -> Vec<FieldError> {
    if path.is_empty() {
        return if required {
            vec![FieldError::required(at, "")]
        } else {
            Vec::new()
        };
    }
    if !path.starts_with('.') {
        return vec![FieldError::invalid(
            at,
            path,
            "must be a simple json path starting with .",
        )];
    }
    if under.iter().any(|prefix| path.starts_with(prefix)) {
        return Vec::new();
    }
    let names: Vec<&str> = under
        .iter()
        .map(|prefix| prefix.trim_end_matches('.'))
        .collect();
    let why = match names[..] {
        [one] => format!("should be a json path under {one}"),
        _ => format!("should be a json path under either {}", names.join(" or ")),
    };
    vec![FieldError::invalid(at, path, why)]
}
