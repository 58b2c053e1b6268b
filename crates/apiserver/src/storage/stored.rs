//! One object as it is held in memory.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use berth_store::Revision;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Unreadable;
use super::key;
use super::scan::{Scanned, scan};
use crate::field_label::FieldLabel;
use crate::selector::Selectable;

/// An object in its storage version: the bytes that clients get, and what selectors look at.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Storage name, e.g. `core/pods`.
    pub storage: Arc<str>,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Revision of the last change; the object's resourceVersion.
    pub revision: Revision,
    /// The object as JSON, resourceVersion included; what is in the store when that is no object.
    pub bytes: Bytes,
    /// Labels, sorted by key.
    pub labels: Arc<[(Box<str>, Box<str>)]>,
    /// Values of the kind's field labels, in their order.
    pub fields: Arc<[Box<str>]>,
    /// UIDs of its owners.
    pub owners: Arc<[Box<str>]>,
    /// Its UID.
    pub uid: Box<str>,
    /// When its deletion has begun, or was to be over; a time as it is written.
    pub deletion_timestamp: Option<Box<str>>,
    /// Whether `bytes` are not the object that the key names.
    pub corrupt: bool,
    /// Whether it would be encrypted in another way if it were written now.
    pub stale: bool,
    /// The object as the type that it was last wanted as.
    pub(crate) memo: Memo,
}

/// What an object was decoded to, where that is wanted by every request: an account, a namespace.
#[derive(Clone, Default)]
pub(crate) struct Memo(OnceLock<Arc<dyn Any + Send + Sync>>);

impl std::fmt::Debug for Memo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memo")
    }
}

impl Stored {
    /// Reads a value of the store. What is not an object with the name and namespace of its key is kept as corrupt.
    pub(super) fn parse(
        storage: &Arc<str>,
        key: &str,
        value: &Bytes,
        revision: Revision,
        labels: &[FieldLabel],
    ) -> Self {
        let (namespace, name) = key::name_of(key, storage);
        if let Some(scanned) = scan(value, (namespace, name), revision, labels) {
            return Self::from_scanned(storage, (namespace, name), revision, labels, scanned);
        }
        match Self::read(storage, key, value) {
            Ok(mut object) => {
                set_resource_version(&mut object, revision);
                Self::from_value(storage, &object, (namespace, name), revision, labels)
            }
            Err(error) => Self::corrupt(storage, key, value.clone(), revision, labels, &error),
        }
    }

    /// An object that cannot be read, for the reason that is given.
    pub(super) fn corrupt(
        storage: &Arc<str>,
        key: &str,
        bytes: Bytes,
        revision: Revision,
        labels: &[FieldLabel],
        error: &str,
    ) -> Self {
        tracing::error!(
            key,
            revision,
            error,
            "an object in the store cannot be read; it is left alone"
        );
        let (namespace, name) = key::name_of(key, storage);
        Self {
            storage: Arc::clone(storage),
            namespace: namespace.into(),
            name: name.into(),
            revision,
            bytes,
            labels: Arc::default(),
            fields: labels.iter().map(|label| (*label.absent).into()).collect(),
            owners: Arc::default(),
            uid: Box::default(),
            deletion_timestamp: None,
            corrupt: true,
            stale: false,
            memo: Memo::default(),
        }
    }

    /// An object that is in no store.
    pub(crate) fn made(storage: &str, object: &Value) -> Self {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let named = (text("namespace"), text("name"));
        Self::from_value(&storage.into(), object, named, 0, &[])
    }

    /// The object of a key.
    ///
    /// # Errors
    /// Why the value is not that.
    pub(super) fn read(storage: &str, key: &str, value: &[u8]) -> Result<Value, String> {
        let (namespace, name) = key::name_of(key, storage);
        let object = serde_json::from_slice::<Value>(value).map_err(|e| e.to_string())?;
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let named = text("/metadata/name") == Some(name)
            && text("/metadata/namespace").unwrap_or("") == namespace;
        if named {
            Ok(object)
        } else {
            Err("its metadata does not have the name and namespace of its key".to_owned())
        }
    }

    /// The same object, with the values of other field labels.
    pub(crate) fn with_fields(&self, field_labels: &[FieldLabel]) -> Self {
        let object = self.value().unwrap_or(Value::Null);
        Self {
            fields: fields_of(&object, field_labels),
            ..self.clone()
        }
    }

    fn from_scanned(
        storage: &Arc<str>,
        (namespace, name): (&str, &str),
        revision: Revision,
        field_labels: &[FieldLabel],
        scanned: Scanned,
    ) -> Self {
        let fields = scanned.fields.into_iter().zip(field_labels);
        Self {
            storage: Arc::clone(storage),
            namespace: namespace.into(),
            name: name.into(),
            revision,
            bytes: scanned.bytes,
            labels: scanned.labels.into(),
            fields: fields
                .map(|(value, label)| value.unwrap_or_else(|| (*label.absent).into()))
                .collect(),
            owners: scanned.owners.into(),
            uid: scanned.uid,
            deletion_timestamp: scanned.deletion_timestamp,
            corrupt: false,
            stale: false,
            memo: Memo::default(),
        }
    }

    fn from_value(
        storage: &Arc<str>,
        object: &Value,
        (namespace, name): (&str, &str),
        revision: Revision,
        field_labels: &[FieldLabel],
    ) -> Self {
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
        let fields = fields_of(object, field_labels);
        let owners = object
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|owner| owner["uid"].as_str().map(Box::from))
            .collect();
        let metadata = &object["metadata"];
        Self {
            storage: Arc::clone(storage),
            namespace: namespace.into(),
            name: name.into(),
            revision,
            bytes: object.to_string().into(),
            labels: labels.into(),
            fields,
            owners,
            uid: metadata["uid"].as_str().unwrap_or("").into(),
            deletion_timestamp: match &metadata["deletionTimestamp"] {
                Value::Null => None,
                Value::String(at) => Some(at.as_str().into()),
                odd => Some(odd.to_string().into()),
            },
            corrupt: false,
            stale: false,
            memo: Memo::default(),
        }
    }

    /// The object as JSON.
    ///
    /// # Errors
    /// [`Unreadable`] when it is corrupt, which was logged when it was read.
    pub fn value(&self) -> Result<Value, Unreadable> {
        self.decode()
    }

    /// The object as a type.
    ///
    /// # Errors
    /// [`Unreadable`] when it does not fit, which is logged with the reason.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Unreadable> {
        if self.corrupt {
            return Err(self.unreadable());
        }
        serde_json::from_slice(&self.bytes).map_err(|error| self.report(&error.to_string()))
    }

    /// [`Stored::decode`] of an object that many ask for: done once for each of its changes.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn shared<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
    ) -> Result<Arc<T>, Unreadable> {
        let known = self.memo.0.get().cloned();
        if let Some(Ok(known)) = known.map(Arc::downcast) {
            return Ok(known);
        }
        let decoded = Arc::new(self.decode::<T>()?);
        let _ = self.memo.0.set(Arc::clone(&decoded) as _);
        Ok(decoded)
    }

    /// Logs why the object cannot be used.
    pub(crate) fn report(&self, error: &str) -> Unreadable {
        tracing::error!(
            storage = %self.storage,
            namespace = %self.namespace,
            name = %self.name,
            error,
            "a stored object does not fit its type; it is left alone"
        );
        self.unreadable()
    }

    /// The error that names this object.
    pub(crate) fn unreadable(&self) -> Unreadable {
        Unreadable {
            storage: self.storage.to_string(),
            namespace: self.namespace.to_string(),
            name: self.name.to_string(),
        }
    }

    /// The same object with another resourceVersion, as a deletion is reported.
    #[must_use]
    pub fn at(&self, revision: Revision) -> Self {
        let bytes = match self.value() {
            Ok(mut object) => {
                set_resource_version(&mut object, revision);
                object.to_string().into()
            }
            Err(_) => self.bytes.clone(),
        };
        Self {
            revision,
            bytes,
            memo: Memo::default(),
            ..self.clone()
        }
    }

    /// What selectors look at, without the object itself.
    pub(super) fn without_bytes(&self) -> Self {
        Self {
            bytes: Bytes::new(),
            memo: Memo::default(),
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
    fn is_corrupt(&self) -> bool {
        self.corrupt
    }

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
pub(super) fn encode(mut object: Value) -> Bytes {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
    }
    object.to_string().into()
}

fn fields_of(object: &Value, field_labels: &[FieldLabel]) -> Arc<[Box<str>]> {
    field_labels
        .iter()
        .map(|field| field.value(object))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &'static str) -> Stored {
        let storage: Arc<str> = "core/pods".into();
        let value = Bytes::from_static(value.as_bytes());
        Stored::parse(&storage, "/registry/core/pods/n/p", &value, 7, &[])
    }

    #[test]
    fn what_is_not_the_object_of_its_key_is_kept_as_corrupt() {
        for value in [
            "",
            "{",
            "3",
            "{}",
            r#"{"metadata": {"name": "q", "namespace": "n"}}"#,
            r#"{"metadata": {"name": "p", "namespace": "m"}}"#,
            r#"{"metadata": {"name": "p"}}"#,
        ] {
            let stored = parsed(value);
            assert!(stored.corrupt, "{value}");
            assert_eq!((&*stored.namespace, &*stored.name), ("n", "p"));
            assert!(stored.value().is_err());
            assert_eq!(stored.at(8).revision, 8);
        }
        let good = parsed(
            r#"{"metadata": {"name": "p", "namespace": "n", "ownerReferences": [{"uid": "u"}]}}"#,
        );
        assert!(!good.corrupt);
        assert_eq!(good.value().unwrap()["metadata"]["resourceVersion"], "7");
        assert_eq!(good.owners.iter().map(|o| &**o).collect::<Vec<_>>(), ["u"]);
        assert_eq!((&*good.uid, good.deletion_timestamp), ("", None));
        let ending = parsed(
            r#"{"metadata": {"name": "p", "namespace": "n", "uid": "u", "deletionTimestamp": 3}}"#,
        );
        let ends = ending.deletion_timestamp.as_deref();
        assert_eq!((&*ending.uid, ends), ("u", Some("3")));
    }

    #[test]
    fn an_object_is_the_same_whichever_way_it_is_read() {
        let labels = [
            FieldLabel::new("spec.nodeName", "/spec/nodeName"),
            FieldLabel::or("spec.hostNetwork", "/spec/hostNetwork", "false"),
            FieldLabel::new("spec.count", "/spec/count"),
            FieldLabel::new("status.phase", "/status/phase"),
            FieldLabel::new("reason", "/reason"),
            FieldLabel::or_at("source", "/source/component", "/reason"),
        ];
        let storage: Arc<str> = "core/pods".into();
        let metadata = r#""labels":{"b":"2","a":"1\n"},"managedFields":[{"fieldsV1":{"f:a":{}}}],"name":"p","namespace":"n""#;
        for (rest, fast) in [
            (
                r#","uid":"u"},"reason":"r","spec":{"count":3,"hostNetwork":true,"nodeName":"a\"b"}"#,
                true,
            ),
            (
                r#","ownerReferences":[{"uid":"o"},{"kind":"x"}],"uid":"u"},"spec":{"nodeName":null}"#,
                true,
            ),
            (
                r#","deletionTimestamp":"t","uid":"u"},"spec":{"count":1.5},"status":3"#,
                true,
            ),
            (
                r#","uid":"u"},"status":{"phase":"Running","other":[{"phase":"x"}]}"#,
                true,
            ),
            (
                r#","uid":"u"},"reason":"r","source":{"component":""}"#,
                true,
            ),
            (
                r#","uid":"u"},"reason":"r","source":{"component":"c"}"#,
                true,
            ),
            (r#","uid":"u"},"spec":[],"status":{}"#, false),
            (r#","uid":"u"},"reason":{"a":1}"#, false),
            (r#","resourceVersion":"3","uid":"u"}"#, false),
            (r#","uid": "u"}"#, false),
            (r#","uid":"u","uid":"v"}"#, false),
            (r#","uid":"u","labels":{"c":"3"}}"#, false),
            (r#"}"#, false),
        ] {
            let text =
                format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{{metadata}{rest}}}"#);
            let value = Bytes::from(text.clone());
            let scanned = scan(&value, ("n", "p"), 7, &labels);
            assert_eq!(scanned.is_some(), fast, "{text}");
            let key = "/registry/core/pods/n/p";
            let one = Stored::parse(&storage, key, &value, 7, &labels);
            let mut object = Stored::read(&storage, key, &value).unwrap();
            set_resource_version(&mut object, 7);
            let other = Stored::from_value(&storage, &object, ("n", "p"), 7, &labels);
            assert_eq!(one.value().unwrap(), other.value().unwrap());
            assert_eq!(
                format!(
                    "{:?}",
                    Stored {
                        bytes: Bytes::new(),
                        ..one
                    }
                ),
                format!(
                    "{:?}",
                    Stored {
                        bytes: Bytes::new(),
                        ..other
                    }
                ),
            );
        }
    }
}
