//! One object as it is held in memory.

use std::sync::Arc;

use berth_store::Revision;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::selector::Selectable;
use crate::strategy::FieldLabel;

/// An object in its storage version: the bytes that clients get, and what selectors look at.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Revision of the last change; the object's resourceVersion.
    pub revision: Revision,
    /// The object as JSON, resourceVersion included.
    pub bytes: Bytes,
    /// Labels, sorted by key.
    pub labels: Arc<[(Box<str>, Box<str>)]>,
    /// Values of the kind's field labels, in their order.
    pub fields: Arc<[Box<str>]>,
}

impl Stored {
    pub(super) fn parse(value: &[u8], revision: Revision, labels: &[FieldLabel]) -> Option<Self> {
        let mut object: Value = serde_json::from_slice(value).ok()?;
        set_resource_version(&mut object, revision);
        Some(Self::from_value(&object, revision, labels))
    }

    fn from_value(object: &Value, revision: Revision, field_labels: &[FieldLabel]) -> Self {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("")
        };
        let mut labels: Vec<(Box<str>, Box<str>)> = object
            .pointer("/metadata/labels")
            .and_then(Value::as_object)
            .map(|map| {
                map.iter()
                    .filter_map(|(k, v)| Some((k.as_str().into(), v.as_str()?.into())))
                    .collect()
            })
            .unwrap_or_default();
        labels.sort();
        let fields = field_labels
            .iter()
            .map(|field| match object.pointer(field.pointer) {
                None | Some(Value::Null) => field.absent.into(),
                Some(Value::String(s)) => s.as_str().into(),
                Some(other) => other.to_string().into(),
            })
            .collect();
        Self {
            namespace: text("/metadata/namespace").into(),
            name: text("/metadata/name").into(),
            revision,
            bytes: object.to_string().into(),
            labels: labels.into(),
            fields,
        }
    }

    /// The object as JSON.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// The object as a type; none when it does not fit, which validation on the way in rules out.
    #[must_use]
    pub fn decode<T: DeserializeOwned>(&self) -> Option<T> {
        match serde_json::from_slice(&self.bytes) {
            Ok(object) => Some(object),
            Err(error) => {
                tracing::warn!(namespace = %self.namespace, name = %self.name, %error, "a stored object does not fit its type");
                None
            }
        }
    }

    /// The same object with another resourceVersion, as a deletion is reported.
    #[must_use]
    pub fn at(&self, revision: Revision) -> Self {
        let mut object = self.value();
        set_resource_version(&mut object, revision);
        Self {
            revision,
            bytes: object.to_string().into(),
            ..self.clone()
        }
    }

    /// What selectors look at, without the object itself.
    pub(super) fn without_bytes(&self) -> Self {
        Self {
            bytes: Bytes::new(),
            ..self.clone()
        }
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels
            .binary_search_by(|(k, _)| k.as_ref().cmp(key))
            .ok()
            .map(|at| self.labels[at].1.as_ref())
    }
}

impl Selectable for Stored {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn label(&self, key: &str) -> Option<&str> {
        Self::label(self, key)
    }

    fn field(&self, at: usize) -> &str {
        self.fields.get(at).map_or("", |value| value)
    }
}

fn set_resource_version(object: &mut Value, revision: Revision) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert(
            "resourceVersion".to_owned(),
            Value::String(revision.to_string()),
        );
    }
}

/// The bytes that go into the store: the object without its resourceVersion.
pub(super) fn encode(object: &Value) -> Bytes {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
    }
    object.to_string().into()
}
