//! Kinds with a Rust type and no rules beyond those of all metadata.

use std::marker::PhantomData;

use berth_api::decode;
use berth_api::field::FieldError;
use berth_api::status::ApiError;
use berth_core::meta::{self, NameRule, Scope};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::typed::decode_error;
use super::{FieldLabel, RuleContext, Strategy};

/// The strategy of a kind that only has a type.
pub struct Plain<T> {
    scope: Scope,
    name_rule: NameRule,
    field_labels: &'static [FieldLabel],
    kind: PhantomData<fn() -> T>,
}

impl<T> Plain<T> {
    /// The strategy of `T`.
    #[must_use]
    pub fn new(scope: Scope, name_rule: NameRule, field_labels: &'static [FieldLabel]) -> Self {
        Self {
            scope,
            name_rule,
            field_labels,
            kind: PhantomData,
        }
    }
}

pub(super) fn metadata(object: &Value) -> ObjectMeta {
    decode::from_value(&object["metadata"]).unwrap_or_default()
}

impl<T: DeserializeOwned + Serialize> Strategy for Plain<T> {
    fn decode(
        &self,
        _version: &str,
        object: Value,
        unknown: &mut Vec<String>,
    ) -> Result<Value, ApiError> {
        let decoded = decode::decode::<T>(&object).map_err(|e| decode_error(&e))?;
        unknown.extend(decoded.unknown_fields);
        serde_json::to_value(&decoded.object).map_err(|e| ApiError::Internal(e.to_string()))
    }

    fn validate_create(&self, object: &Value, _ctx: RuleContext<'_>) -> Vec<FieldError> {
        meta::validate(&metadata(object), self.scope, self.name_rule)
    }

    fn validate_update(
        &self,
        object: &Value,
        old: &Value,
        _ctx: RuleContext<'_>,
    ) -> Vec<FieldError> {
        meta::validate_update(&metadata(object), &metadata(old))
    }

    fn validate_status(
        &self,
        object: &Value,
        old: &Value,
        ctx: RuleContext<'_>,
    ) -> Vec<FieldError> {
        self.validate_update(object, old, ctx)
    }

    fn field_labels(&self) -> &'static [FieldLabel] {
        self.field_labels
    }
}
