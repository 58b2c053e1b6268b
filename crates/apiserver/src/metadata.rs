//! Metadata of objects as JSON: small readers and writers.

use serde_json::{Map, Value, json};

/// A text at a JSON pointer, empty when absent.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// `metadata.name`.
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// The metadata map; made when absent.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    match object["metadata"].as_object_mut() {
        Some(map) => map,
        None => unreachable!("metadata was made a map above"),
    }
}

/// Sets a field of the metadata, or removes it.
pub(crate) fn set(object: &mut Value, field: &str, value: Option<Value>) {
    match value {
        None | Some(Value::Null) => {
            metadata(object).remove(field);
        }
        Some(value) => {
            metadata(object).insert(field.to_owned(), value);
        }
    }
}

/// A time as the API writes it.
pub(crate) fn time(at: jiff::Timestamp) -> Value {
    Value::String(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
