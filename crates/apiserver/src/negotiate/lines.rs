//! The lines of a YAML document with keys that are there twice.

use std::collections::HashSet;
use std::fmt;

use berth_api::decode::MAX_PROBLEMS;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Bytes of a key that are shown.
const MAX_KEY_CHARS: usize = 256;

/// What the stock decoder says of them, `line 9: key "foo" already set in map`, in the order in which it does: a value is
/// read before its key is looked for, and the line is where the value begins.
#[derive(Debug, Default)]
pub(super) struct RepeatedLines(pub(super) Vec<String>);

impl RepeatedLines {
    fn take(&mut self, more: Self) {
        let room = MAX_PROBLEMS.saturating_sub(self.0.len());
        self.0.extend(more.0.into_iter().take(room));
    }
}

impl<'de> Deserialize<'de> for RepeatedLines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lines)
    }
}

struct Lines;

impl<'de> Visitor<'de> for Lines {
    type Value = RepeatedLines;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<RepeatedLines, E> {
        Ok(RepeatedLines::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<RepeatedLines, E> {
        Ok(RepeatedLines::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<RepeatedLines, E> {
        Ok(RepeatedLines::default())
    }

    fn visit_i128<E>(self, _: i128) -> Result<RepeatedLines, E> {
        Ok(RepeatedLines::default())
    }

    fn visit_u128<E>(self, _: u128) -> Result<RepeatedLines, E> {
        Ok(RepeatedLines::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<RepeatedLines, E> {
        Ok(RepeatedLines::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<RepeatedLines, E> {
        Ok(RepeatedLines::default())
    }

    fn visit_none<E>(self) -> Result<RepeatedLines, E> {
        Ok(RepeatedLines::default())
    }

    fn visit_unit<E>(self) -> Result<RepeatedLines, E> {
        Ok(RepeatedLines::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RepeatedLines, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RepeatedLines, A::Error> {
        let mut all = RepeatedLines::default();
        while let Some(item) = items.next_element()? {
            all.take(item);
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RepeatedLines, A::Error> {
        let mut all = RepeatedLines::default();
        let mut seen: HashSet<String> = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if all.0.len() >= MAX_PROBLEMS {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Spanned<RepeatedLines> = entries.next_value()?;
            all.take(value.value);
            if seen.contains(&key) {
                let line = value.referenced.line();
                let key: String = key.chars().take(MAX_KEY_CHARS).collect();
                let said = format!("line {line}: key {key:?} already set in map");
                all.take(RepeatedLines(vec![said]));
            } else {
                seen.insert(key);
            }
        }
        Ok(all)
    }
}
