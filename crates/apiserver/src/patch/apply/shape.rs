//! Which parts of an object have owners of their own.

use berth_schema::{Additional, Kind as Json, ListType, Schema};

use serde_json::Value;

use crate::patch::schema::{self, Field, Kind, Type};

/// What is known of an object that is written: the type of a built-in kind, or the schema of a custom one.
#[derive(Debug, Clone, Copy)]
pub enum Known<'s> {
    /// Nothing.
    Nothing,
    /// A built-in kind's type.
    Type(&'static Type),
    /// A custom kind's schema.
    Schema(&'s Schema),
}

/// How the value at a place is owned.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape<'s> {
    /// Field by field; without a type all fields are scalars.
    Struct(Option<&'static Type>),
    /// Entry by entry, each entry of the inner shape.
    Map(Entry),
    /// A list of scalars, each for itself.
    Set,
    /// A list of structs, told apart by these fields.
    Keyed(&'static [&'static str], Option<&'static Type>),
    /// As a whole.
    Leaf,
    /// Nothing is known: maps entry by entry, lists as a whole.
    Untyped,
    /// The same for a whole object, whose metadata is known.
    Object,
    /// An object or map by its schema.
    Custom(&'s Schema),
    /// The same for a whole object.
    CustomObject(&'s Schema),
    /// A list of objects, told apart by these fields, with the schema of an item.
    CustomKeyed(&'s [String], &'s Schema),
}

/// What a map's entries are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    Scalar,
    Struct(Option<&'static Type>),
}

/// How to walk a pair of values of one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Leaf,
    Map,
    List,
}

impl<'s> Shape<'s> {
    pub(super) fn root(known: Known<'s>) -> Self {
        match known {
            Known::Nothing => Self::Object,
            Known::Type(ty) => Self::Struct(Some(ty)),
            Known::Schema(schema) => Self::CustomObject(schema),
        }
    }

    fn of_schema(schema: &'s Schema) -> Self {
        if schema.int_or_string {
            return Self::Leaf;
        }
        match (schema.kind, &schema.list, &schema.items) {
            (Some(Json::Object), ..) if schema.atomic_map => Self::Leaf,
            (Some(Json::Object), ..) if schema.embedded => Self::CustomObject(schema),
            (Some(Json::Object), ..) => Self::Custom(schema),
            (Some(Json::Array), ListType::Set, _) => Self::Set,
            (Some(Json::Array), ListType::Map(keys), Some(items)) => Self::CustomKeyed(keys, items),
            (None, ..) if schema.preserve_unknown => Self::Untyped,
            _ => Self::Leaf,
        }
    }

    fn of(field: &'static Field) -> Self {
        match &field.kind {
            Kind::Struct | Kind::Pointer => Self::Struct(field.item()),
            Kind::Map if field.has_item() => Self::Map(Entry::Struct(field.item())),
            Kind::Map => Self::Map(Entry::Scalar),
            Kind::Set => Self::Set,
            Kind::Keyed(keys) => Self::Keyed(keys, field.item()),
            Kind::Raw => Self::Untyped,
            Kind::Atomic | Kind::List | Kind::Default(_) => Self::Leaf,
        }
    }

    /// The shape of a field or entry.
    pub(super) fn field(self, name: &str) -> Self {
        match self {
            Self::Struct(Some(ty)) => ty.field(name).map_or(Self::Leaf, Self::of),
            Self::Map(Entry::Struct(ty)) => Self::Struct(ty),
            Self::Object | Self::CustomObject(_) if name == "metadata" => {
                Self::Struct(schema::lookup("meta.v1.ObjectMeta"))
            }
            Self::Custom(schema) | Self::CustomObject(schema) => match schema.field(name) {
                Some(field) => Self::of_schema(field),
                None => Self::Untyped,
            },
            Self::Untyped | Self::Object => Self::Untyped,
            Self::Struct(None)
            | Self::Map(Entry::Scalar)
            | Self::Set
            | Self::Keyed(..)
            | Self::CustomKeyed(..)
            | Self::Leaf => Self::Leaf,
        }
    }

    /// The shape of a list's items.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Keyed(_, ty) => Self::Struct(ty),
            Self::CustomKeyed(_, items) => Self::of_schema(items),
            Self::Struct(_)
            | Self::Map(_)
            | Self::Set
            | Self::Leaf
            | Self::Untyped
            | Self::Object
            | Self::Custom(_)
            | Self::CustomObject(_) => Self::Leaf,
        }
    }

    /// Whether a name in a value of this shape is a declared field, not an entry of a map.
    pub(super) fn declares(self) -> bool {
        match self {
            Self::Struct(_) | Self::Object | Self::CustomObject(_) => true,
            Self::Custom(schema) => !matches!(schema.additional, Additional::Schema(_)),
            Self::Map(_)
            | Self::Set
            | Self::Keyed(..)
            | Self::CustomKeyed(..)
            | Self::Leaf
            | Self::Untyped => false,
        }
    }

    /// The fields that the stock server always has, be they empty.
    pub(super) fn always(self) -> impl Iterator<Item = &'static Field> {
        let ty = match self {
            Self::Struct(ty) => ty,
            Self::Map(_)
            | Self::Set
            | Self::Keyed(..)
            | Self::CustomKeyed(..)
            | Self::Leaf
            | Self::Untyped
            | Self::Object
            | Self::Custom(_)
            | Self::CustomObject(_) => None,
        };
        ty.into_iter().flat_map(|t| &t.fields).filter(|f| f.always)
    }

    pub(super) fn view(self, value: &Value) -> View {
        match (self, value) {
            (
                Self::Struct(_)
                | Self::Map(_)
                | Self::Untyped
                | Self::Object
                | Self::Custom(_)
                | Self::CustomObject(_),
                Value::Object(_),
            ) => View::Map,
            (Self::Set | Self::Keyed(..) | Self::CustomKeyed(..), Value::Array(_)) => View::List,
            (
                Self::Struct(_)
                | Self::Map(_)
                | Self::Set
                | Self::Keyed(..)
                | Self::Leaf
                | Self::Untyped
                | Self::Object
                | Self::Custom(_)
                | Self::CustomObject(_)
                | Self::CustomKeyed(..),
                _,
            ) => View::Leaf,
        }
    }

    /// The path elements of a list's items, in order.
    pub(super) fn elements(self, items: &[Value]) -> Vec<Result<String, MissingKey>> {
        items.iter().map(|item| self.element(item)).collect()
    }

    fn element(self, item: &Value) -> Result<String, MissingKey> {
        let mut element = String::from("k:{");
        let given = |key: &str| item.get(key).filter(|value| !value.is_null());
        match self {
            Self::Keyed([key], ty) => {
                let default = || ty.and_then(|t| t.default_of(key)).map(Value::from);
                match (given(key), default) {
                    (Some(value), _) => put_key(&mut element, key, value),
                    (None, default) => {
                        let value = default().ok_or_else(|| MissingKey((*key).to_owned()))?;
                        put_key(&mut element, key, &value);
                    }
                }
            }
            Self::Keyed(keys, ty) => {
                let mut sorted = keys.to_vec();
                sorted.sort_unstable();
                for key in sorted {
                    let default = || ty.and_then(|t| t.default_of(key)).map(Value::from);
                    let value = given(key).cloned().or_else(default);
                    let value = value.ok_or_else(|| MissingKey(key.to_owned()))?;
                    put_key(&mut element, key, &value);
                }
            }
            Self::CustomKeyed(keys, schema) => {
                let mut sorted: Vec<&String> = keys.iter().collect();
                sorted.sort_unstable();
                sorted.dedup();
                let mut some = false;
                for key in sorted {
                    let default = || schema.field(key)?.default.clone();
                    if let Some(value) = given(key).cloned().or_else(default) {
                        put_key(&mut element, key, &value);
                        some = true;
                    }
                }
                // Optional keys may be absent, but not all of them.
                if !some {
                    return Err(MissingKey(keys.join(", ")));
                }
            }
            Self::Struct(_)
            | Self::Map(_)
            | Self::Set
            | Self::Leaf
            | Self::Untyped
            | Self::Object
            | Self::Custom(_)
            | Self::CustomObject(_) => return Ok(format!("v:{item}")),
        }
        element.push('}');
        Ok(element)
    }
}

/// Adds a key and its value to a path element, which is a JSON object.
fn put_key(element: &mut String, key: &str, value: &Value) {
    if !element.ends_with('{') {
        element.push(',');
    }
    element.push_str(&Value::from(key).to_string());
    element.push(':');
    element.push_str(&value.to_string());
}

/// A list item lacks this field, which is part of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MissingKey(pub(super) String);
