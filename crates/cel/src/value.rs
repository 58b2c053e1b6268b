//! Values: JSON where it lies, and what an evaluation makes.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use berth_api::quantity::Quantity;
use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::authorizer::{Check, Decision};
use crate::budget::{Budget, EvalError};
use crate::cidr::Cidr;
use crate::format::Format;
use crate::semver::Semver;
use crate::time::{self, Instant};
use crate::types::{Decl, DeclKind, ListKind, ObjectDecl};
use crate::url::Url;

static ATOMIC: ListKind = ListKind::Atomic;

/// The value of an expression. What comes from JSON is borrowed from it.
#[derive(Clone)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// `int`
    Int(i64),
    /// `uint`
    Uint(u64),
    /// `double`
    Double(f64),
    /// `string`
    String(Text<'a>),
    /// `bytes`
    Bytes(Rc<[u8]>),
    /// A duration, in nanoseconds.
    Duration(i64),
    /// An instant.
    Timestamp(Instant),
    /// `list`
    List(List<'a>),
    /// `map`, or an object with declared fields.
    Map(Map<'a>),
    /// A type, by its name.
    Type(Text<'a>),
    /// `optional.of(x)` or `optional.none()`
    Optional(Option<Rc<Value<'a>>>),
    /// `Object{...}` or `JSONPatch{...}`
    Message(Rc<Message<'a>>),
    /// Fields that are made when they are asked for, like `variables`.
    Lazy(Rc<dyn Lazy<'a> + 'a>),
    /// `quantity('1Gi')`
    Quantity(Rc<Quantity>),
    /// `ip('10.0.0.1')`
    Ip(IpAddr),
    /// `cidr('10.0.0.0/8')`
    Cidr(Cidr),
    /// `url('https://example.com')`
    Url(Rc<Url>),
    /// `format.dns1123Label()`
    Format(&'static Format),
    /// `semver('1.2.3')`
    Semver(Rc<Semver>),
    /// `authorizer`, and a check that is being put together.
    Check(Rc<Check<'a>>),
    /// What an authorizer answered.
    Decision(Rc<Decision>),
}

/// A string, borrowed or shared.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// From JSON, or static.
    Borrowed(&'a str),
    /// From the expression, or made.
    Shared(Arc<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// A list.
#[derive(Clone)]
pub struct List<'a> {
    pub(crate) items: Items<'a>,
    /// How it compares and what `+` makes of it.
    pub(crate) kind: &'a ListKind,
}

#[derive(Clone)]
pub(crate) enum Items<'a> {
    Json(&'a [Json], &'a Decl),
    Made(Rc<Vec<Value<'a>>>),
}

/// A map or object.
#[derive(Clone)]
pub enum Map<'a> {
    /// A JSON object of any keys, with the declaration of its values.
    Json(&'a serde_json::Map<String, Json>, &'a Decl),
    /// A JSON object with declared fields.
    Object(&'a serde_json::Map<String, Json>, &'a ObjectDecl),
    /// A map that an expression made.
    Made(Rc<IndexMap<Key, Value<'a>>>),
}

/// A key of a map that an expression made. Numbers are equal across their types: those that an int can hold are ints.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `true` or `false`
    Bool(bool),
    /// An int, or a uint within int's range.
    Int(i64),
    /// A uint beyond int's range.
    Uint(u64),
    /// `string`
    String(Arc<str>),
}

/// An object made by an expression: `Object.spec{replicas: 1}`.
pub struct Message<'a> {
    /// `Object`, `Object.spec`, ... or `JSONPatch`.
    pub name: Arc<str>,
    /// The fields that are set, in order.
    pub fields: Vec<(Arc<str>, Value<'a>)>,
}

/// Fields that are made when they are asked for.
pub trait Lazy<'a> {
    /// The value of a field; None when there is no such field. What making it costs is taken out of the budget.
    fn field(&self, name: &str, budget: &mut Budget) -> Option<Result<Value<'a>, EvalError>>;
}

impl<'a> Value<'a> {
    /// JSON without a schema.
    #[must_use]
    pub fn json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(int) => Self::Int(int),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::String(Text::Borrowed(text)),
            Json::Array(items) => Self::List(List {
                items: Items::Json(items, Decl::dynamic()),
                kind: &ATOMIC,
            }),
            Json::Object(fields) => Self::Map(Map::Json(fields, Decl::dynamic())),
        }
    }

    /// JSON as a declaration describes it.
    ///
    /// # Errors
    /// When the data is not what is declared: a number where a string is, no RFC 3339 where a date is.
    pub fn typed(json: &'a Json, decl: &'a Decl) -> Result<Self, EvalError> {
        let invalid = || {
            let got = match json {
                Json::Null => "null",
                Json::Bool(_) => "bool",
                Json::Number(_) => "number",
                Json::String(_) => "string",
                Json::Array(_) => "array",
                Json::Object(_) => "object",
            };
            EvalError::new(format!("invalid data, expected {}, got {got}", decl.ty()))
        };
        let text = |json: &'a Json| json.as_str().ok_or_else(invalid);
        if json.is_null() {
            return Ok(Self::Null);
        }
        Ok(match &decl.kind {
            DeclKind::Dyn | DeclKind::Typed(_) => Self::json(json),
            DeclKind::Bool => Self::Bool(json.as_bool().ok_or_else(invalid)?),
            DeclKind::Int => match json.as_i64() {
                Some(int) => Self::Int(int),
                None => Self::Int(json.as_f64().and_then(exact_int).ok_or_else(invalid)?),
            },
            DeclKind::Double => Self::Double(json.as_f64().ok_or_else(invalid)?),
            DeclKind::String => Self::String(Text::Borrowed(text(json)?)),
            DeclKind::Bytes => {
                let decoded = base64::engine::general_purpose::STANDARD.decode(text(json)?);
                Self::Bytes(decoded.map_err(|_| invalid())?.into())
            }
            DeclKind::Duration => Self::Duration(time::duration(text(json)?).ok_or_else(invalid)?),
            DeclKind::Date => Self::Timestamp(time::date(text(json)?).ok_or_else(invalid)?),
            DeclKind::DateTime => {
                Self::Timestamp(time::timestamp(text(json)?).ok_or_else(invalid)?)
            }
            DeclKind::List(element, kind) => Self::List(List {
                items: Items::Json(json.as_array().ok_or_else(invalid)?, element),
                kind,
            }),
            DeclKind::Map(value) => {
                Self::Map(Map::Json(json.as_object().ok_or_else(invalid)?, value))
            }
            DeclKind::Object(object) => {
                Self::Map(Map::Object(json.as_object().ok_or_else(invalid)?, object))
            }
        })
    }

    /// A string that a caller has.
    #[must_use]
    pub fn string(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }

    pub(crate) fn made(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::List(List {
            items: Items::Made(Rc::new(items)),
            kind: &ATOMIC,
        })
    }

    pub(crate) fn some(value: Self) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    /// The boolean, when it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self {
            Some(*value)
        } else {
            None
        }
    }

    /// The string, when it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The name of the value's type, as `type()` gives it.
    #[must_use]
    pub fn type_name(&self) -> Text<'a> {
        use crate::named;
        Text::Borrowed(match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(Map::Object(_, object)) => &object.name,
            Self::Map(_) | Self::Lazy(_) => "map",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Message(message) => return Text::Shared(message.name.clone()),
            Self::Quantity(_) => named::QUANTITY,
            Self::Ip(_) => named::IP,
            Self::Cidr(_) => named::CIDR,
            Self::Url(_) => named::URL,
            Self::Format(_) => named::FORMAT,
            Self::Semver(_) => named::SEMVER,
            Self::Check(check) => check.type_name(),
            Self::Decision(_) => named::DECISION,
        })
    }

    /// What `size()` gives, and what costs are proportional to; 1 for what has no size.
    pub(crate) fn size(&self) -> u64 {
        let size = match self {
            Self::String(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Optional(Some(value)) => return value.size(),
            Self::Ip(IpAddr::V4(_)) => 4,
            Self::Ip(IpAddr::V6(_)) => 16,
            Self::Cidr(cidr) => return cidr.size(),
            _ => 1,
        };
        u64::try_from(size).unwrap_or(u64::MAX)
    }
}

/// A whole number that an int holds exactly.
pub(crate) fn exact_int(number: f64) -> Option<i64> {
    // 2^63 as a double; the range check makes the cast exact.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    #[allow(clippy::cast_possible_truncation)]
    let int = number as i64;
    (number.fract() == 0.0 && (-LIMIT..LIMIT).contains(&number)).then_some(int)
}

impl<'a> List<'a> {
    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.items {
            Items::Json(items, _) => items.len(),
            Items::Made(items) => items.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element; None beyond the end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Result<Value<'a>, EvalError>> {
        match &self.items {
            Items::Json(items, decl) => Some(Value::typed(items.get(index)?, decl)),
            Items::Made(items) => Some(Ok(items.get(index)?.clone())),
        }
    }

    /// The elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, EvalError>> {
        (0..self.len()).map_while(|index| self.get(index))
    }
}

impl<'a> Map<'a> {
    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Json(fields, _) | Self::Object(fields, _) => fields.len(),
            Self::Made(entries) => entries.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a string key, or of a field by the name that expressions use.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            Self::Json(fields, decl) => Some(Value::typed(fields.get(key)?, decl)),
            Self::Object(fields, object) => {
                let field = object.fields.get(key)?;
                Some(Value::typed(fields.get(&field.name)?, &field.decl))
            }
            Self::Made(entries) => Some(Ok(entries.get(&Key::String(key.into()))?.clone())),
        }
    }

    /// The value of any key.
    pub(crate) fn get_key(&self, key: &Key) -> Option<Result<Value<'a>, EvalError>> {
        match (self, key) {
            (Self::Made(entries), key) => Some(Ok(entries.get(key)?.clone())),
            (_, Key::String(text)) => self.get(text),
            _ => None,
        }
    }

    /// The entry at a position; None beyond the end.
    pub(crate) fn entry(
        &self,
        index: usize,
        keys: &[&'a str],
    ) -> Option<(Value<'a>, Result<Value<'a>, EvalError>)> {
        match self {
            Self::Made(entries) => {
                let (key, value) = entries.get_index(index)?;
                Some((key.value(), Ok(value.clone())))
            }
            Self::Json(..) | Self::Object(..) => {
                let key = keys.get(index)?;
                Some((Value::string(key), self.get(key)?))
            }
        }
    }

    /// The keys of what lies in JSON, for [`Self::entry`].
    pub(crate) fn keys(&self) -> Vec<&'a str> {
        match self {
            Self::Json(fields, _) | Self::Object(fields, _) => {
                fields.keys().map(String::as_str).collect()
            }
            Self::Made(_) => Vec::new(),
        }
    }
}

impl Key {
    /// The key that a value is; None for what can't be one.
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Uint(value) => i64::try_from(*value).map_or(Self::Uint(*value), Self::Int),
            Value::Double(value) => Self::Int(exact_int(*value)?),
            Value::String(Text::Shared(text)) => Self::String(text.clone()),
            Value::String(text) => Self::String((&**text).into()),
            _ => return None,
        })
    }

    pub(crate) fn value<'a>(&self) -> Value<'a> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::String(text) => Value::made(text.clone()),
        }
    }
}

impl Message<'_> {
    /// Whether the names of the types are the paths where they stand: `Object.spec` for what is in field `spec` of
    /// `Object`.
    ///
    /// # Errors
    /// The first that isn't, in the reference's words.
    pub fn check_names(&self) -> Result<(), EvalError> {
        check_names(self, &self.name, 0)
    }
}

fn check_names(message: &Message<'_>, path: &str, depth: u32) -> Result<(), EvalError> {
    if depth > 250 {
        return Err(EvalError::new("object nests too deeply"));
    }
    if &*message.name != path {
        return Err(EvalError::new(format!(
            "unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
            &*message.name
        )));
    }
    for (field, value) in &message.fields {
        check_value(value, &format!("{path}.{field}"), depth + 1)?;
    }
    Ok(())
}

fn check_value(value: &Value<'_>, path: &str, depth: u32) -> Result<(), EvalError> {
    match value {
        Value::Message(message) => check_names(message, path, depth),
        Value::List(List {
            items: Items::Made(items),
            ..
        }) if depth <= 250 => items
            .iter()
            .try_for_each(|item| check_value(item, path, depth + 1)),
        Value::Map(Map::Made(entries)) if depth <= 250 => entries
            .values()
            .try_for_each(|value| check_value(value, path, depth + 1)),
        _ => Ok(()),
    }
}
