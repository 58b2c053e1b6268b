//! Versions of custom resources that only a webhook can convert.
//!
//! What else works with versions ([`super::convert`]) does so at once, on one object. A webhook is asked here, before: what is
//! shown is brought to the request's version, what is changed to the stored one.

use std::borrow::Cow;
use std::sync::Arc;

use berth_api::field::FieldError;
use berth_api::status::ApiError;
use bytes::Bytes;
use serde_json::Value;

use super::Call;
use crate::heavy;
use crate::negotiate::Shape;
use crate::object::{self, Object, Part};
use crate::registry::{Converter, ConverterKey};
use crate::selector::Selector;
use crate::storage::{Memo, Stored};

/// Objects that are converted at a time to be selected, and bytes of them unless one has more.
const SOME: usize = 100;
const SOME_BYTES: usize = 1 << 20;

/// Whether the bytes of an object are of a version. The common order of fields is looked at only, so that nothing has to be
/// taken apart; what is written otherwise counts as of another version.
pub(super) fn speaks(bytes: &[u8], api_version: &str) -> bool {
    let rest = bytes.strip_prefix(b"{\"apiVersion\":\"");
    rest.and_then(|rest| rest.strip_prefix(api_version.as_bytes()))
        .is_some_and(|rest| rest.starts_with(b"\""))
}

fn version_of(object: &Value) -> &str {
    object["apiVersion"].as_str().unwrap_or_default()
}

impl Call {
    /// An object in the request's version.
    pub(super) async fn shown(&self, stored: Arc<Stored>) -> Result<Arc<Stored>, ApiError> {
        if self.row.converter.is_none() {
            return Ok(stored);
        }
        let mut all = self.shown_all(vec![stored]).await?;
        all.pop()
            .ok_or_else(|| ApiError::Internal("a converter has lost an object".to_owned()))
    }

    /// Objects in the request's version, in their order.
    pub(super) async fn shown_all(
        &self,
        items: Vec<Arc<Stored>>,
    ) -> Result<Vec<Arc<Stored>>, ApiError> {
        let Some(converter) = &self.row.converter else {
            return Ok(items);
        };
        // Metadata is that of all versions.
        if self.accepted.shape == Shape::Metadata {
            return Ok(items);
        }
        self.converted_all(converter.as_ref(), items).await
    }

    /// Those of some objects, as they are stored, that a selector takes. What it looks at in them is as the request's
    /// version has it, so a webhook is asked about all that the rest of the selector takes.
    pub(super) async fn selected(
        &self,
        selector: &Selector,
        items: Vec<Arc<Stored>>,
    ) -> Result<Vec<Arc<Stored>>, ApiError> {
        let Some(converter) = self.selecting_converter(selector) else {
            let mut items = items;
            items.retain(|item| selector.matches(item.as_ref()));
            return Ok(items);
        };
        let labels = self.cache().field_labels();
        let rest = selector.without_fields();
        let mut selected = Vec::new();
        let mut items = items.into_iter().filter(|item| rest.matches(item.as_ref()));
        loop {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while some.len() < SOME && bytes < SOME_BYTES {
                let Some(item) = items.next() else { break };
                bytes += item.bytes.len();
                some.push(item);
            }
            if some.is_empty() {
                return Ok(selected);
            }
            let shown = self.converted_all(converter, some.clone()).await?;
            let pairs = some.into_iter().zip(shown);
            let taken = pairs.filter(|(_, shown)| selector.matches(&shown.with_fields(&labels)));
            selected.extend(taken.map(|(item, _)| item));
        }
    }

    /// The converter that has to be asked before it is known what a selector takes.
    pub(super) fn selecting_converter(&self, selector: &Selector) -> Option<&dyn Converter> {
        let converter = self.row.converter.as_deref();
        converter.filter(|_| selector.looks_into_objects())
    }

    async fn converted_all(
        &self,
        converter: &dyn Converter,
        mut items: Vec<Arc<Stored>>,
    ) -> Result<Vec<Arc<Stored>>, ApiError> {
        let to = self.api_version();
        let key = |stored: &Stored| ConverterKey {
            namespace: Arc::clone(&stored.namespace),
            name: Arc::clone(&stored.name),
            revision: stored.revision,
            to: to.clone(),
        };
        let (mut places, mut objects) = (Vec::new(), Vec::new());
        for (at, item) in items.iter_mut().enumerate() {
            if item.corrupt || speaks(&item.bytes, &to) {
                continue;
            }
            if let Some(bytes) = converter.recall(&key(item)) {
                *item = Arc::new(with_bytes(item, bytes));
                continue;
            }
            let value = item.value()?;
            if version_of(&value) != to {
                places.push(at);
                objects.push(value);
            }
        }
        if objects.is_empty() {
            return Ok(items);
        }
        let converting = converter.convert(objects, &to, self.deadline());
        let converted = self.seats.away(heavy::away(converting)).await???;
        for (at, object) in places.into_iter().zip(converted) {
            let bytes = Bytes::from(object.to_string());
            converter.remember(key(&items[at]), bytes.clone());
            items[at] = Arc::new(with_bytes(&items[at], bytes));
        }
        Ok(items)
    }

    /// One object in another version.
    pub(super) async fn converted(&self, object: Value, to: &str) -> Result<Value, ApiError> {
        let Some(converter) = &self.row.converter else {
            return Ok(object);
        };
        if version_of(&object) == to {
            return Ok(object);
        }
        let converting = converter.convert(vec![object], to, self.deadline());
        let mut converted = self.seats.away(heavy::away(converting)).await???;
        converted
            .pop()
            .ok_or_else(|| ApiError::Internal("a converter has lost an object".to_owned()))
    }

    /// A stored object in the version that is stored now, and whether it was stored in another.
    pub(super) async fn current(&self, stored: &Stored) -> Result<(Value, bool), ApiError> {
        let value = stored.value()?;
        let to = self.row.storage_gvk.api_version();
        if self.row.convert.is_none() || version_of(&value) == to {
            return Ok((value, false));
        }
        Ok((self.to_version(value, &to).await?, true))
    }

    /// An object in a version, by whoever converts its kind.
    pub(super) async fn to_version(&self, mut object: Value, to: &str) -> Result<Value, ApiError> {
        if self.row.converter.is_some() {
            return self.converted(object, to).await;
        }
        super::convert(&self.row, &mut object, to)?;
        Ok(object)
    }

    /// A stored object in the request's version.
    pub(super) async fn spoken<'a>(&self, stored: &'a Value) -> Result<Cow<'a, Value>, ApiError> {
        let to = self.api_version();
        if self.row.convert.is_none() || version_of(stored) == to {
            return Ok(Cow::Borrowed(stored));
        }
        Ok(Cow::Owned(self.to_version(stored.clone(), &to).await?))
    }

    /// An object that was decoded in the request's version, in the stored one.
    pub(super) async fn settled(
        &self,
        object: Box<dyn Object>,
    ) -> Result<Box<dyn Object>, ApiError> {
        let from = self.api_version();
        let to = self.row.storage_gvk.api_version();
        if self.row.converter.is_none() || from == to {
            return Ok(object);
        }
        let mut value = object.to_value()?;
        value["apiVersion"] = Value::String(from);
        let value = self.converted(value, &to).await?;
        let mut unknown = Vec::new();
        let version = &self.row.storage_gvk.version;
        let mut object = self.row.strategy.decode(version, value, &mut unknown)?;
        object::prune(object.metadata_mut());
        Ok(object)
    }

    /// Everything wrong with a new object, or with replacing a part of another by its own, by the rules of the request's
    /// version: as on the stock server, what is stored is a matter of conversion. `old` is the object that is replaced, in
    /// the stored version.
    pub(super) async fn wrong(
        &self,
        new: &dyn Object,
        old: Option<(Part, &dyn Object, &Value)>,
    ) -> Result<Vec<FieldError>, ApiError> {
        let strategy = &self.row.strategy;
        let version = self.version();
        if !strategy.has_rules_of(version) {
            return match old {
                None => Ok(new.validate()),
                Some((part, old, _)) => new.validate_update(part, old),
            };
        }
        let mut objects = vec![new.to_value()?];
        objects.extend(old.map(|(_, _, old)| old.clone()));
        let to = self.api_version();
        if let Some(converter) = &self.row.converter {
            let converting = converter.convert(objects, &to, self.deadline());
            objects = self.seats.away(heavy::away(converting)).await???;
        } else {
            for object in &mut objects {
                super::convert(&self.row, object, &to)?;
            }
        }
        let read = |object: &Value| {
            let read = strategy.read_by_rules_of(version, object);
            read.map_err(|error| {
                ApiError::Internal(format!(
                    "{} {:?} as {to}: {error}",
                    self.row.kind,
                    new.name()
                ))
            })
        };
        match (objects.as_slice(), old) {
            ([new], None) => Ok(read(new)?.validate()),
            ([new, old], Some((part, _, _))) => {
                read(new)?.validate_update(part, read(old)?.as_ref())
            }
            _ => Err(ApiError::Internal(
                "a converter has lost an object".to_owned(),
            )),
        }
    }

    /// Until when a webhook may be waited for: a watch goes on longer than a request may take.
    fn deadline(&self) -> tokio::time::Instant {
        let now = tokio::time::Instant::now();
        if self.verb == crate::request::Verb::Watch {
            return now + self.api.limits.request_timeout;
        }
        self.deadline
    }
}

fn with_bytes(stored: &Stored, bytes: Bytes) -> Stored {
    Stored {
        bytes,
        memo: Memo::default(),
        ..stored.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::speaks;

    #[test]
    fn the_version_of_bytes() {
        let bytes = br#"{"apiVersion":"example.com/v1","kind":"Widget"}"#;
        assert!(speaks(bytes, "example.com/v1"));
        assert!(!speaks(bytes, "example.com/v"));
        assert!(!speaks(bytes, "example.com/v1beta1"));
        assert!(!speaks(
            br#"{"kind":"Widget","apiVersion":"example.com/v1"}"#,
            "example.com/v1"
        ));
    }
}
