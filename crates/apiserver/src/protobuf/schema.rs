//! What is one thing or another in a JSON schema of a CustomResourceDefinition: messages with a field for each, one value
//! in JSON.

use serde_json::Value;

use super::wire::{Fields, Item};
use super::{ProtobufError, message, string};

pub(super) const SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";

/// The numbers of a schema, of a list of schemas.
pub(super) const ONE: u32 = 1;
pub(super) const MANY: u32 = 2;
/// The numbers of a bool, of the schema beside it.
pub(super) const ALLOWS: u32 = 1;
pub(super) const BESIDE: u32 = 2;

/// Reads `items`: a list counts more than a schema, as in Go.
pub(super) fn read_schemas(bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let (mut one, mut many) = (Value::Null, Vec::new());
    for field in Fields::new(bytes) {
        match field? {
            (ONE, Item::Bytes(schema)) => one = message(SCHEMA, schema, depth)?,
            (MANY, Item::Bytes(schema)) => many.push(message(SCHEMA, schema, depth)?),
            (_, Item::Bytes(_) | Item::Number(_)) => {}
        }
    }
    Ok(if many.is_empty() { one } else { many.into() })
}

/// Reads `additionalProperties`: a schema counts more than the bool.
pub(super) fn read_bool(bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let (mut allows, mut beside) = (false, None);
    for field in Fields::new(bytes) {
        match field? {
            (ALLOWS, Item::Number(number)) => allows = number != 0,
            (BESIDE, Item::Bytes(schema)) => beside = Some(message(SCHEMA, schema, depth)?),
            (_, Item::Bytes(_) | Item::Number(_)) => {}
        }
    }
    Ok(beside.unwrap_or(Value::Bool(allows)))
}

/// Reads a dependency: names count more than a schema.
pub(super) fn read_strings(bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let (mut one, mut names) = (Value::Null, Vec::new());
    for field in Fields::new(bytes) {
        match field? {
            (ONE, Item::Bytes(schema)) => one = message(SCHEMA, schema, depth)?,
            (MANY, Item::Bytes(name)) => names.push(Value::String(string(name)?)),
            (_, Item::Bytes(_) | Item::Number(_)) => {}
        }
    }
    Ok(if names.is_empty() { one } else { names.into() })
}
