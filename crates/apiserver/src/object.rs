//! Decoded objects: what every stage of a write takes.
//!
//! A body becomes an [`Object`] once (`Strategy::decode`), a stored object becomes one by its row's strategy
//! (`Strategy::read`). Defaulting, admission, preparation, validation and the escalation check take the object; JSON is
//! made from it once, for managedFields and the store. Nothing that could not be decoded gets to any of them.

use std::any::{Any, type_name};

use berth_api::field::FieldError;
use berth_api::status::ApiError;
use berth_core::gates::FeatureGates;
use berth_rules::Rules;
use berth_rules::kinds::certificate_signing_request::APPROVAL;
use bytes::Bytes;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Bytes that the JSON of most objects does not exceed.
const USUAL_BYTES: usize = 4096;

/// Which part of an object an update may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status.
    Main,
    /// The status.
    Status,
    /// namespaces/finalize: `spec.finalizers`.
    Finalize,
    /// pods/ephemeralcontainers.
    EphemeralContainers,
    /// pods/resize.
    Resize,
    /// `spec.replicas` of what has the subresource `scale`.
    Scale,
    /// certificatesigningrequests/approval: conditions that approve or deny.
    Approval,
}

impl Part {
    /// Name of the subresource; empty for the object itself.
    pub(crate) fn subresource(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Finalize => "finalize",
            Self::EphemeralContainers => berth_rules::pod::EPHEMERAL_CONTAINERS,
            Self::Resize => berth_rules::pod::RESIZE,
            Self::Scale => "scale",
            Self::Approval => APPROVAL,
        }
    }
}

/// An object of any kind, in its storage version, with the rules of its kind.
pub(crate) trait Object: Any + Send + Sync {
    /// Its metadata.
    fn metadata(&self) -> &ObjectMeta;

    /// Its metadata, to be changed.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;

    /// As JSON.
    fn to_value(&self) -> Result<Value, ApiError>;

    /// As JSON text.
    fn to_bytes(&self) -> Result<Bytes, ApiError> {
        Ok(Bytes::from(self.to_value()?.to_string()))
    }

    /// A copy.
    fn to_boxed(&self) -> Box<dyn Object>;

    /// Resets what a client may not set at creation, sets what is derived.
    fn prepare_create(&mut self, gates: &FeatureGates);

    /// Restores from `old` what an update of a part may not change.
    fn prepare_update(
        &mut self,
        part: Part,
        old: &dyn Object,
        gates: &FeatureGates,
    ) -> Result<(), ApiError>;

    /// Everything wrong with a new object.
    fn validate(&self) -> Vec<FieldError>;

    /// Everything wrong with replacing a part of `old` by this one's.
    fn validate_update(&self, part: Part, old: &dyn Object) -> Result<Vec<FieldError>, ApiError>;
}

impl dyn Object {
    /// The object as the type that it is expected to have.
    ///
    /// # Errors
    /// `Internal` for an object of another type: some row has a strategy that is not its own.
    pub(crate) fn typed<T: Any>(&self) -> Result<&T, ApiError> {
        let any: &dyn Any = self;
        any.downcast_ref().ok_or_else(mismatch::<T>)
    }

    /// [`Self::typed`], to be changed.
    pub(crate) fn typed_mut<T: Any>(&mut self) -> Result<&mut T, ApiError> {
        let any: &mut dyn Any = self;
        any.downcast_mut().ok_or_else(mismatch::<T>)
    }

    /// `metadata.name`; empty when there is none.
    pub(crate) fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// `metadata.uid`; empty when there is none.
    pub(crate) fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    /// `metadata.finalizers`.
    pub(crate) fn finalizers(&self) -> &[String] {
        self.metadata().finalizers.as_deref().unwrap_or_default()
    }

    /// Whether its deletion has begun.
    pub(crate) fn is_terminating(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
}

fn mismatch<T>() -> ApiError {
    ApiError::Internal(format!("an object is no {}", type_name::<T>()))
}

/// A type with rules, of which objects are made.
pub(crate) trait Typed:
    Rules
    + Metadata<Ty = ObjectMeta>
    + Clone
    + PartialEq
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<T> Typed for T where
    T: Rules
        + Metadata<Ty = ObjectMeta>
        + Clone
        + PartialEq
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

impl<T: Typed> Object for T {
    fn metadata(&self) -> &ObjectMeta {
        Metadata::metadata(self)
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        Metadata::metadata_mut(self)
    }

    fn to_value(&self) -> Result<Value, ApiError> {
        serde_json::to_value(self).map_err(|e| ApiError::Internal(e.to_string()))
    }

    fn to_bytes(&self) -> Result<Bytes, ApiError> {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        serde_json::to_writer(&mut bytes, self).map_err(|e| ApiError::Internal(e.to_string()))?;
        Ok(Bytes::from(bytes))
    }

    fn to_boxed(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }

    fn prepare_create(&mut self, gates: &FeatureGates) {
        Rules::prepare_create(self, gates);
    }

    fn prepare_update(
        &mut self,
        part: Part,
        old: &dyn Object,
        gates: &FeatureGates,
    ) -> Result<(), ApiError> {
        let old: &Self = old.typed()?;
        match part {
            Part::Main | Part::Scale => Rules::prepare_update(self, old, gates),
            Part::Status => Rules::prepare_status(self, old),
            Part::Finalize | Part::EphemeralContainers | Part::Resize | Part::Approval => {
                Rules::prepare_subresource(self, part.subresource(), old)
                    .map_err(|e| ApiError::Internal(e.to_string()))?;
            }
        }
        Ok(())
    }

    fn validate(&self) -> Vec<FieldError> {
        Rules::validate(self)
    }

    fn validate_update(&self, part: Part, old: &dyn Object) -> Result<Vec<FieldError>, ApiError> {
        let old: &Self = old.typed()?;
        match part {
            Part::Main | Part::Scale => Ok(Rules::validate_update(self, old)),
            Part::Status => Ok(Rules::validate_status(self, old)),
            Part::Finalize | Part::EphemeralContainers | Part::Resize | Part::Approval => {
                Rules::validate_subresource(self, part.subresource(), old)
                    .map_err(|e| ApiError::Internal(e.to_string()))
            }
        }
    }
}

/// Removes empty maps and lists from the metadata, which count as absent.
pub(crate) fn prune(metadata: &mut ObjectMeta) {
    fn drop_empty<T>(field: &mut Option<T>, is_empty: impl Fn(&T) -> bool) {
        if field.as_ref().is_some_and(is_empty) {
            *field = None;
        }
    }
    drop_empty(&mut metadata.labels, std::collections::BTreeMap::is_empty);
    drop_empty(
        &mut metadata.annotations,
        std::collections::BTreeMap::is_empty,
    );
    drop_empty(&mut metadata.finalizers, Vec::is_empty);
    drop_empty(&mut metadata.owner_references, Vec::is_empty);
    drop_empty(&mut metadata.managed_fields, Vec::is_empty);
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};

    #[test]
    fn an_object_of_another_kind_is_an_error_and_never_valid() {
        let gates = FeatureGates::default();
        let pod: Box<dyn Object> = Box::new(<Pod as Default>::default());
        let mut map: Box<dyn Object> = Box::new(<ConfigMap as Default>::default());
        for part in [Part::Main, Part::Status, Part::Resize] {
            assert!(map.prepare_update(part, pod.as_ref(), &gates).is_err());
            assert!(map.validate_update(part, pod.as_ref()).is_err());
        }
        let other = map.to_boxed();
        assert!(
            map.prepare_update(Part::Resize, other.as_ref(), &gates)
                .is_err()
        );
        assert!(map.typed::<Pod>().is_err());
        assert!(map.typed::<ConfigMap>().is_ok());
    }
}
