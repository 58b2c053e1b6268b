//! The part of OpenAPI v3 that structural schemas use: pruning, defaults, validation.

use berth_api::decode::MAX_PROBLEMS;
use berth_api::field::{ERRORS_LIMIT, FieldError, FieldPath};
use serde_json::{Map, Value};

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

/// Bytes of defaults that are filled in: one of a megabyte at each item of a long list would be terabytes.
const DEFAULTS_MAX: usize = 3 << 20;
/// Schemas and their parts that are looked at for an object. Schema and object are a client's, and the work is their
/// product.
const STEPS_MAX: usize = 5_000_000;
/// Values of an enumeration that are told.
const MAX_SUPPORTED: usize = 50;

/// An object and a schema that cost more than they are worth together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMuch {
    /// Defaults.
    #[error("the defaults of the schema add more than {DEFAULTS_MAX} bytes to the object")]
    Defaults,
    /// Work.
    #[error("the object has more items and the schema more parts than can be checked together")]
    Steps,
}

/// Fills in defaults.
///
/// # Errors
/// [`TooMuch`] when they are, or take, too much.
pub(super) fn default(value: &mut Value, schema: &Value) -> Result<(), TooMuch> {
    let mut filling = Filling {
        bytes: DEFAULTS_MAX,
        steps: STEPS_MAX,
    };
    filling.default(value, schema)
}

/// What may still be done.
struct Filling {
    bytes: usize,
    steps: usize,
}

impl Filling {
    fn default(&mut self, value: &mut Value, schema: &Value) -> Result<(), TooMuch> {
        spend(&mut self.steps, 1)?;
        match value {
            Value::Object(map) => {
                let properties = schema["properties"].as_object();
                spend(&mut self.steps, properties.map_or(0, Map::len))?;
                for (key, schema) in properties.into_iter().flatten() {
                    if let Some(given) = schema.get("default")
                        && !map.contains_key(key)
                    {
                        let bytes = size_of_value(given).saturating_add(key.len());
                        let left = self.bytes.checked_sub(bytes);
                        self.bytes = left.ok_or(TooMuch::Defaults)?;
                        map.insert(key.clone(), given.clone());
                    }
                    if let Some(child) = map.get_mut(key) {
                        self.default(child, schema)?;
                    }
                }
                let additional = &schema["additionalProperties"];
                if additional.is_object() {
                    for child in map.values_mut() {
                        self.default(child, additional)?;
                    }
                }
            }
            Value::Array(list) => {
                let items = &schema["items"];
                if items.is_object() {
                    for item in list {
                        self.default(item, items)?;
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        Ok(())
    }
}

fn spend(steps: &mut usize, count: usize) -> Result<(), TooMuch> {
    *steps = steps.checked_sub(count).ok_or(TooMuch::Steps)?;
    Ok(())
}

/// About the bytes that a value takes.
fn size_of_value(value: &Value) -> usize {
    let inside: usize = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(size_of_value).sum(),
        Value::Object(map) => map.iter().map(|(k, v)| k.len() + size_of_value(v)).sum(),
    };
    inside + size_of::<Value>()
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

/// What is wrong with a value, as much of it as anybody reads.
pub(super) fn validate(value: &Value, schema: &Value) -> Vec<FieldError> {
    let mut validating = Validating {
        path: String::new(),
        errors: Vec::new(),
        steps: STEPS_MAX,
    };
    if let Err(error) = validating.validate(value, schema) {
        let whole = FieldPath::default();
        validating
            .errors
            .push(FieldError::forbidden(&whole, error.to_string()));
    }
    validating.errors
}

/// One path, which grows and shrinks on the way: a client chooses how long its parts are.
struct Validating {
    path: String,
    errors: Vec<FieldError>,
    steps: usize,
}

impl Validating {
    /// The path as it is told.
    fn at(&self) -> FieldPath {
        FieldPath::new(self.path.chars().take(MAX_PATH_CHARS).collect::<String>())
    }

    fn push(&mut self, error: FieldError) {
        if self.errors.len() <= ERRORS_LIMIT {
            self.errors.push(error);
        }
    }

    fn child(&mut self, part: &str, value: &Value, schema: &Value) -> Result<(), TooMuch> {
        let length = self.path.len();
        self.path.push_str(part);
        let validated = self.validate(value, schema);
        self.path.truncate(length);
        validated
    }

    fn validate(&mut self, value: &Value, schema: &Value) -> Result<(), TooMuch> {
        spend(&mut self.steps, 1)?;
        // Nobody reads more, and the object is refused.
        if self.errors.len() > ERRORS_LIMIT {
            return Ok(());
        }
        if !type_fits(value, schema) {
            let wanted = schema["type"].as_str().unwrap_or("integer or string");
            let detail = format!("must be of type {wanted}: {:?}", type_of(value));
            self.push(FieldError::type_invalid(&self.at(), type_of(value), detail));
            return Ok(());
        }
        if let Some(allowed) = schema["enum"].as_array() {
            spend(&mut self.steps, allowed.len())?;
            if !allowed.contains(value) {
                let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                let shown: Vec<String> = allowed.iter().take(MAX_SUPPORTED).map(text).collect();
                let shown: Vec<String> = shown
                    .iter()
                    .map(|text| text.chars().take(MAX_PATH_CHARS).collect())
                    .collect();
                let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
                self.push(FieldError::not_supported(&self.at(), value, &shown));
            }
        }
        match value {
            Value::Object(map) => self.object(map, schema)?,
            Value::Array(list) => {
                self.bounds(list.len(), schema, "Items");
                let items = &schema["items"];
                if items.is_object() {
                    for (n, item) in list.iter().enumerate() {
                        self.child(&format!("[{n}]"), item, items)?;
                    }
                }
            }
            Value::String(text) => self.bounds(text.chars().count(), schema, "Length"),
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or(0.0);
                if schema["minimum"].as_f64().is_some_and(|min| number < min) {
                    let detail =
                        format!("should be greater than or equal to {}", schema["minimum"]);
                    self.push(FieldError::invalid(&self.at(), value, detail));
                }
                if schema["maximum"].as_f64().is_some_and(|max| number > max) {
                    let detail = format!("should be less than or equal to {}", schema["maximum"]);
                    self.push(FieldError::invalid(&self.at(), value, detail));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
        Ok(())
    }

    fn object(&mut self, map: &Map<String, Value>, schema: &Value) -> Result<(), TooMuch> {
        let required = schema["required"].as_array();
        spend(&mut self.steps, required.map_or(0, Vec::len))?;
        for name in required.into_iter().flatten() {
            if let Some(name) = name.as_str().filter(|n| !map.contains_key(*n)) {
                let name: String = name.chars().take(MAX_PATH_CHARS).collect();
                self.push(FieldError::required(&self.at().child(&name), ""));
            }
        }
        let top = self.path.is_empty();
        for (key, child) in map {
            if top && ALWAYS.contains(&key.as_str()) {
                continue;
            }
            if let Some(schema) = schema["properties"].get(key) {
                let dot = if top { "" } else { "." };
                self.child(&format!("{dot}{key}"), child, schema)?;
            } else if schema["additionalProperties"].is_object() {
                self.child(&format!("[{key}]"), child, &schema["additionalProperties"])?;
            }
        }
        Ok(())
    }

    fn bounds(&mut self, size: usize, schema: &Value, what: &str) {
        let bound = |side: &str| {
            schema[format!("{side}{what}")]
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
        };
        if let Some(min) = bound("min").filter(|min| size < *min) {
            let detail = format!("should have at least {min} in {}", what.to_lowercase());
            self.push(FieldError::invalid(&self.at(), size, detail));
        }
        if let Some(max) = bound("max").filter(|max| size > *max) {
            self.push(FieldError::too_many(&self.at(), size, max));
        }
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
        default(&mut object, &schema).unwrap();
        unknown.sort();
        assert_eq!(unknown, ["frob", "spec.list[0].y", "spec.no"]);
        assert_eq!(object["spec"]["count"], 2);
        assert_eq!(object["spec"]["any"]["deep"]["er"], 1);
        let errors_of = |object: Value| {
            let errors = validate(&object, &schema);
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

    #[test]
    fn schema_and_object_do_not_multiply() {
        let of = |item: Value| {
            json!({"type": "object", "properties": {"spec": {"type": "object", "additionalProperties":
                {"type": "array", "items": item}}}})
        };
        let list = |key: &str, item: Value| json!({"spec": {key: vec![item; 100_000]}});
        // A default of a kilobyte at each of many items.
        let schema = of(
            json!({"type": "object", "properties": {"x": {"type": "string", "default": "x".repeat(1000)}}}),
        );
        let mut object = list("a", json!({}));
        assert_eq!(default(&mut object, &schema), Err(TooMuch::Defaults));
        assert!(size_of_value(&object) < 20 << 20);
        // Many properties, required fields or values, for each of many items.
        let properties: Map<String, Value> = (0..1000)
            .map(|n| (n.to_string(), json!({"type": "string"})))
            .collect();
        let schema = of(json!({"type": "object", "properties": properties}));
        let mut object = list("a", json!({}));
        assert_eq!(default(&mut object, &schema), Err(TooMuch::Steps));
        let values: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let schema = of(json!({"type": "string", "enum": values}));
        let errors = validate(&list("a", json!("999")), &schema);
        assert_eq!(errors.len(), 1, "{errors:?}");
        // A long path to each of many mistakes.
        let schema = of(json!({"type": "string"}));
        let errors = validate(&list(&"k".repeat(100_000), json!(1)), &schema);
        assert_eq!(errors.len(), ERRORS_LIMIT + 1);
        assert!(errors.iter().all(|e| e.field.len() <= MAX_PATH_CHARS));
    }
}
