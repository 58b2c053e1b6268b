//! Label and field selectors.

pub(crate) mod field;
pub(crate) mod label;

use berth_api::status::ApiError;

use crate::storage::{ResourceCache, Stored};

/// What a list, watch or deletecollection takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    namespace: Option<String>,
    labels: Vec<label::Requirement>,
    fields: Vec<field::Requirement>,
}

impl Selector {
    /// Reads both selectors for the objects of a cache.
    pub(crate) fn parse(
        namespace: &str,
        label_selector: &str,
        field_selector: &str,
        cache: &ResourceCache,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            labels: label::parse(label_selector)?,
            fields: field::parse(field_selector, cache.field_labels())?,
        })
    }

    /// Whether an object is taken.
    /// One that is not what its key says is never taken; it was reported when it was read.
    pub(crate) fn matches(&self, object: &Stored) -> bool {
        !object.corrupt
            && self
                .namespace
                .as_deref()
                .is_none_or(|namespace| namespace == object.namespace.as_ref())
            && self
                .labels
                .iter()
                .all(|r| r.matches(|key| object.label(key)))
            && self.fields.iter().all(|r| r.matches(object))
    }

    /// Whether selectors (beside the namespace) leave anything out.
    pub(crate) fn is_filtered(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }
}
