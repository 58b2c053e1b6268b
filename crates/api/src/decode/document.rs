//! A JSON or YAML document as a value, and the keys that were in it twice.
//!
//! The last of two values stays, as in Go's decoder; that there were two is for `fieldValidation` to say.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::depth::{MAX_DEPTH, MAX_MANAGED_DEPTH, TooDeep};
use super::problems::Problems;
use super::trail::Trail;

/// What a value counts beside its text.
const NODE_BYTES: usize = 16;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The value.
    pub value: Value,
    /// Paths of the keys that were there more than once, `spec.containers[0].name`, in the order met, at most
    /// [`MAX_PROBLEMS`](super::MAX_PROBLEMS).
    pub repeated: Vec<String>,
    /// The same of a document in YAML, as its decoder says it: `line 9: key "foo" already set in map`.
    pub lines: Vec<String>,
}

impl Document {
    /// Reads JSON.
    ///
    /// # Errors
    /// What `serde_json` says of text that is not one JSON value.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        // JSON can't repeat itself.
        let document = Self::read(&mut deserializer, usize::MAX)?;
        deserializer.end()?;
        Ok(document)
    }

    /// Reads any format; it has to pass keys on that are there twice. `expanded` bounds what a format may expand
    /// to that can repeat itself, as YAML's aliases do: bytes of strings and keys, and 16 for every value.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
        expanded: usize,
    ) -> Result<Self, D::Error> {
        let repeated = Problems::default();
        let value = Node {
            trail: &Trail::Top,
            repeated: &repeated,
            left: &Cell::new(expanded),
            levels: MAX_DEPTH,
        }
        .deserialize(deserializer)?;
        Ok(Self {
            value,
            repeated: repeated.into_paths(),
            lines: Vec::new(),
        })
    }
}

#[derive(Clone, Copy)]
struct Node<'p> {
    trail: &'p Trail<'p>,
    repeated: &'p Problems,
    /// Bytes that the document may still expand to.
    left: &'p Cell<usize>,
    /// Levels that there may still be, this one included.
    levels: usize,
}

impl Node<'_> {
    fn spend<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let left = self
            .left
            .get()
            .checked_sub(bytes.saturating_add(NODE_BYTES));
        self.left.set(left.ok_or_else(|| {
            E::custom("the document expands to much more than its size; use fewer aliases")
        })?);
        Ok(())
    }

    fn descend<E: Error>(&self) -> Result<usize, E> {
        self.spend(0)?;
        self.levels.checked_sub(1).ok_or_else(|| E::custom(TooDeep))
    }
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

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.spend(0)?;
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

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(Value::String(value))
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let levels = self.descend()?;
        let mut list = Vec::new();
        loop {
            let trail = Trail::Index(self.trail, list.len());
            let node = Node {
                trail: &trail,
                levels,
                ..self
            };
            match items.next_element_seed(node)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let levels = self.descend()?;
        let mut map = Map::new();
        // Reported already, so that a key that is there a million times is looked at quickly.
        let mut reported: HashSet<String> = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.spend(key.len())?;
            let trail = Trail::Field(self.trail, &key);
            if map.contains_key(&key) && !self.repeated.is_full() && !reported.contains(&key) {
                self.repeated.add(&trail);
                reported.insert(key.clone());
            }
            let value = entries.next_value_seed(Node {
                trail: &trail,
                levels: match self.trail {
                    Trail::Field(Trail::Top, "metadata") if key == "managedFields" => {
                        MAX_MANAGED_DEPTH - 2
                    }
                    _ => levels,
                },
                ..self
            })?;
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
    fn what_is_stored_can_be_read_back() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Document::from_json(nested(MAX_DEPTH).as_bytes()).is_ok());
        let error = Document::from_json(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert!(
            error.to_string().starts_with("exceeded max depth"),
            "{error}"
        );
        for levels in [1_000, 1_000_000] {
            assert!(Document::from_json(nested(levels).as_bytes()).is_err());
        }
        let managed =
            |levels: usize| format!(r#"{{"metadata": {{"managedFields": {}}}}}"#, nested(levels));
        let most = MAX_MANAGED_DEPTH - 2;
        assert!(Document::from_json(managed(most).as_bytes()).is_ok());
        assert!(Document::from_json(managed(most + 1).as_bytes()).is_err());
        assert!(serde_json::from_str::<Value>(&format!("[[{}]]", managed(most))).is_ok());
    }

    #[test]
    fn problems_have_bounds() {
        let many: Vec<String> = (0..300_000).map(|n| format!("\"k{}\":1", n / 2)).collect();
        let long = "x".repeat(1 << 20);
        for (text, most) in [
            (format!("{{{}}}", many.join(",")), 100),
            (format!("{{{}}}", ["\"a\":1"; 400_000].join(",")), 1),
            (format!("{{\"{long}\":{{{}}}}}", many.join(",")), 1),
        ] {
            let read = Document::from_json(text.as_bytes()).unwrap();
            assert_eq!(read.repeated.len(), most);
            assert!(read.repeated.iter().map(String::len).sum::<usize>() < 40_000);
        }
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
