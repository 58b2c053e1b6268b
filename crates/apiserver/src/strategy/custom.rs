//! Objects of CustomResourceDefinitions: their rules are an OpenAPI schema.

mod schema;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_api::decode;
use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use berth_api::status::ApiError;
use berth_core::meta::{self, Scope};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::plain::metadata;
use super::{RuleContext, Strategy};

/// The rules of one CustomResourceDefinition.
pub struct Custom {
    scope: Scope,
    storage_version: String,
    /// `openAPIV3Schema` by version; a version without one takes anything.
    schemas: BTreeMap<String, Arc<Value>>,
    /// Whether `status` is a subresource.
    has_status: bool,
}

impl Custom {
    /// The rules that these schemas are.
    #[must_use]
    pub fn new(
        scope: Scope,
        storage_version: String,
        schemas: BTreeMap<String, Arc<Value>>,
        has_status: bool,
    ) -> Self {
        Self {
            scope,
            storage_version,
            schemas,
            has_status,
        }
    }

    fn body_errors(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(schema) = self.schemas.get(&self.storage_version) {
            schema::validate(object, schema, &FieldPath::default(), &mut errors);
        }
        errors
    }
}

fn put(object: &mut Value, field: &str, value: Option<&Value>) {
    if let Some(map) = object.as_object_mut() {
        match value {
            Some(value) => {
                map.insert(field.to_owned(), value.clone());
            }
            None => {
                map.remove(field);
            }
        }
    }
}

impl Strategy for Custom {
    fn decode(
        &self,
        version: &str,
        mut object: Value,
        unknown: &mut Vec<String>,
    ) -> Result<Value, ApiError> {
        let empty = Value::Object(serde_json::Map::new());
        let given = object.get("metadata").unwrap_or(&empty);
        let decoded = decode::decode::<ObjectMeta>(given)
            .map_err(|e| ApiError::BadRequest(format!("metadata.{e}")))?;
        unknown.extend(
            decoded
                .unknown_fields
                .iter()
                .map(|f| format!("metadata.{f}")),
        );
        object["metadata"] =
            serde_json::to_value(&decoded.object).map_err(|e| ApiError::Internal(e.to_string()))?;
        if let Some(schema) = self.schemas.get(version) {
            schema::prune(&mut object, schema, unknown);
            schema::default(&mut object, schema);
        }
        Ok(object)
    }

    fn prepare_create(&self, object: &mut Value, _ctx: RuleContext<'_>) {
        if self.has_status {
            put(object, "status", None);
        }
    }

    fn validate_create(&self, object: &Value, _ctx: RuleContext<'_>) -> Vec<FieldError> {
        let mut errors = meta::validate(&metadata(object), self.scope, names::dns1123_subdomain);
        errors.extend(self.body_errors(object));
        errors
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, _ctx: RuleContext<'_>) {
        if self.has_status {
            put(object, "status", old.get("status"));
        }
    }

    fn validate_update(
        &self,
        object: &Value,
        old: &Value,
        _ctx: RuleContext<'_>,
    ) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&metadata(object), &metadata(old));
        errors.extend(self.body_errors(object));
        errors
    }

    fn prepare_status(&self, object: &mut Value, old: &Value, _ctx: RuleContext<'_>) {
        let status = object.get("status").cloned();
        let version = object.pointer("/metadata/resourceVersion").cloned();
        let managed = object.pointer("/metadata/managedFields").cloned();
        object.clone_from(old);
        put(object, "status", status.as_ref());
        if let Some(metadata) = object.get_mut("metadata") {
            put(metadata, "resourceVersion", version.as_ref());
            put(metadata, "managedFields", managed.as_ref());
        }
    }

    fn validate_status(
        &self,
        object: &Value,
        old: &Value,
        ctx: RuleContext<'_>,
    ) -> Vec<FieldError> {
        self.validate_update(object, old, ctx)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}
