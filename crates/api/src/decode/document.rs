//! A JSON or YAML document as a value, and the keys that were in it twice.
//!
//! The last of two values stays, as in Go's decoder; that there were two is for `fieldValidation` to say.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::deserializer::Trail;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The value.
    pub value: Value,
    /// Paths of the keys that were there more than once, `spec.containers[0].name`, in the order met.
    pub repeated: Vec<String>,
}

impl Document {
    /// Reads JSON.
    ///
    /// # Errors
    /// What `serde_json` says of text that is not one JSON value.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let document = Self::read(&mut deserializer)?;
        deserializer.end()?;
        Ok(document)
    }

    /// Reads any format; it has to pass keys on that are there twice.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let repeated = RefCell::new(Vec::new());
        let value = Node {
            trail: &Trail::Top,
            repeated: &repeated,
        }
        .deserialize(deserializer)?;
        Ok(Self {
            value,
            repeated: repeated.into_inner(),
        })
    }
}

#[derive(Clone, Copy)]
struct Node<'p> {
    trail: &'p Trail<'p>,
    repeated: &'p RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Number::from_i128(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Number::from_u128(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let trail = Trail::Index(self.trail, list.len());
            let node = Node {
                trail: &trail,
                repeated: self.repeated,
            };
            match items.next_element_seed(node)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let trail = Trail::Field(self.trail, &key);
            let value = entries.next_value_seed(Node {
                trail: &trail,
                repeated: self.repeated,
            })?;
            if map.contains_key(&key) {
                let path = trail.to_string();
                let mut repeated = self.repeated.borrow_mut();
                if !repeated.contains(&path) {
                    repeated.push(path);
                }
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_of_two_stays_and_both_are_noticed() {
        let text =
            br#"{"a": 1, "b": {"c": [0, {"d": 1, "d": 2}], "c.e": null}, "a": 2.5, "a": -3}"#;
        let read = Document::from_json(text).unwrap();
        assert_eq!(
            read.value,
            json!({"a": -3, "b": {"c": [0, {"d": 2}], "c.e": null}})
        );
        assert_eq!(read.repeated, ["b.c[1].d", "a"]);
    }

    #[test]
    fn reads_what_serde_json_reads() {
        for text in [
            "null",
            "true",
            "18446744073709551615",
            "-9223372036854775808",
            "1e400",
            "1e3",
            r#""a\u00e4""#,
            "[[], {}]",
            "",
            "{",
            "[1,]",
            "{} {}",
            r#"{"a" 1}"#,
        ] {
            let theirs: Result<Value, _> = serde_json::from_str(text);
            match (Document::from_json(text.as_bytes()), theirs) {
                (Ok(ours), Ok(theirs)) => assert_eq!((ours.value, ours.repeated), (theirs, vec![])),
                (ours, theirs) => assert_eq!(ours.is_err(), theirs.is_err(), "{text}"),
            }
        }
    }
}
