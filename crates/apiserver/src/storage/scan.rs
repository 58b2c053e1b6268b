//! What the server keeps of a stored object beside its bytes, read without making a value of all the rest.
//!
//! Every write comes through here once it is durable, and every object at the start. What is in an odd form (a key twice, a
//! resourceVersion inside, spaces) is left to the way over a value, which takes anything.

use std::fmt;

use berth_store::Revision;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::field_label::FieldLabel;

/// What was read.
#[derive(Debug, PartialEq)]
pub(super) struct Scanned {
    pub(super) bytes: Bytes,
    pub(super) labels: Vec<(Box<str>, Box<str>)>,
    /// None for what is absent.
    pub(super) fields: Vec<Option<Box<str>>>,
    pub(super) owners: Vec<Box<str>>,
    pub(super) uid: Box<str>,
    pub(super) deletion_timestamp: Option<Box<str>>,
}

/// Reads the object with this namespace and name, and puts its resourceVersion in. None: in an odd form, or not that object.
pub(super) fn scan(
    value: &[u8],
    (namespace, name): (&str, &str),
    revision: Revision,
    labels: &[FieldLabel],
) -> Option<Scanned> {
    let text = std::str::from_utf8(value).ok()?;
    // What counts in the place of an absent field is read beside it, after all others.
    let instead = labels.iter().enumerate();
    let instead: Vec<(usize, &str)> = instead
        .filter(|(_, label)| !label.instead.is_empty())
        .map(|(at, label)| (at, label.instead))
        .collect();
    let mut fields = vec![None; labels.len() + instead.len()];
    let mut wanted = Vec::with_capacity(fields.len());
    let pointers = labels.iter().map(|label| &*label.pointer);
    for (at, pointer) in pointers
        .chain(instead.iter().map(|(_, pointer)| *pointer))
        .enumerate()
    {
        let path = pointer.strip_prefix('/')?;
        if path.contains('~') {
            return None;
        }
        wanted.push((at, path));
    }
    let mut metadata = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Top {
        wanted,
        fields: &mut fields,
        metadata: &mut metadata,
    }
    .deserialize(&mut deserializer)
    .ok()?;
    deserializer.end().ok()?;
    let others = fields.split_off(labels.len());
    for ((at, _), other) in instead.into_iter().zip(others) {
        let field = fields.get_mut(at)?;
        if field.as_deref().is_none_or(str::is_empty) {
            *field = other;
        }
    }
    let raw: &str = metadata?.get();
    let metadata: Metadata<'_> = serde_json::from_str(raw).ok()?;
    if *metadata.name != *name || *metadata.namespace != *namespace {
        return None;
    }
    let uid = metadata.uid?.get();
    let before_uid = uid.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let head = text.get(..before_uid)?.strip_suffix("\"uid\":")?;
    let tail = text.get(head.len()..)?;
    let uid = uid.strip_prefix('"')?.strip_suffix('"')?;
    if uid.contains('\\') {
        return None;
    }
    Some(Scanned {
        bytes: with_version(head, tail, revision),
        labels: metadata.labels,
        fields,
        owners: metadata.owners,
        uid: uid.into(),
        deletion_timestamp: metadata.deletion_timestamp,
    })
}

fn with_version(head: &str, tail: &str, revision: Revision) -> Bytes {
    let version = format!("\"resourceVersion\":\"{revision}\",");
    let mut bytes = Vec::with_capacity(head.len() + version.len() + tail.len());
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(version.as_bytes());
    bytes.extend_from_slice(tail.as_bytes());
    Bytes::from(bytes)
}

/// The fields that are still to be found below a place: their numbers, and their paths from there.
type Wanted<'l> = Vec<(usize, &'l str)>;

/// Takes those that begin with this key; with an empty path when it is the whole of one.
fn below<'l>(wanted: &Wanted<'l>, key: &str) -> Wanted<'l> {
    let found = wanted.iter().filter_map(|(at, path)| {
        let rest = path.strip_prefix(key)?;
        let rest = match rest.strip_prefix('/') {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return None,
        };
        Some((*at, rest))
    });
    found.collect()
}

/// The whole object.
struct Top<'l, 'f, 'de> {
    wanted: Wanted<'l>,
    fields: &'f mut [Option<Box<str>>],
    metadata: &'f mut Option<&'de RawValue>,
}

impl<'de> DeserializeSeed<'de> for Top<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen: Vec<usize> = Vec::new();
        while let Some(key) = entries.next_key::<Key>()? {
            let wanted = below(&self.wanted, &key.0);
            if key.0 == "metadata" {
                if !wanted.is_empty() || self.metadata.is_some() {
                    return Err(A::Error::custom("odd"));
                }
                *self.metadata = Some(entries.next_value()?);
            } else {
                take(&mut entries, wanted, self.fields, &mut seen)?;
            }
        }
        Ok(())
    }
}

/// Reads the value of a key for what is wanted of it.
fn take<'de, A: MapAccess<'de>>(
    entries: &mut A,
    wanted: Wanted<'_>,
    fields: &mut [Option<Box<str>>],
    seen: &mut Vec<usize>,
) -> Result<(), A::Error> {
    if wanted.is_empty() {
        entries.next_value::<IgnoredAny>()?;
        return Ok(());
    }
    for (at, _) in &wanted {
        if seen.contains(at) {
            return Err(A::Error::custom("odd"));
        }
        seen.push(*at);
    }
    entries.next_value_seed(Place { wanted, fields })
}

/// A place in the object at or below which there are fields.
struct Place<'l, 'f> {
    wanted: Wanted<'l>,
    fields: &'f mut [Option<Box<str>>],
}

impl Place<'_, '_> {
    /// A scalar is the value of the fields that end here; there is none below it.
    fn scalar<E: Error>(self, text: &str) -> Result<(), E> {
        for (at, rest) in self.wanted {
            if rest.is_empty() {
                self.fields[at] = Some(text.into());
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.scalar(text)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(if value { "true" } else { "false" })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.scalar(&Value::from(value).to_string())
    }

    /// A list may be a field as a whole, or have one in an item.
    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom("odd"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        if self.wanted.iter().any(|(_, rest)| rest.is_empty()) {
            return Err(A::Error::custom("odd"));
        }
        let mut seen = Vec::new();
        while let Some(key) = entries.next_key::<Key>()? {
            let wanted = below(&self.wanted, &key.0);
            take(&mut entries, wanted, self.fields, &mut seen)?;
        }
        Ok(())
    }
}

/// A key, borrowed where it can be.
struct Key<'de>(std::borrow::Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(text.into()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(text.to_owned().into()))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The metadata. Another resourceVersion, and anything twice, is odd.
#[derive(Default)]
struct Metadata<'de> {
    name: Box<str>,
    namespace: Box<str>,
    uid: Option<&'de RawValue>,
    labels: Vec<(Box<str>, Box<str>)>,
    owners: Vec<Box<str>>,
    deletion_timestamp: Option<Box<str>>,
}

impl<'de> Deserialize<'de> for Metadata<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

const KEPT: [&str; 7] = [
    "name",
    "namespace",
    "uid",
    "labels",
    "ownerReferences",
    "deletionTimestamp",
    "resourceVersion",
];

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Metadata<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Metadata<'de>, A::Error> {
        let mut metadata = Metadata::default();
        let mut seen = [false; KEPT.len()];
        while let Some(key) = entries.next_key::<Key>()? {
            let Some(at) = KEPT.iter().position(|kept| *kept == key.0) else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(&mut seen[at], true) {
                return Err(A::Error::custom("odd"));
            }
            match KEPT[at] {
                "name" => metadata.name = entries.next_value()?,
                "namespace" => metadata.namespace = entries.next_value()?,
                "uid" => metadata.uid = Some(entries.next_value()?),
                "labels" => metadata.labels = entries.next_value::<Labels>()?.0,
                "ownerReferences" => {
                    let owners: Vec<Owner> = entries.next_value()?;
                    metadata.owners = owners.into_iter().filter_map(|owner| owner.uid).collect();
                }
                "deletionTimestamp" => metadata.deletion_timestamp = Some(entries.next_value()?),
                _ => return Err(A::Error::custom("odd")),
            }
        }
        Ok(metadata)
    }
}

#[derive(Deserialize)]
struct Owner {
    uid: Option<Box<str>>,
}

/// Labels, sorted by key.
struct Labels(Vec<(Box<str>, Box<str>)>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Labels, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = entries.next_entry()? {
                    pairs.push(pair);
                }
                pairs.sort();
                let twice = |pair: &[(Box<str>, Box<str>)]| pair[0].0 == pair[1].0;
                if pairs.windows(2).any(twice) {
                    return Err(A::Error::custom("odd"));
                }
                Ok(Labels(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
