//! The part of OpenAPI v3 that structural schemas use: pruning, defaults, validation.

use berth_api::decode::MAX_PROBLEMS;
use berth_api::field::{FieldError, FieldPath};
use serde_json::Value;

/// Fields that every object has, whatever its schema says.
const ALWAYS: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// Characters of a path that are reported.
const MAX_PATH_CHARS: usize = 1_000;

fn preserves(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

/// Removes fields that the schema does not have; the paths of the first of them go to `unknown`.
pub(super) fn prune(value: &mut Value, schema: &Value, unknown: &mut Vec<String>) {
    let mut pruning = Pruning {
        path: String::new(),
        unknown,
    };
    pruning.prune(value, schema);
}

/// One path, which grows and shrinks on the way: a client chooses how long its parts are.
struct Pruning<'u> {
    path: String,
    unknown: &'u mut Vec<String>,
}

impl Pruning<'_> {
    fn prune(&mut self, value: &mut Value, schema: &Value) {
        let embedded = schema["x-kubernetes-embedded-resource"] == true;
        let length = self.path.len();
        match value {
            Value::Object(map) => {
                let properties = schema["properties"].as_object();
                let additional = &schema["additionalProperties"];
                let keeps = preserves(schema) || additional == &Value::Bool(true);
                map.retain(|key, child| {
                    if (length == 0 || embedded) && ALWAYS.contains(&key.as_str()) {
                        return true;
                    }
                    let inner = properties
                        .and_then(|p| p.get(key))
                        .or_else(|| additional.is_object().then_some(additional));
                    if inner.is_none() && (keeps || self.unknown.len() >= MAX_PROBLEMS) {
                        return keeps;
                    }
                    if length > 0 {
                        self.path.push('.');
                    }
                    self.path.push_str(key);
                    match inner {
                        Some(inner) => self.prune(child, inner),
                        None => self
                            .unknown
                            .push(self.path.chars().take(MAX_PATH_CHARS).collect()),
                    }
                    self.path.truncate(length);
                    inner.is_some()
                });
            }
            Value::Array(list) => {
                for (n, item) in list.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{n}]"));
                    self.prune(item, &schema["items"]);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }
}

/// Fills in defaults.
pub(super) fn default(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(given) = schema.get("default")
                    && !map.contains_key(key)
                {
                    map.insert(key.clone(), given.clone());
                }
                if let Some(child) = map.get_mut(key) {
                    default(child, schema);
                }
            }
            let additional = &schema["additionalProperties"];
            if additional.is_object() {
                map.values_mut()
                    .for_each(|child| default(child, additional));
            }
        }
        Value::Array(list) => {
            list.iter_mut()
                .for_each(|item| default(item, &schema["items"]));
        }
        _ => {}
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_fits(value: &Value, schema: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        return matches!(type_of(value), "integer" | "string");
    }
    match (schema["type"].as_str(), type_of(value)) {
        (None, _) => true,
        (Some(_), "null") => schema["nullable"] == true,
        (Some("number"), "integer") => true,
        (Some(wanted), given) => wanted == given,
    }
}

/// Collects what is wrong with a value.
pub(super) fn validate(
    value: &Value,
    schema: &Value,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    if !type_fits(value, schema) {
        let wanted = schema["type"].as_str().unwrap_or("integer or string");
        errors.push(FieldError::type_invalid(
            path,
            type_of(value),
            format!("must be of type {wanted}: {:?}", type_of(value)),
        ));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let shown: Vec<String> = allowed
            .iter()
            .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            .collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        errors.push(FieldError::not_supported(path, value, &shown));
    }
    match value {
        Value::Object(map) => {
            for name in schema["required"].as_array().into_iter().flatten() {
                if let Some(name) = name.as_str().filter(|n| !map.contains_key(*n)) {
                    errors.push(FieldError::required(&path.child(name), ""));
                }
            }
            for (key, child) in map {
                if path.as_str().is_empty() && ALWAYS.contains(&key.as_str()) {
                    continue;
                }
                if let Some(schema) = schema["properties"].get(key) {
                    validate(child, schema, &path.child(key), errors);
                } else if schema["additionalProperties"].is_object() {
                    validate(
                        child,
                        &schema["additionalProperties"],
                        &path.key(key),
                        errors,
                    );
                }
            }
        }
        Value::Array(list) => {
            bounds(list.len(), schema, "Items", path, errors);
            for (n, item) in list.iter().enumerate() {
                validate(item, &schema["items"], &path.index(n), errors);
            }
        }
        Value::String(text) => bounds(text.chars().count(), schema, "Length", path, errors),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(0.0);
            if schema["minimum"].as_f64().is_some_and(|min| number < min) {
                let min = &schema["minimum"];
                errors.push(FieldError::invalid(
                    path,
                    value,
                    format!("should be greater than or equal to {min}"),
                ));
            }
            if schema["maximum"].as_f64().is_some_and(|max| number > max) {
                let max = &schema["maximum"];
                errors.push(FieldError::invalid(
                    path,
                    value,
                    format!("should be less than or equal to {max}"),
                ));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn bounds(size: usize, schema: &Value, what: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let bound = |side: &str| {
        schema[format!("{side}{what}")]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
    };
    if let Some(min) = bound("min").filter(|min| size < *min) {
        errors.push(FieldError::invalid(
            path,
            size,
            format!("should have at least {min} in {}", what.to_lowercase()),
        ));
    }
    if let Some(max) = bound("max").filter(|max| size > *max) {
        errors.push(FieldError::too_many(path, size, max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_go_and_defaults_come() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "required": ["handler"], "properties": {
                "handler": {"type": "string", "minLength": 1, "maxLength": 5},
                "count": {"type": "integer", "default": 2, "maximum": 3},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "mode": {"type": "string", "enum": ["a", "b"]},
                "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}}}}}});
        let mut object = json!({"apiVersion": "e/v1", "kind": "E", "metadata": {}, "frob": 1,
            "spec": {"handler": "runsc", "any": {"deep": {"er": 1}}, "no": 1, "list": [{"x": "a", "y": 1}]}});
        let mut unknown = Vec::new();
        prune(&mut object, &schema, &mut unknown);
        default(&mut object, &schema);
        unknown.sort();
        assert_eq!(unknown, ["frob", "spec.list[0].y", "spec.no"]);
        assert_eq!(object["spec"]["count"], 2);
        assert_eq!(object["spec"]["any"]["deep"]["er"], 1);
        let errors_of = |object: Value| {
            let mut errors = Vec::new();
            validate(&object, &schema, &FieldPath::default(), &mut errors);
            let mut fields: Vec<String> = errors.into_iter().map(|e| e.field).collect();
            fields.sort();
            fields
        };
        assert_eq!(errors_of(object), Vec::<String>::new());
        assert_eq!(errors_of(json!({"spec": {}})), ["spec.handler"]);
        assert_eq!(
            errors_of(json!({"spec": {"handler": "toolong", "count": 4, "mode": "c", "list": {}}})),
            ["spec.count", "spec.handler", "spec.list", "spec.mode"]
        );
    }
}
