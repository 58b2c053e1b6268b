//! A schema as it is enforced: read once, with its patterns and rules compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_cel::{Decl, Regexp};
use serde_json::Value as Json;

use crate::formats::Format;
use crate::rules::Rules;

/// How deep schemas nest.
const MAX_DEPTH: usize = 200;

/// A type of JSON, as schemas name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `object`
    Object,
    /// `array`
    Array,
    /// `string`
    String,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `boolean`
    Boolean,
}

impl Kind {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    /// As schemas name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// `x-kubernetes-list-type`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Scalars, each once.
    Set,
    /// Objects, told apart by these fields.
    Map(Vec<String>),
}

/// What is allowed beside `properties`.
#[derive(Debug, Default)]
pub enum Additional {
    /// Nothing is said.
    #[default]
    Unsaid,
    /// Anything.
    Any,
    /// What the schema takes.
    Schema(Box<Schema>),
}

/// A schema, or a part of one.
#[derive(Debug, Default)]
pub struct Schema {
    /// `type`
    pub kind: Option<Kind>,
    /// Whether null is allowed.
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`
    pub int_or_string: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    /// `properties`; boxed, since a map's nodes have room for eleven values, and most objects have fewer.
    pub properties: BTreeMap<String, Box<Schema>>,
    /// `additionalProperties`
    pub additional: Additional,
    /// `items`
    pub items: Option<Box<Schema>>,
    /// `default`
    pub default: Option<Json>,
    /// `x-kubernetes-list-type`
    pub list: ListType,
    /// Whether `x-kubernetes-map-type` is `atomic`.
    pub atomic_map: bool,
    pub(crate) checks: Box<Checks>,
    /// The rules of this part itself.
    pub(crate) rules: Option<Rules>,
    /// Whether there are rules in this part or below.
    pub(crate) has_rules: bool,
    /// Whether there are defaults in this part or below.
    pub(crate) has_defaults: bool,
    /// Whether there are lists of type set or map below.
    pub(crate) has_keyed_lists: bool,
    /// Whether there are embedded resources in this part or below.
    pub(crate) has_embedded: bool,
}

/// What values are checked for.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) required: Vec<String>,
    pub(crate) enumeration: Option<Vec<Json>>,
    pub(crate) minimum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_maximum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) pattern: Option<(String, Arc<Regexp>)>,
    pub(crate) format: Option<Format>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) all_of: Vec<Schema>,
    pub(crate) any_of: Vec<Schema>,
    pub(crate) one_of: Vec<Schema>,
    pub(crate) not: Option<Box<Schema>>,
}

/// Why a schema can't be enforced. Definitions are checked when they are written; this is for those that an older version
/// of the server has taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct Unenforceable {
    /// Where in the schema.
    pub at: String,
    /// What is wrong there.
    pub what: String,
}

impl Schema {
    /// Reads `openAPIV3Schema` of a definition.
    ///
    /// # Errors
    /// When a part of it can't be enforced: an unknown type, a bad pattern, a rule that doesn't compile.
    pub fn compile(json: &Json) -> Result<Self, Unenforceable> {
        compile(json, true, false, "openAPIV3Schema", MAX_DEPTH)
    }

    /// Reads a part of a schema.
    pub(crate) fn compile_part(json: &Json) -> Result<Self, Unenforceable> {
        compile(json, false, false, "", MAX_DEPTH)
    }

    /// The schema of a field of an object: a property, or what additional properties are.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        match (self.properties.get(name), &self.additional) {
            (Some(schema), _) => Some(&**schema),
            (None, Additional::Schema(schema)) => Some(schema),
            (None, Additional::Unsaid | Additional::Any) => None,
        }
    }

    /// Whether there are validation rules in the schema.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.has_rules
    }

    /// Whether there are defaults in the schema.
    #[must_use]
    pub fn has_defaults(&self) -> bool {
        self.has_defaults
    }

    fn children(&self) -> impl Iterator<Item = &Self> {
        let additional = match &self.additional {
            Additional::Schema(schema) => Some(&**schema),
            Additional::Unsaid | Additional::Any => None,
        };
        self.properties
            .values()
            .map(|schema| &**schema)
            .chain(additional)
            .chain(self.items.as_deref())
    }
}

fn flag(json: &Json, name: &str) -> bool {
    json.get(name).and_then(Json::as_bool).unwrap_or(false)
}

fn number(json: &Json, name: &str) -> Option<f64> {
    json.get(name).and_then(Json::as_f64)
}

fn count(json: &Json, name: &str) -> Option<u64> {
    let value = json.get(name)?;
    value.as_u64().or_else(|| value.as_i64().map(|_| 0))
}

fn texts(json: &Json, name: &str) -> Vec<String> {
    let list = json.get(name).and_then(Json::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .map(str::to_owned)
        .collect()
}

/// `nested`: below `allOf`, `anyOf`, `oneOf` or `not`, where there are no rules.
fn compile(
    json: &Json,
    root: bool,
    nested: bool,
    at: &str,
    depth: usize,
) -> Result<Schema, Unenforceable> {
    let wrong = |what: String| Unenforceable {
        at: at.to_owned(),
        what,
    };
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| wrong("nests too deeply".to_owned()))?;
    let kind = match json
        .get("type")
        .and_then(Json::as_str)
        .filter(|name| !name.is_empty())
    {
        Some(name) => {
            Some(Kind::named(name).ok_or_else(|| wrong(format!("unknown type {name:?}")))?)
        }
        None => None,
    };
    let inner =
        |json: &Json, part: &str| compile(json, false, nested, &format!("{at}.{part}"), depth);
    let mut properties = BTreeMap::new();
    for (name, property) in json
        .get("properties")
        .and_then(Json::as_object)
        .into_iter()
        .flatten()
    {
        properties.insert(name.clone(), Box::new(inner(property, name)?));
    }
    let additional = match json.get("additionalProperties") {
        Some(Json::Bool(true)) => Additional::Any,
        Some(schema @ Json::Object(_)) => {
            Additional::Schema(Box::new(inner(schema, "additionalProperties")?))
        }
        _ => Additional::Unsaid,
    };
    let items = json.get("items").filter(|items| items.is_object());
    let list = match json.get("x-kubernetes-list-type").and_then(Json::as_str) {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map(texts(json, "x-kubernetes-list-map-keys")),
        _ => ListType::Atomic,
    };
    let embedded = flag(json, "x-kubernetes-embedded-resource");
    let mut schema = Schema {
        kind,
        nullable: flag(json, "nullable"),
        int_or_string: flag(json, "x-kubernetes-int-or-string"),
        preserve_unknown: flag(json, "x-kubernetes-preserve-unknown-fields"),
        embedded,
        properties,
        additional,
        items: items
            .map(|items| inner(items, "items"))
            .transpose()?
            .map(Box::new),
        default: json.get("default").cloned(),
        list,
        atomic_map: json.get("x-kubernetes-map-type").and_then(Json::as_str) == Some("atomic"),
        checks: Box::new(checks(json, at, depth)?),
        ..Schema::default()
    };
    if !nested
        && json
            .get("x-kubernetes-validations")
            .and_then(Json::as_array)
            .is_some_and(|rules| !rules.is_empty())
    {
        let decl = Decl::from_schema(json, root || embedded)
            .ok_or_else(|| wrong("rules on what expressions can't see".to_owned()))?;
        schema.rules = Some(Rules::compile(json, decl).map_err(&wrong)?);
    }
    let (rules, keyed, embeds) =
        schema
            .children()
            .fold((false, false, false), |(rules, keyed, embeds), child| {
                (
                    rules || child.has_rules,
                    keyed || child.has_keyed_lists,
                    embeds || child.has_embedded,
                )
            });
    schema.has_defaults =
        schema.default.is_some() || schema.children().any(|child| child.has_defaults);
    schema.has_rules = rules || schema.rules.is_some();
    schema.has_keyed_lists = keyed || schema.list != ListType::Atomic;
    schema.has_embedded = embeds || schema.embedded;
    Ok(schema)
}

fn checks(json: &Json, at: &str, depth: usize) -> Result<Checks, Unenforceable> {
    let wrong = |what: String| Unenforceable {
        at: at.to_owned(),
        what,
    };
    let nested = |name: &str| -> Result<Vec<Schema>, Unenforceable> {
        let list = json.get(name).and_then(Json::as_array);
        list.into_iter()
            .flatten()
            .map(|json| compile(json, false, true, &format!("{at}.{name}"), depth))
            .collect()
    };
    let pattern = match json
        .get("pattern")
        .and_then(Json::as_str)
        .filter(|pattern| !pattern.is_empty())
    {
        Some(pattern) => Some((pattern.to_owned(), Regexp::shared(pattern).map_err(wrong)?)),
        None => None,
    };
    let not = json.get("not").filter(|not| not.is_object());
    Ok(Checks {
        required: texts(json, "required"),
        enumeration: json.get("enum").and_then(Json::as_array).cloned(),
        minimum: number(json, "minimum"),
        exclusive_minimum: flag(json, "exclusiveMinimum"),
        maximum: number(json, "maximum"),
        exclusive_maximum: flag(json, "exclusiveMaximum"),
        multiple_of: number(json, "multipleOf"),
        min_length: count(json, "minLength"),
        max_length: count(json, "maxLength"),
        pattern,
        format: Format::of(json),
        min_items: count(json, "minItems"),
        max_items: count(json, "maxItems"),
        min_properties: count(json, "minProperties"),
        max_properties: count(json, "maxProperties"),
        all_of: nested("allOf")?,
        any_of: nested("anyOf")?,
        one_of: nested("oneOf")?,
        not: not
            .map(|not| compile(not, false, true, &format!("{at}.not"), depth))
            .transpose()?
            .map(Box::new),
    })
}
