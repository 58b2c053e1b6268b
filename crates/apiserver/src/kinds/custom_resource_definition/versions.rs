//! The versions of a definition: names, schemas, subresources, columns, selectable fields.

use std::collections::BTreeSet;

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use berth_schema::{Options, check, check_scale_path, check_selectable_fields, is_known_format};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use serde_json::Value;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
    "name",
];
/// The longest warning that a deprecated version has.
const MAX_DEPRECATION_WARNING: usize = 256;
/// How many unknown formats are warned of.
const MAX_WARNINGS: usize = 20;

/// What is wrong with the versions. A version whose schema was taken before and hasn't changed is not checked again.
pub(super) fn validate(
    definition: &CustomResourceDefinition,
    old: Option<&CustomResourceDefinition>,
) -> Vec<FieldError> {
    let at = FieldPath::new("spec").child("versions");
    let mut errors = Vec::new();
    let versions = &definition.spec.versions;
    let mut unique = BTreeSet::new();
    if !versions.iter().all(|version| unique.insert(&version.name)) {
        let names: Vec<&str> = versions.iter().map(|v| v.name.as_str()).collect();
        errors.push(FieldError::invalid(
            &at,
            names,
            "must contain unique version names",
        ));
    }
    for (n, version) in versions.iter().enumerate() {
        let known = old
            .and_then(|old| old.spec.versions.iter().find(|v| v.name == version.name))
            .filter(|was| was.schema == version.schema && was.subresources == version.subresources);
        let at = at.index(n);
        for complaint in names::dns1035_label(&version.name) {
            errors.push(FieldError::invalid(
                &at.child("name"),
                &version.name,
                complaint,
            ));
        }
        errors.extend(deprecation(version, &at));
        errors.extend(subresources(version, &at));
        for (n, column) in version
            .additional_printer_columns
            .iter()
            .flatten()
            .enumerate()
        {
            errors.extend(self::column(
                column,
                &at.child("additionalPrinterColumns").index(n),
            ));
        }
        errors.extend(schema(version, known, &at));
    }
    errors.extend(stored(definition, old));
    errors
}

fn deprecation(version: &CustomResourceDefinitionVersion, at: &FieldPath) -> Option<FieldError> {
    let warning = version.deprecation_warning.as_deref()?;
    let why = if version.deprecated != Some(true) {
        "can only be set for deprecated versions"
    } else if warning.trim().is_empty() {
        "must not be an empty string"
    } else if warning.len() > MAX_DEPRECATION_WARNING {
        "must be <= 256 characters long"
    } else if warning.chars().any(char::is_control) {
        "must only contain printable UTF-8 characters; non-printable character found"
    } else {
        return None;
    };
    Some(FieldError::invalid(
        &at.child("deprecationWarning"),
        warning,
        why,
    ))
}

fn subresources(version: &CustomResourceDefinitionVersion, at: &FieldPath) -> Vec<FieldError> {
    let Some(scale) = version.subresources.as_ref().and_then(|s| s.scale.as_ref()) else {
        return Vec::new();
    };
    let at = at.child("subresources").child("scale");
    let mut errors = check_scale_path(
        &scale.spec_replicas_path,
        true,
        &[".spec."],
        &at.child("specReplicasPath"),
    );
    errors.extend(check_scale_path(
        &scale.status_replicas_path,
        true,
        &[".status."],
        &at.child("statusReplicasPath"),
    ));
    errors.extend(check_scale_path(
        scale.label_selector_path.as_deref().unwrap_or_default(),
        false,
        &[".spec.", ".status."],
        &at.child("labelSelectorPath"),
    ));
    errors
}

fn column(column: &CustomResourceColumnDefinition, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if column.name.is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    }
    let must = format!("must be one of {}", COLUMN_TYPES.join(","));
    if column.type_.is_empty() {
        errors.push(FieldError::required(&at.child("type"), must));
    } else if !COLUMN_TYPES.contains(&column.type_.as_str()) {
        errors.push(FieldError::invalid(&at.child("type"), &column.type_, must));
    }
    if let Some(format) = column.format.as_deref().filter(|f| !f.is_empty())
        && !COLUMN_FORMATS.contains(&format)
    {
        let must = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(FieldError::invalid(&at.child("format"), format, must));
    }
    if column.json_path.is_empty() {
        errors.push(FieldError::required(&at.child("jsonPath"), ""));
    }
    errors
}

fn schema(
    version: &CustomResourceDefinitionVersion,
    known: Option<&CustomResourceDefinitionVersion>,
    at: &FieldPath,
) -> Vec<FieldError> {
    let at_schema = at.child("schema").child("openAPIV3Schema");
    let schema = version
        .schema
        .as_ref()
        .and_then(|s| s.open_api_v3_schema.as_ref());
    let Some(schema) = schema else {
        return vec![FieldError::required(&at_schema, "schemas are required")];
    };
    let schema = match serde_json::to_value(schema) {
        Ok(schema) => schema,
        Err(error) => return vec![FieldError::internal(&at_schema, error.to_string())],
    };
    let status = version
        .subresources
        .as_ref()
        .is_some_and(|s| s.status.is_some());
    let mut errors = match known {
        Some(_) => Vec::new(),
        None => check(&schema, &at_schema, Options { status }),
    };
    let fields = version.selectable_fields.iter().flatten();
    let paths: Vec<String> = fields.map(|field| field.json_path.clone()).collect();
    errors.extend(check_selectable_fields(
        &paths,
        &schema,
        &at.child("selectableFields"),
    ));
    errors
}

/// Versions in which objects may still be stored stay.
fn stored(
    definition: &CustomResourceDefinition,
    old: Option<&CustomResourceDefinition>,
) -> Vec<FieldError> {
    let at = FieldPath::new("status").child("storedVersions");
    let status = old.and_then(|old| old.status.as_ref());
    let stored = status.and_then(|status| status.stored_versions.as_ref());
    let versions = &definition.spec.versions;
    let gone = stored
        .into_iter()
        .flatten()
        .enumerate()
        .filter(|(_, name)| versions.iter().all(|version| version.name != **name));
    gone.map(|(n, name)| {
        let why = format!(
            "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until \
             a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
        );
        FieldError::invalid(&at.index(n), name, why)
    })
    .collect()
}

/// Formats that nothing checks.
pub(super) fn warnings(definition: &CustomResourceDefinition) -> Vec<String> {
    let mut found = BTreeSet::new();
    for version in &definition.spec.versions {
        let schema = version
            .schema
            .as_ref()
            .and_then(|s| s.open_api_v3_schema.as_ref());
        if let Some(Ok(schema)) = schema.map(serde_json::to_value) {
            unknown_formats(&schema, &mut found);
        }
    }
    let formats = found.into_iter().take(MAX_WARNINGS);
    formats
        .map(|format| format!("unrecognized format {format:?}"))
        .collect()
}

/// The formats of a schema, and of all schemas below it, that the stock server doesn't know.
fn unknown_formats(schema: &Value, found: &mut BTreeSet<String>) {
    let mut left = vec![schema];
    while let Some(schema) = left.pop() {
        let kind = schema.get("type").and_then(Value::as_str);
        if let Some(format) = schema
            .get("format")
            .and_then(Value::as_str)
            .filter(|f| !f.is_empty())
            && !is_known_format(kind, format)
        {
            found.insert(format.chars().take(100).collect());
        }
        let single = ["items", "additionalProperties", "not"].into_iter();
        left.extend(single.filter_map(|name| schema.get(name)));
        let lists = ["allOf", "anyOf", "oneOf"].into_iter();
        left.extend(
            lists
                .filter_map(|name| schema.get(name)?.as_array())
                .flatten(),
        );
        let properties = schema.get("properties").and_then(Value::as_object);
        left.extend(properties.into_iter().flat_map(|map| map.values()));
    }
}
