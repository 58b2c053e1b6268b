//! A serde deserializer over a JSON value that knows where it is.

use std::fmt;

use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::DecodeError;
use super::problems::Problems;
use super::trail::Trail;
use crate::quantity::Quantity;

/// A null where there has to be a time: Go's empty value, which its clients take for none.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

pub(super) struct Node<'v, 'p> {
    value: &'v Value,
    trail: Trail<'p>,
    unknown: &'p Problems,
}

impl<'v, 'p> Node<'v, 'p> {
    pub(super) fn root(value: &'v Value, unknown: &'p Problems) -> Self {
        Self {
            value,
            trail: Trail::Top,
            unknown,
        }
    }
}

#[derive(Debug)]
pub(super) struct Failure {
    path: Option<String>,
    message: String,
}

impl Failure {
    fn at(mut self, trail: &Trail<'_>) -> Self {
        self.path.get_or_insert_with(|| trail.to_string());
        self
    }

    pub(super) fn into_error(self) -> DecodeError {
        DecodeError {
            path: self.path.unwrap_or_default(),
            message: self.message,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: None,
            message: message.to_string(),
        }
    }
}

impl<'de> de::Deserializer<'de> for Node<'de, '_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let Self {
            value,
            trail,
            unknown,
        } = self;
        let result = match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Number(n) => {
                if let Some(u) = n.as_u64() {
                    visitor.visit_u64(u)
                } else if let Some(i) = n.as_i64() {
                    visitor.visit_i64(i)
                } else {
                    visitor.visit_f64(n.as_f64().unwrap_or(f64::NAN))
                }
            }
            Value::String(s) => visitor.visit_borrowed_str(s),
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                trail: &trail,
                unknown,
            }),
            Value::Object(map) => visitor.visit_map(Entries {
                entries: map.iter(),
                pending: None,
                trail: &trail,
                unknown,
            }),
        };
        result.map_err(|e| e.at(&trail))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.value.is_null() {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    /// A null where a string, list or struct is wanted is its empty value, as Go's decoder has it.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.value.is_null() {
            return visitor
                .visit_borrowed_str("")
                .map_err(|e: Failure| e.at(&self.trail));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_string(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.value.is_null() {
            return visitor
                .visit_map(de::value::MapDeserializer::new(std::iter::empty::<(
                    &str,
                    &str,
                )>()))
                .map_err(|e: Failure| e.at(&self.trail));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        if matches!(name, "Time" | "MicroTime") && self.value.is_null() {
            return visitor
                .visit_newtype_struct(NO_TIME.into_deserializer())
                .map_err(|e: Failure| e.at(&self.trail));
        }
        if name != "Quantity" {
            let trail = self.trail;
            return visitor
                .visit_newtype_struct(self)
                .map_err(|e: Failure| e.at(&trail));
        }
        let canonical = match self.value {
            Value::Null => Ok(Quantity::ZERO.to_string()),
            Value::String(s) => s.trim().parse::<Quantity>().map(|q| q.to_string()),
            Value::Number(n) => n.to_string().parse::<Quantity>().map(|q| q.to_string()),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                Err(crate::quantity::ParseQuantityError::Format)
            }
        };
        match canonical {
            Ok(text) => visitor.visit_newtype_struct(text.into_deserializer()),
            Err(error) => Err(de::Error::custom(error)),
        }
        .map_err(|e: Failure| e.at(&self.trail))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.value
            .deserialize_enum(name, variants, visitor)
            .map_err(|e| <Failure as de::Error>::custom(e).at(&self.trail))
    }

    /// What a type ignores, it does not know.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.unknown.add(&self.trail);
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        seq tuple tuple_struct identifier
    }
}

/// Refuses what has many more items than would ever be valid, before they are made.
fn check_size<T>(problems: &Problems, at: &Trail<'_>) -> Result<(), Failure> {
    if problems.is_affordable(size_of::<T>()) {
        return Ok(());
    }
    let error: Failure = de::Error::custom("the object has too many items");
    Err(error.at(at))
}

struct Items<'v, 'p> {
    items: std::iter::Enumerate<std::slice::Iter<'v, Value>>,
    trail: &'p Trail<'p>,
    unknown: &'p Problems,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Failure> {
        let Some((index, value)) = self.items.next() else {
            return Ok(None);
        };
        let node = Node {
            value,
            trail: Trail::Index(self.trail, index),
            unknown: self.unknown,
        };
        let at = Trail::Index(self.trail, index);
        check_size::<T::Value>(self.unknown, &at)?;
        seed.deserialize(node).map(Some).map_err(|e| e.at(&at))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'v, 'p> {
    entries: serde_json::map::Iter<'v>,
    pending: Option<(&'v str, &'v Value)>,
    trail: &'p Trail<'p>,
    unknown: &'p Problems,
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Failure> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.pending = Some((key, value));
        seed.deserialize(de::value::BorrowedStrDeserializer::new(key))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let Some((key, value)) = self.pending.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let node = Node {
            value,
            trail: Trail::Field(self.trail, key),
            unknown: self.unknown,
        };
        let at = Trail::Field(self.trail, key);
        check_size::<V::Value>(self.unknown, &at)?;
        seed.deserialize(node).map_err(|e| e.at(&at))
    }
}
