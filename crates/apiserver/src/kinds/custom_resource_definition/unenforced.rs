//! What a schema demands and this server doesn't enforce: whoever relies on it is warned.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

/// Keywords of schemas that are stored and published only.
const KEYWORDS: [&str; 10] = [
    "allOf",
    "anyOf",
    "format",
    "minProperties",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "uniqueItems",
    "x-kubernetes-validations",
];

/// A warning for each version whose schema has such keywords.
pub(super) fn warnings(definition: &CustomResourceDefinition) -> Vec<String> {
    let versions = definition.spec.versions.iter();
    let warnings = versions.filter_map(|version| {
        let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
        let found = match serde_json::to_value(schema) {
            Ok(schema) => keywords(&schema),
            Err(error) => return Some(format!("schema of version {}: {error}", version.name)),
        };
        let found: Vec<_> = found.into_iter().collect();
        (!found.is_empty()).then(|| {
            format!(
                "schema of version {}: {} not enforced by this server; objects that violate it are accepted",
                version.name,
                found.join(", ")
            )
        })
    });
    warnings.collect()
}

/// The keywords in a schema and in all schemas below it.
fn keywords(schema: &Value) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut left = vec![schema];
    while let Some(schema) = left.pop() {
        let has = |keyword: &str| !matches!(schema.get(keyword), None | Some(Value::Null));
        found.extend(KEYWORDS.into_iter().filter(|keyword| has(keyword)));
        left.extend(
            ["items", "additionalProperties", "not"]
                .into_iter()
                .filter_map(|keyword| schema.get(keyword)),
        );
        let lists = ["allOf", "anyOf", "oneOf"].into_iter();
        left.extend(
            lists
                .filter_map(|keyword| schema.get(keyword)?.as_array())
                .flatten(),
        );
        let properties = schema.get("properties").and_then(Value::as_object);
        left.extend(properties.into_iter().flat_map(|map| map.values()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keywords_are_found_at_any_depth_and_property_names_are_none() {
        let schema = json!({"type": "object", "properties": {
            "pattern": {"type": "string"},
            "a": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string", "pattern": "^a$"}}},
            "b": {"anyOf": [{"format": "ipv4"}], "x-kubernetes-validations": [{"rule": "true"}], "not": null}}});
        let found: Vec<_> = keywords(&schema).into_iter().collect();
        assert_eq!(
            found,
            ["anyOf", "format", "pattern", "x-kubernetes-validations"]
        );
        assert!(keywords(&json!({"type": "object", "properties": {"not": {"type": "string", "maxLength": 3}}})).is_empty());
    }
}
