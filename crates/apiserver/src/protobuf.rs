//! `application/vnd.kubernetes.protobuf`: what clients with Go types send by default.
//!
//! A body is an envelope that names version and kind, and a message. [`decode`] makes the JSON that the same client would
//! have sent, [`encode`] the answer; `fields.txt` says which field number is which field.

mod encode;
mod schema;
mod table;
mod wire;

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Number, Value, json};

pub use self::encode::encode;
pub(crate) use self::encode::{envelope_head, event, has_form, list_head, message_of};
pub(crate) use self::wire::{put_head, size_of_bytes};
use self::{
    table::{Field, Kind, Message},
    wire::{Fields, Item},
};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
const MAX_DEPTH: usize = 64;

/// A body that is not a message of a known kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The envelope is missing.
    #[error("the body does not have the expected prefix 'k8s\\0'")]
    Magic,
    /// The bytes are not protobuf.
    #[error("the body is not valid protobuf")]
    Wire,
    /// A string is not UTF-8.
    #[error("a string in the body is not UTF-8")]
    Utf8,
    /// A field of raw JSON is none.
    #[error("a field of JSON in the body is not valid JSON")]
    Json,
    /// Messages nest too deeply.
    #[error("the messages in the body nest too deeply")]
    Depth,
    /// Another kind than those that have a protobuf form here.
    #[error("{kind} in version {version:?} has no protobuf form; send JSON")]
    Unknown {
        /// The envelope's apiVersion.
        version: String,
        /// The envelope's kind.
        kind: String,
    },
}

/// The object in a body, as JSON.
///
/// # Errors
/// As [`ProtobufError`] says.
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    let (mut version, mut kind, mut raw) = (String::new(), String::new(), [].as_slice());
    for field in Fields::new(envelope) {
        match field? {
            (1, Item::Bytes(meta)) => {
                for field in Fields::new(meta) {
                    match field? {
                        (1, Item::Bytes(text)) => version = string(text)?,
                        (2, Item::Bytes(text)) => kind = string(text)?,
                        (_, Item::Bytes(_) | Item::Number(_)) => {}
                    }
                }
            }
            (2, Item::Bytes(bytes)) => raw = bytes,
            (_, Item::Bytes(_) | Item::Number(_)) => {}
        }
    }
    let message = table::of_kind(&version, &kind).ok_or_else(|| ProtobufError::Unknown {
        version: version.clone(),
        kind: kind.clone(),
    })?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), Value::String(version));
    object.insert("kind".to_owned(), Value::String(kind));
    read(message, raw, &mut object, 0)?;
    Ok(Value::Object(object))
}

fn string(bytes: &[u8]) -> Result<String, ProtobufError> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| ProtobufError::Utf8)
}

/// Reads a message's fields into an object.
fn read(
    message: &Message,
    bytes: &[u8],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::Depth);
    }
    for item in Fields::new(bytes) {
        let (number, item) = item?;
        // fields of newer clients are left out, as the stock server does
        let Some(field) = message.field(number) else {
            continue;
        };
        if field.inline() {
            if let (Kind::Message(inner), Item::Bytes(bytes)) = (&field.kind, item)
                && let Some(inner) = table::find(inner)
            {
                read(inner, bytes, object, depth + 1)?;
            }
            continue;
        }
        if field.map {
            let (key, value) = entry(field, item, depth)?;
            if let Value::Object(map) = object.entry(field.name).or_insert_with(|| json!({})) {
                map.insert(key, value);
            }
            continue;
        }
        if field.repeated {
            let values = elements(field, item, depth)?;
            if let Value::Array(list) = object.entry(field.name).or_insert_with(|| json!([])) {
                list.extend(values);
            }
            continue;
        }
        let value = value(&field.kind, item, depth)?;
        if field.keeps_zero || !is_zero(&value) {
            object.insert(field.name.to_owned(), value);
        }
    }
    Ok(())
}

/// The values of one occurrence of a repeated field; numbers may be packed.
fn elements(field: &Field, item: Item<'_>, depth: usize) -> Result<Vec<Value>, ProtobufError> {
    match (&field.kind, item) {
        (Kind::Integer | Kind::Bool, Item::Bytes(packed)) => wire::packed(packed)?
            .into_iter()
            .map(|n| value(&field.kind, Item::Number(n), depth))
            .collect(),
        (kind, item) => Ok(vec![value(kind, item, depth)?]),
    }
}

fn entry(field: &Field, item: Item<'_>, depth: usize) -> Result<(String, Value), ProtobufError> {
    let Item::Bytes(bytes) = item else {
        return Err(ProtobufError::Wire);
    };
    let (mut key, mut content) = (String::new(), Item::Bytes(&[]));
    for item in Fields::new(bytes) {
        match item? {
            (1, Item::Bytes(text)) => key = string(text)?,
            (2, item) => content = item,
            (_, Item::Bytes(_) | Item::Number(_)) => {}
        }
    }
    Ok((key, value(&field.kind, content, depth)?))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn value(kind: &Kind, item: Item<'_>, depth: usize) -> Result<Value, ProtobufError> {
    let bytes = match (kind, item) {
        (Kind::Bool, Item::Number(number)) => return Ok(Value::Bool(number != 0)),
        (Kind::Integer, Item::Number(number)) => return Ok(json!(number.cast_signed())),
        (Kind::Float, Item::Number(bits)) => {
            return Ok(float(f64::from_bits(bits)));
        }
        (_, Item::Number(_)) => return Err(ProtobufError::Wire),
        (_, Item::Bytes(bytes)) => bytes,
    };
    Ok(match kind {
        Kind::Text => Value::String(string(bytes)?),
        Kind::Bytes => Value::String(STANDARD.encode(bytes)),
        Kind::Quantity => text_of(bytes, 1)?,
        Kind::IntOrString => int_or_string(bytes)?,
        Kind::Time => time(bytes, false)?,
        Kind::MicroTime => time(bytes, true)?,
        Kind::Json => match only(bytes, 1)? {
            Some(raw) if !raw.is_empty() => {
                serde_json::from_slice(raw).map_err(|_| ProtobufError::Json)?
            }
            Some(_) | None => Value::Null,
        },
        Kind::Strings => {
            let mut items = Vec::new();
            for item in Fields::new(bytes) {
                if let (1, Item::Bytes(text)) = item? {
                    items.push(Value::String(string(text)?));
                }
            }
            Value::Array(items)
        }
        Kind::SchemaOrSchemas => schema::read_schemas(bytes, depth)?,
        Kind::SchemaOrBool => schema::read_bool(bytes, depth)?,
        Kind::SchemaOrStrings => schema::read_strings(bytes, depth)?,
        Kind::Message(name) => message(name, bytes, depth)?,
        Kind::Bool | Kind::Integer | Kind::Float => return Err(ProtobufError::Wire),
    })
}

fn message(name: &str, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let mut object = Map::new();
    if let Some(message) = table::find(name) {
        read(message, bytes, &mut object, depth + 1)?;
    }
    Ok(Value::Object(object))
}

/// As Go writes it: a whole number has no point.
fn float(number: f64) -> Value {
    let text = number.to_string();
    match text.parse::<i64>() {
        Ok(whole) if text != "-0" => json!(whole),
        _ => Number::from_f64(number).map_or(Value::Null, Value::Number),
    }
}

/// The last occurrence of a field of bytes.
fn only(bytes: &[u8], wanted: u32) -> Result<Option<&[u8]>, ProtobufError> {
    let mut found = None;
    for item in Fields::new(bytes) {
        if let (number, Item::Bytes(content)) = item?
            && number == wanted
        {
            found = Some(content);
        }
    }
    Ok(found)
}

fn text_of(bytes: &[u8], number: u32) -> Result<Value, ProtobufError> {
    Ok(match only(bytes, number)? {
        Some(text) => Value::String(string(text)?),
        None => Value::Null,
    })
}

fn numbers(bytes: &[u8]) -> Result<BTreeMap<u32, i64>, ProtobufError> {
    let mut numbers = BTreeMap::new();
    for item in Fields::new(bytes) {
        if let (number, Item::Number(value)) = item? {
            numbers.insert(number, value.cast_signed());
        }
    }
    Ok(numbers)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let numbers = numbers(bytes)?;
    if numbers.get(&1).copied().unwrap_or_default() == 0 {
        return Ok(json!(numbers.get(&2).copied().unwrap_or_default()));
    }
    text_of(bytes, 3)
}

/// Seconds and nanoseconds as RFC 3339; none of both is no time.
fn time(bytes: &[u8], micro: bool) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let numbers = numbers(bytes)?;
    let number = |at: u32| numbers.get(&at).copied().unwrap_or_default();
    let nanos = i32::try_from(number(2)).map_err(|_| ProtobufError::Wire)?;
    let at = jiff::Timestamp::new(number(1), nanos).map_err(|_| ProtobufError::Wire)?;
    let form = if micro {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    } else {
        "%Y-%m-%dT%H:%M:%SZ"
    };
    Ok(Value::String(at.strftime(form).to_string()))
}

/// A field of bytes of any message, for tests of what others write.
#[cfg(test)]
pub(crate) fn field(message: &[u8], number: u32) -> Option<&[u8]> {
    only(message, number).ok().flatten()
}

/// How often a field occurs in a message.
#[cfg(test)]
pub(crate) fn count(message: &[u8], number: u32) -> usize {
    Fields::new(message)
        .flatten()
        .filter(|(n, _)| *n == number)
        .count()
}

#[cfg(test)]
mod tests;
