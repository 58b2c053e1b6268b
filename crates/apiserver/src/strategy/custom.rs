//! Objects of CustomResourceDefinitions: their rules are an OpenAPI schema.

mod schema;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_api::decode;
use berth_api::field::FieldError;
use berth_api::names;
use berth_api::status::ApiError;
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};
use berth_core::usage;
use berth_rules::rbac::escalation::Grant;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::{Cluster, Ending, ScaleNumbers, Strategy, Write};
use crate::field_label::FieldLabel;
use crate::object::{Object, Part};
use crate::printer::Printer;
use crate::registry::Gvk;
use crate::storage::{Beside, Storage};

/// What the objects of one definition have in common.
struct Definition {
    scope: Scope,
    /// Schema of the storage version; none takes anything.
    schema: Option<Arc<Value>>,
    /// Whether `status` is a subresource.
    has_status: bool,
}

/// The rules of one CustomResourceDefinition.
pub(crate) struct Custom {
    definition: Arc<Definition>,
    /// `apiVersion` of what is stored.
    api_version: String,
    /// `openAPIV3Schema` by version; a version without one takes anything.
    schemas: BTreeMap<String, Arc<Value>>,
    quota_names: Vec<String>,
}

impl Custom {
    /// The rules that these schemas are; `stored` is what is stored, `plural` its resource.
    #[must_use]
    pub(crate) fn new(
        scope: Scope,
        stored: &Gvk,
        plural: &str,
        schemas: BTreeMap<String, Arc<Value>>,
        has_status: bool,
    ) -> Self {
        Self {
            definition: Arc::new(Definition {
                scope,
                schema: schemas.get(&stored.version).cloned(),
                has_status,
            }),
            api_version: stored.api_version(),
            schemas,
            quota_names: usage::object_names(&stored.group, plural),
        }
    }

    fn object(&self, object: Value, metadata: ObjectMeta) -> Result<CustomObject, String> {
        if !object.is_object() {
            return Err("it is not a JSON object".to_owned());
        }
        let mut body = object;
        // A place for it, so that a schema may require it.
        body["metadata"] = Value::Object(Map::new());
        Ok(CustomObject {
            metadata,
            body,
            definition: Arc::clone(&self.definition),
        })
    }
}

/// An object of a CustomResourceDefinition.
#[derive(Clone)]
struct CustomObject {
    metadata: ObjectMeta,
    /// A map of all else; `metadata` is an empty map here.
    body: Value,
    definition: Arc<Definition>,
}

impl CustomObject {
    fn put(&mut self, field: &str, value: Option<&Value>) {
        match value {
            Some(value) => self.body[field] = value.clone(),
            None => {
                self.take(field);
            }
        }
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.body.as_object_mut()?.remove(field)
    }

    fn body_errors(&self) -> Vec<FieldError> {
        let schema = self.definition.schema.as_ref();
        schema.map_or_else(Vec::new, |schema| schema::validate(&self.body, schema))
    }
}

impl Object for CustomObject {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn to_value(&self) -> Result<Value, ApiError> {
        let metadata =
            serde_json::to_value(&self.metadata).map_err(|e| ApiError::Internal(e.to_string()))?;
        let mut body = self.body.clone();
        body["metadata"] = metadata;
        Ok(body)
    }

    fn to_boxed(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {
        if self.definition.has_status {
            self.put("status", None);
        }
    }

    fn prepare_update(
        &mut self,
        part: Part,
        old: &dyn Object,
        _gates: &FeatureGates,
    ) -> Result<(), ApiError> {
        let old: &Self = old.typed()?;
        match part {
            Part::Main if self.definition.has_status => {
                self.put("status", old.body.get("status"));
                Ok(())
            }
            Part::Main => Ok(()),
            Part::Status => {
                let status = self.take("status");
                self.body.clone_from(&old.body);
                self.put("status", status.as_ref());
                let version = self.metadata.resource_version.take();
                let managed = self.metadata.managed_fields.take();
                self.metadata.clone_from(&old.metadata);
                self.metadata.resource_version = version;
                self.metadata.managed_fields = managed;
                Ok(())
            }
            Part::Finalize
            | Part::EphemeralContainers
            | Part::Resize
            | Part::Scale
            | Part::Approval => Err(no_subresource(part)),
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let scope = self.definition.scope;
        let mut errors = meta::validate(&self.metadata, scope, names::dns1123_subdomain);
        errors.extend(self.body_errors());
        errors
    }

    fn validate_update(&self, part: Part, old: &dyn Object) -> Result<Vec<FieldError>, ApiError> {
        let old: &Self = old.typed()?;
        match part {
            Part::Main | Part::Status => {
                let mut errors = meta::validate_update(&self.metadata, &old.metadata);
                errors.extend(self.body_errors());
                Ok(errors)
            }
            Part::Finalize
            | Part::EphemeralContainers
            | Part::Resize
            | Part::Scale
            | Part::Approval => Err(no_subresource(part)),
        }
    }
}

fn no_subresource(part: Part) -> ApiError {
    ApiError::Internal(format!(
        "custom resources have no subresource {:?}",
        part.subresource()
    ))
}

impl Strategy for Custom {
    fn decode(
        &self,
        version: &str,
        mut object: Value,
        unknown: &mut Vec<String>,
    ) -> Result<Box<dyn Object>, ApiError> {
        let empty = Value::Object(Map::new());
        let given = object.get("metadata").unwrap_or(&empty);
        let decoded = decode::decode::<ObjectMeta>(given)
            .map_err(|e| ApiError::BadRequest(format!("metadata.{e}")))?;
        unknown.extend(
            decoded
                .unknown_fields
                .iter()
                .map(|f| format!("metadata.{f}")),
        );
        if let Some(schema) = self.schemas.get(version) {
            schema::prune(&mut object, schema, unknown);
            schema::default(&mut object, schema)
                .map_err(|e| ApiError::RequestEntityTooLarge(e.to_string()))?;
        }
        object["apiVersion"] = Value::String(self.api_version.clone());
        let object = self
            .object(object, decoded.object)
            .map_err(ApiError::BadRequest)?;
        Ok(Box::new(object))
    }

    fn read(&self, stored: &Value) -> Result<Box<dyn Object>, String> {
        let empty = Value::Object(Map::new());
        let metadata = stored.get("metadata").unwrap_or(&empty);
        let metadata = decode::from_value(metadata).map_err(|e| format!("metadata.{e}"))?;
        Ok(Box::new(self.object(stored.clone(), metadata)?))
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn moved_on(&self, new: &dyn Object, old: &dyn Object) -> Result<bool, ApiError> {
        let (new, old): (&CustomObject, &CustomObject) = (new.typed()?, old.typed()?);
        let fields = new.body.as_object().into_iter().flatten();
        let mut counted = fields
            .filter(|(k, _)| !matches!(k.as_str(), "metadata" | "status" | "apiVersion" | "kind"));
        Ok(counted.any(|(k, v)| old.body.get(k) != Some(v)))
    }

    fn create_on_update(&self) -> bool {
        false
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn field_labels(&self) -> &'static [FieldLabel] {
        &[]
    }

    fn quota_names(&self) -> &[String] {
        &self.quota_names
    }

    fn ending(&self) -> Ending {
        Ending::Immediate
    }

    fn grace_seconds(&self, _object: &dyn Object, _wanted: Option<i64>) -> Result<i64, ApiError> {
        Ok(0)
    }

    fn has_own_finalizers(&self, _object: &dyn Object) -> Result<bool, ApiError> {
        Ok(false)
    }

    fn mark_terminating(&self, _object: &mut dyn Object) -> Result<(), ApiError> {
        Ok(())
    }

    fn warnings(&self, _new: &dyn Object, _cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        Ok(Vec::new())
    }

    fn scale(&self, _object: &dyn Object) -> Result<Option<ScaleNumbers>, ApiError> {
        Ok(None)
    }

    fn set_replicas(&self, _object: &mut dyn Object, _replicas: i32) -> Result<(), ApiError> {
        Err(ApiError::NoSuchPath)
    }

    fn complete(
        &self,
        _new: &mut dyn Object,
        _old: Option<&dyn Object>,
        _write: Write<'_>,
    ) -> Result<(), ApiError> {
        Ok(())
    }

    fn check(&self, _new: &dyn Object, _cluster: Cluster<'_>) -> Result<(), ApiError> {
        Ok(())
    }

    fn allocates(&self) -> bool {
        false
    }

    fn allocate(
        &self,
        _new: Option<&mut dyn Object>,
        _old: Option<&dyn Object>,
        _cluster: Cluster<'_>,
    ) -> Result<Vec<Beside>, ApiError> {
        Ok(Vec::new())
    }

    fn grant<'a>(
        &self,
        _new: &'a dyn Object,
        _old: Option<&'a dyn Object>,
    ) -> Result<Option<Grant<'a>>, ApiError> {
        Ok(None)
    }

    fn wide_printer(&self, _storage: &Storage) -> Option<Printer> {
        None
    }
}
