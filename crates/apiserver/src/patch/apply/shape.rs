//! Which parts of an object have owners of their own.

use serde_json::{Map, Value};

use crate::patch::schema::{self, Field, Kind, Type};

/// How the value at a place is owned.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
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

impl Shape {
    pub(super) fn root(ty: Option<&'static Type>) -> Self {
        ty.map_or(Self::Object, |ty| Self::Struct(Some(ty)))
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
            Self::Object if name == "metadata" => {
                Self::Struct(schema::lookup("meta.v1.ObjectMeta"))
            }
            Self::Untyped | Self::Object => Self::Untyped,
            Self::Struct(None)
            | Self::Map(Entry::Scalar)
            | Self::Set
            | Self::Keyed(..)
            | Self::Leaf => Self::Leaf,
        }
    }

    /// The shape of a list's items.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Keyed(_, ty) => Self::Struct(ty),
            Self::Struct(_)
            | Self::Map(_)
            | Self::Set
            | Self::Leaf
            | Self::Untyped
            | Self::Object => Self::Leaf,
        }
    }

    /// Whether a name in a value of this shape is a declared field, not an entry of a map.
    pub(super) fn declares(self) -> bool {
        matches!(self, Self::Struct(_) | Self::Object)
    }

    /// The fields that the stock server always has, be they empty.
    pub(super) fn always(self) -> impl Iterator<Item = &'static Field> {
        let ty = match self {
            Self::Struct(ty) => ty,
            Self::Map(_)
            | Self::Set
            | Self::Keyed(..)
            | Self::Leaf
            | Self::Untyped
            | Self::Object => None,
        };
        ty.into_iter().flat_map(|t| &t.fields).filter(|f| f.always)
    }

    pub(super) fn view(self, value: &Value) -> View {
        match (self, value) {
            (Self::Struct(_) | Self::Map(_) | Self::Untyped | Self::Object, Value::Object(_)) => {
                View::Map
            }
            (Self::Set | Self::Keyed(..), Value::Array(_)) => View::List,
            (
                Self::Struct(_)
                | Self::Map(_)
                | Self::Set
                | Self::Keyed(..)
                | Self::Leaf
                | Self::Untyped
                | Self::Object,
                _,
            ) => View::Leaf,
        }
    }

    /// The path elements of a list's items, in order.
    pub(super) fn elements(self, items: &[Value]) -> Vec<Result<String, MissingKey>> {
        items.iter().map(|item| self.element(item)).collect()
    }

    fn element(self, item: &Value) -> Result<String, MissingKey> {
        let Self::Keyed(keys, ty) = self else {
            return Ok(format!("v:{item}"));
        };
        let mut element = Map::new();
        let mut sorted = keys.to_vec();
        sorted.sort_unstable();
        for key in sorted {
            let value = match item.get(key) {
                Some(value) if !value.is_null() => value.clone(),
                Some(_) | None => match ty.and_then(|t| t.default_of(key)) {
                    Some(default) => Value::String(default.to_owned()),
                    None => return Err(MissingKey(key)),
                },
            };
            element.insert(key.to_owned(), value);
        }
        Ok(format!("k:{}", Value::Object(element)))
    }
}

/// A list item lacks this field, which is part of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MissingKey(pub(super) &'static str);
