//! What a kind adds to the generic verbs: decoding, defaults, preparation, validation.

pub mod custom;
pub mod definition;
pub mod event;
pub mod plain;
pub mod runtime_class;
pub mod typed;

use berth_api::field::FieldError;
use berth_api::status::ApiError;
use serde_json::Value;

/// What the rules of a kind may ask about the request.
#[derive(Clone, Copy, Debug)]
pub struct RuleContext<'a> {
    /// The feature gates of this server.
    pub gates: &'a berth_core::gates::FeatureGates,
}

/// The rules of one kind. Objects are in the storage version, except in `decode`.
pub trait Strategy: Send + Sync {
    /// Checks an object in `version` against its type: wrong types are errors, fields that the
    /// type lacks are removed and their paths are pushed to `unknown`. Fills in defaults.
    ///
    /// # Errors
    /// `BadRequest` for what does not fit the type.
    fn decode(
        &self,
        version: &str,
        object: Value,
        unknown: &mut Vec<String>,
    ) -> Result<Value, ApiError>;

    /// Resets what a client may not set at creation.
    fn prepare_create(&self, _object: &mut Value, _ctx: RuleContext<'_>) {}

    /// Checks a new object.
    fn validate_create(&self, _object: &Value, _ctx: RuleContext<'_>) -> Vec<FieldError> {
        Vec::new()
    }

    /// Resets what an update may not change.
    fn prepare_update(&self, _object: &mut Value, _old: &Value, _ctx: RuleContext<'_>) {}

    /// Checks a changed object.
    fn validate_update(
        &self,
        _object: &Value,
        _old: &Value,
        _ctx: RuleContext<'_>,
    ) -> Vec<FieldError> {
        Vec::new()
    }

    /// Resets what an update of `status` may not change.
    fn prepare_status(&self, _object: &mut Value, _old: &Value, _ctx: RuleContext<'_>) {}

    /// Checks a changed status.
    fn validate_status(
        &self,
        _object: &Value,
        _old: &Value,
        _ctx: RuleContext<'_>,
    ) -> Vec<FieldError> {
        Vec::new()
    }

    /// Whether `metadata.generation` counts changes outside of `status`.
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether a PUT to a name that does not exist creates it.
    fn create_on_update(&self) -> bool {
        false
    }

    /// Whether a PUT without a resourceVersion is accepted.
    fn unconditional_update(&self) -> bool {
        true
    }

    /// Field labels that selectors may name, beside `metadata.name` and `metadata.namespace`, with
    /// where in the object (a JSON pointer) each value is and what an absent one counts as.
    fn field_labels(&self) -> &'static [FieldLabel] {
        &[]
    }
}

/// A field label, its place in the object and its value when absent.
#[derive(Clone, Copy, Debug)]
pub struct FieldLabel {
    /// As selectors name it, e.g. `spec.nodeName`.
    pub label: &'static str,
    /// JSON pointer into the object in its storage version.
    pub pointer: &'static str,
    /// Value when absent.
    pub absent: &'static str,
}
