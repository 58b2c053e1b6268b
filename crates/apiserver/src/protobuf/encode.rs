//! From an object's JSON to its message, by the table that [`super::decode`] reads with.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::MAGIC;
use super::schema::{ALLOWS, BESIDE, MANY, ONE, SCHEMA};
use super::table::{self, Field, Kind, Message};
use super::wire::{put_bytes, put_fixed, put_number};

/// An object or a list as a body of this media type; none when its kind has no protobuf form, or when something in it does
/// not fit its message.
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    Some(envelope(
        api_version,
        kind,
        &message_of(api_version, kind, object)?,
    ))
}

/// The message of an object, without an envelope: what a list has for each of its items.
pub(crate) fn message_of(api_version: &str, kind: &str, object: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let partial = api_version.starts_with("meta.k8s.io/");
    match kind {
        "PartialObjectMetadata" if partial => {
            put_bytes(
                &mut out,
                1,
                &part("meta.v1.ObjectMeta", object.get("metadata")?)?,
            );
        }
        "PartialObjectMetadataList" if partial => {
            put_bytes(
                &mut out,
                1,
                &part("meta.v1.ListMeta", object.get("metadata")?)?,
            );
            for item in object.get("items")?.as_array()? {
                let item = message_of(api_version, "PartialObjectMetadata", item)?;
                put_bytes(&mut out, 2, &item);
            }
        }
        _ => write(
            table::of_kind(api_version, kind)?,
            object.as_object()?,
            &mut out,
        )?,
    }
    Some(out)
}

/// Whether objects of a kind have a protobuf form.
pub(crate) fn has_form(api_version: &str, kind: &str) -> bool {
    table::of_kind(api_version, kind).is_some()
}

/// A message in the envelope that names its version and kind.
pub(crate) fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = envelope_head(api_version, kind);
    put_bytes(&mut out, 2, message);
    out
}

/// What comes before field 2 of an envelope, the message.
pub(crate) fn envelope_head(api_version: &str, kind: &str) -> Vec<u8> {
    let mut names = Vec::new();
    put_bytes(&mut names, 1, api_version.as_bytes());
    put_bytes(&mut names, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    put_bytes(&mut out, 1, &names);
    out
}

/// A list's metadata as the first field of its message.
pub(crate) fn list_head(metadata: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, &part("meta.v1.ListMeta", metadata)?);
    Some(out)
}

/// An event of a watch: its length, its type, and the object in an envelope of its own (`meta.v1.WatchEvent`).
pub(crate) fn event(kind: &str, object: &[u8]) -> Option<Vec<u8>> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    put_bytes(&mut raw, 1, object);
    let mut event = Vec::with_capacity(raw.len() + 24);
    put_bytes(&mut event, 1, kind.as_bytes());
    put_bytes(&mut event, 2, &raw);
    let mut frame = u32::try_from(event.len()).ok()?.to_be_bytes().to_vec();
    frame.append(&mut event);
    Some(frame)
}

fn part(message: &str, object: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    write(table::find(message)?, object.as_object()?, &mut out)?;
    Some(out)
}

/// Writes an object's fields as those of a message.
pub(super) fn write(
    message: &Message,
    object: &Map<String, Value>,
    out: &mut Vec<u8>,
) -> Option<()> {
    for (number, field) in message.fields() {
        if field.inline() {
            if let Kind::Message(inner) = field.kind {
                let mut content = Vec::new();
                write(table::find(inner)?, object, &mut content)?;
                put_bytes(out, *number, &content);
            }
            continue;
        }
        match object.get(field.name) {
            None | Some(Value::Null) => {}
            Some(value) => write_field(*number, field, value, out)?,
        }
    }
    Some(())
}

fn write_field(number: u32, field: &Field, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    if field.map {
        for (key, value) in value.as_object()? {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, key.as_bytes());
            write_value(2, &field.kind, value, &mut entry)?;
            put_bytes(out, number, &entry);
        }
    } else if field.repeated {
        for item in value.as_array()? {
            write_value(number, &field.kind, item, out)?;
        }
    } else {
        write_value(number, &field.kind, value, out)?;
    }
    Some(())
}

fn write_value(number: u32, kind: &Kind, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match kind {
        Kind::Text => put_bytes(out, number, value.as_str()?.as_bytes()),
        Kind::Bool => put_number(out, number, u64::from(value.as_bool()?)),
        Kind::Integer => put_number(out, number, integer(value)?),
        Kind::Float => put_fixed(out, number, value.as_f64()?.to_bits()),
        Kind::Bytes => put_bytes(out, number, &STANDARD.decode(value.as_str()?).ok()?),
        Kind::Quantity => put_bytes(out, number, &text_message(1, quantity(value)?.as_bytes())),
        Kind::IntOrString => put_bytes(out, number, &int_or_string(value)?),
        Kind::Time | Kind::MicroTime => put_bytes(out, number, &time(value.as_str()?)?),
        Kind::Json => put_bytes(out, number, &text_message(1, value.to_string().as_bytes())),
        Kind::Strings => {
            let mut content = Vec::new();
            for item in value.as_array()? {
                put_bytes(&mut content, 1, item.as_str()?.as_bytes());
            }
            put_bytes(out, number, &content);
        }
        Kind::SchemaOrSchemas => put_bytes(out, number, &write_schemas(value)?),
        Kind::SchemaOrBool => put_bytes(out, number, &write_bool(value)?),
        Kind::SchemaOrStrings => put_bytes(out, number, &write_strings(value)?),
        Kind::Message(name) => put_bytes(out, number, &part(name, value)?),
    }
    Some(())
}

/// Two's complement, as protobuf has negative numbers.
fn integer(value: &Value) -> Option<u64> {
    match value.as_i64() {
        Some(signed) => Some(signed.cast_unsigned()),
        None => value.as_u64(),
    }
}

fn quantity(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn text_message(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, content);
    out
}

/// The type (0 for a number, 1 for a string), then the one or the other.
fn int_or_string(value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    if let Value::String(text) = value {
        put_number(&mut out, 1, 1);
        put_bytes(&mut out, 3, text.as_bytes());
    } else {
        put_number(&mut out, 1, 0);
        put_number(&mut out, 2, integer(value)?);
    }
    Some(out)
}

fn time(text: &str) -> Option<Vec<u8>> {
    let at: jiff::Timestamp = text.parse().ok()?;
    // Times before 1970 have nanoseconds that count forwards, too.
    let nanos = at.subsec_nanosecond();
    let (seconds, nanos) = if nanos < 0 {
        (at.as_second().checked_sub(1)?, nanos + 1_000_000_000)
    } else {
        (at.as_second(), nanos)
    };
    let mut out = Vec::new();
    put_number(&mut out, 1, seconds.cast_unsigned());
    put_number(&mut out, 2, i64::from(nanos).cast_unsigned());
    Some(out)
}

/// A JSON schema, or a list of them.
fn write_schemas(value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match value {
        Value::Array(many) => {
            for schema in many {
                put_bytes(&mut out, MANY, &part(SCHEMA, schema)?);
            }
        }
        one => put_bytes(&mut out, ONE, &part(SCHEMA, one)?),
    }
    Some(out)
}

/// A JSON schema, or whether anything is allowed.
fn write_bool(value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match value {
        Value::Bool(allows) => put_number(&mut out, ALLOWS, u64::from(*allows)),
        schema => {
            put_number(&mut out, ALLOWS, 1);
            put_bytes(&mut out, BESIDE, &part(SCHEMA, schema)?);
        }
    }
    Some(out)
}

/// A JSON schema, or names of properties.
fn write_strings(value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match value {
        Value::Array(names) => {
            for name in names {
                put_bytes(&mut out, MANY, name.as_str()?.as_bytes());
            }
        }
        schema => put_bytes(&mut out, ONE, &part(SCHEMA, schema)?),
    }
    Some(out)
}
