//! Values to JSON.

use serde_json::{Map as JsonMap, Number, Value as Json};

use crate::budget::EvalError;
use crate::time;
use crate::value::{Items, Key, Map, Value};

/// JSON nests this deep at most; values that an expression makes are as deep as the expression.
const MAX_DEPTH: u32 = 600;

impl Value<'_> {
    /// The value as JSON, as the results of mutations and messages are used.
    ///
    /// # Errors
    /// When it has a part that JSON can't hold: a key that is no string, an infinite number, bytes, a type.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        convert(self, MAX_DEPTH)
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.to_json() {
            Ok(json) => write!(f, "{}({json})", &*self.type_name()),
            Err(_) => f.write_str(&self.type_name()),
        }
    }
}

fn convert(value: &Value<'_>, depth: u32) -> Result<Json, EvalError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(EvalError::new("value nests too deeply for JSON"));
    };
    let cannot = |what: &str| EvalError::new(format!("unable to convert {what} to JSON"));
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => Json::from(*value),
        Value::Double(value) => Json::Number(
            Number::from_f64(*value).ok_or_else(|| cannot("a number that is not finite"))?,
        ),
        Value::String(text) => Json::String(text.to_string()),
        Value::Bytes(bytes) => Json::String(base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            &**bytes,
        )),
        Value::Duration(nanos) => Json::String(time::show_duration(*nanos)),
        Value::Timestamp(at) => Json::String(time::show_timestamp(*at)),
        Value::List(list) => match &list.items {
            Items::Json(items, _) => Json::Array(items.to_vec()),
            Items::Made(items) => Json::Array(
                items
                    .iter()
                    .map(|item| convert(item, depth))
                    .collect::<Result<_, _>>()?,
            ),
        },
        Value::Map(Map::Json(fields, _) | Map::Object(fields, _)) => {
            Json::Object((*fields).clone())
        }
        Value::Map(Map::Made(entries)) => {
            let mut object = JsonMap::new();
            for (key, value) in entries.iter() {
                let Key::String(key) = key else {
                    return Err(EvalError::new(format!("map key {key:?} is not a string")));
                };
                object.insert(key.to_string(), convert(value, depth)?);
            }
            Json::Object(object)
        }
        Value::Message(message) => {
            let mut object = JsonMap::new();
            for (name, value) in &message.fields {
                object.insert(name.to_string(), convert(value, depth)?);
            }
            Json::Object(object)
        }
        Value::Optional(Some(inner)) => convert(inner, depth)?,
        Value::Optional(None) => Json::Null,
        Value::Quantity(quantity) => Json::String(quantity.to_string()),
        Value::Ip(address) => Json::String(address.to_string()),
        Value::Cidr(network) => Json::String(network.to_string()),
        Value::Type(_)
        | Value::Lazy(_)
        | Value::Url(_)
        | Value::Format(_)
        | Value::Semver(_)
        | Value::Check(_)
        | Value::Decision(_) => return Err(cannot(&value.type_name())),
    })
}
