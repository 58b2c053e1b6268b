//! In which order fields that are unknown or there twice stand in a JSON document.
//!
//! The value of a document has no order any more, and what is unknown is found in the value. A stock API server names both
//! as it meets them, so a document with more than one misfit is walked once more, as far as it leads to them.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::ops::Bound;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A field that a strict decoder refuses, by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The type does not have it.
    Unknown(String),
    /// It is there more than once.
    Repeated(String),
}

/// Brings the paths of unknown and repeated fields into the order in which a JSON document has them. What is repeated
/// within an unknown field is left out, for nobody looks into that. The order of what is not found, and of a document
/// that is no JSON, is the given one, repeated fields first.
#[must_use]
pub fn in_order(json: &[u8], repeated: &[String], unknown: &[String]) -> Vec<Misfit> {
    let search = Search {
        repeated: repeated.iter().map(String::as_str).collect(),
        unknown: unknown.iter().map(String::as_str).collect(),
        at: RefCell::default(),
        found: RefCell::default(),
    };
    // Up to an error, which was there when the document was decoded, too.
    let _ = Node(&search).deserialize(&mut serde_json::Deserializer::from_slice(json));
    let found = search.found.into_inner();
    let rest = |paths: &[String], of: fn(String) -> Misfit| {
        let all = paths.iter().cloned().map(of);
        all.filter(|misfit| !found.contains(misfit))
            .collect::<Vec<_>>()
    };
    let within_unknown = |path: &str| {
        unknown.iter().any(|field| {
            let rest = path.strip_prefix(field.as_str());
            rest.is_some_and(|rest| rest.starts_with(['.', '[']))
        })
    };
    let mut left = rest(repeated, Misfit::Repeated);
    left.retain(|misfit| !matches!(misfit, Misfit::Repeated(path) if within_unknown(path)));
    let unplaced = rest(unknown, Misfit::Unknown);
    found.into_iter().chain(left).chain(unplaced).collect()
}

struct Search<'a> {
    repeated: BTreeSet<&'a str>,
    unknown: BTreeSet<&'a str>,
    /// The path of the value that is read.
    at: RefCell<String>,
    found: RefCell<Vec<Misfit>>,
}

impl Search<'_> {
    /// Whether a path begins like this.
    fn leads_on(&self, at: &str) -> bool {
        [&self.repeated, &self.unknown].iter().any(|paths| {
            let next = paths
                .range::<str, _>((Bound::Included(at), Bound::Unbounded))
                .next();
            next.is_some_and(|path| path.starts_with(at))
        })
    }

    fn find(&self, misfit: Misfit) {
        let mut found = self.found.borrow_mut();
        if !found.contains(&misfit) {
            found.push(misfit);
        }
    }
}

#[derive(Clone, Copy)]
struct Node<'s, 'a>(&'s Search<'a>);

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let length = self.0.at.borrow().len();
        let mut index = 0_usize;
        loop {
            {
                let mut at = self.0.at.borrow_mut();
                at.truncate(length);
                at.push_str(&format!("[{index}]"));
            }
            let leads_on = self.0.leads_on(&self.0.at.borrow());
            let more = if leads_on {
                items.next_element_seed(self)?.is_some()
            } else {
                items.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                self.0.at.borrow_mut().truncate(length);
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let length = self.0.at.borrow().len();
        let mut seen: HashSet<String> = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            {
                let mut at = self.0.at.borrow_mut();
                at.truncate(length);
                if length > 0 {
                    at.push('.');
                }
                at.push_str(&key);
            }
            let (unknown, repeated, leads_on) = {
                let at = self.0.at.borrow();
                let unknown = self.0.unknown.contains(at.as_str());
                let repeated = self.0.repeated.contains(at.as_str());
                if unknown {
                    self.0.find(Misfit::Unknown(at.clone()));
                } else if repeated && !seen.insert(key) {
                    self.0.find(Misfit::Repeated(at.clone()));
                }
                (unknown, repeated, self.0.leads_on(&at))
            };
            if (leads_on || repeated) && !unknown {
                entries.next_value_seed(self)?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        self.0.at.borrow_mut().truncate(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str, repeated: &[&str], unknown: &[&str]) -> Vec<String> {
        let owned = |paths: &[&str]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
        let misfits = in_order(json.as_bytes(), &owned(repeated), &owned(unknown));
        let misfits = misfits.into_iter().map(|misfit| match misfit {
            Misfit::Unknown(path) => format!("unknown {path}"),
            Misfit::Repeated(path) => format!("repeated {path}"),
        });
        misfits.collect()
    }

    #[test]
    fn misfits_stand_as_the_document_has_them() {
        let json = r#"{"z": 1, "spec": {"unknown": "x", "replicas": 2, "replicas": 3, "c": [{}, {"b": 1, "a": 2, "a": 3}]}, "a": 0}"#;
        let got = shown(
            json,
            &["spec.replicas", "spec.c[1].a"],
            &["a", "spec.c[1].b", "spec.unknown", "z"],
        );
        assert_eq!(
            got,
            [
                "unknown z",
                "unknown spec.unknown",
                "repeated spec.replicas",
                "unknown spec.c[1].b",
                "repeated spec.c[1].a",
                "unknown a"
            ]
        );
    }

    #[test]
    fn what_is_repeated_in_an_unknown_field_is_nobodys_business() {
        let json = r#"{"b": {"c": 1, "c": 2}, "a": 1}"#;
        assert_eq!(
            shown(json, &["b.c"], &["a", "b"]),
            ["unknown b", "unknown a"]
        );
    }

    #[test]
    fn what_is_not_found_is_kept() {
        for json in ["", "a: 1\na: 2\n", "[]", "{\"a\": "] {
            let got = shown(json, &["a"], &["x..."]);
            assert_eq!(got, ["repeated a", "unknown x..."], "{json}");
        }
    }

    #[test]
    fn keys_that_lead_nowhere_are_passed_over_quickly() {
        let long = "x".repeat(1 << 20);
        let many = vec![r#""k":{"k":1}"#; 200_000].join(",");
        let json = format!(r#"{{"{long}":{{{many}}},"b":1,"a":2,"a":3}}"#);
        let begun = std::time::Instant::now();
        assert_eq!(shown(&json, &["a"], &["b"]), ["unknown b", "repeated a"]);
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    }
}
