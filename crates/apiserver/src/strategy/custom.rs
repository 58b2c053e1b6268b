//! Objects of CustomResourceDefinitions: their rules are a structural schema.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_api::decode::{self, MAX_PROBLEMS};
use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use berth_api::status::ApiError;
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};
use berth_core::usage;
use berth_rules::rbac::escalation::Grant;
use berth_schema::{Schema, Unenforceable};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::{Cluster, Ending, ScaleNumbers, Strategy, Write};
use crate::field_label::FieldLabel;
use crate::object::{Object, Part};
use crate::printer::Printer;
use crate::registry::Gvk;
use crate::storage::{Beside, Storage};

/// A schema that is enforced, or why it can't be.
type Enforced = Result<Arc<Schema>, Unenforceable>;

/// What the objects of one version of a definition have in common.
struct Definition {
    scope: Scope,
    /// Schema of the version; none takes anything.
    schema: Option<Enforced>,
    /// Whether `status` is a subresource.
    has_status: bool,
}

/// What a definition has besides its schemas.
#[derive(Default)]
pub(crate) struct Parts {
    /// Whether `status` is a subresource.
    pub(crate) has_status: bool,
    /// Where the numbers of the subresource `scale` are.
    pub(crate) scale: Option<ScalePaths>,
    /// The fields that selectors may name.
    pub(crate) selectable: Vec<FieldLabel>,
    /// Which of them a version has.
    pub(crate) selectable_in: BTreeMap<String, Vec<String>>,
    /// Whether the definition is being deleted.
    pub(crate) terminating: bool,
    /// The revision at which the definition was read: objects that were stored later have its defaults.
    pub(crate) revision: i64,
}

/// Where the numbers of the subresource `scale` are, as JSON pointers.
pub(crate) struct ScalePaths {
    /// How many are wanted.
    pub(crate) replicas: String,
    /// How many there are.
    pub(crate) observed: String,
    /// Which are counted.
    pub(crate) selector: Option<String>,
}

/// The rules of one CustomResourceDefinition.
pub(crate) struct Custom {
    /// By the storage version.
    definition: Arc<Definition>,
    /// By other versions, where their schema is another.
    others: BTreeMap<String, Arc<Definition>>,
    /// `apiVersion` of what is stored.
    api_version: String,
    /// `openAPIV3Schema` by version; a version without one takes anything.
    schemas: BTreeMap<String, Enforced>,
    scale: Option<ScalePaths>,
    selectable: Vec<FieldLabel>,
    selectable_in: BTreeMap<String, Vec<String>>,
    terminating: bool,
    revision: i64,
    quota_names: Vec<String>,
}

impl Custom {
    /// The rules that these schemas are; `stored` is what is stored, `plural` its resource, `versions` are those that
    /// requests may speak.
    #[must_use]
    pub(crate) fn new(
        scope: Scope,
        stored: &Gvk,
        plural: &str,
        versions: &[String],
        schemas: &BTreeMap<String, Value>,
        parts: Parts,
    ) -> Self {
        let mut enforced: BTreeMap<String, Enforced> = BTreeMap::new();
        for (version, schema) in schemas {
            // Versions often have the same schema: it is compiled once.
            let same = schemas
                .iter()
                .take_while(|(other, _)| *other != version)
                .find(|(_, other)| *other == schema)
                .and_then(|(other, _)| enforced.get(other).cloned());
            let compiled = same.unwrap_or_else(|| Schema::compile(schema).map(Arc::new));
            if let Err(error) = &compiled {
                tracing::warn!(group = stored.group, plural, version, %error, "the schema of a CustomResourceDefinition can't be enforced; its objects can't be written");
            }
            enforced.insert(version.clone(), compiled);
        }
        let definition = |version: &str| {
            Arc::new(Definition {
                scope,
                schema: enforced.get(version).cloned(),
                has_status: parts.has_status,
            })
        };
        let of_stored = schemas.get(&stored.version);
        let others = versions
            .iter()
            .filter(|version| schemas.get(*version) != of_stored)
            .map(|version| (version.clone(), definition(version)))
            .collect();
        Self {
            definition: definition(&stored.version),
            others,
            api_version: stored.api_version(),
            schemas: enforced,
            scale: parts.scale,
            selectable: parts.selectable,
            selectable_in: parts.selectable_in,
            terminating: parts.terminating,
            revision: parts.revision,
            quota_names: usage::object_names(&stored.group, plural),
        }
    }

    fn object(
        object: Value,
        metadata: ObjectMeta,
        definition: &Arc<Definition>,
    ) -> Result<CustomObject, String> {
        if !object.is_object() {
            return Err("it is not a JSON object".to_owned());
        }
        let mut body = object;
        // A place for it, so that a schema may require it.
        body["metadata"] = Value::Object(Map::new());
        Ok(CustomObject {
            metadata,
            body,
            definition: Arc::clone(definition),
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

    fn body_errors(&self, old: Option<&Self>) -> Vec<FieldError> {
        let schema = match &self.definition.schema {
            None => return Vec::new(),
            Some(Ok(schema)) => schema,
            Some(Err(error)) => {
                let why = format!(
                    "the schema of the CustomResourceDefinition can't be enforced, correct it first: {error}"
                );
                return vec![FieldError::internal(&FieldPath::default(), why)];
            }
        };
        let old = old.map(|old| old.with_names(&self.metadata));
        berth_schema::validate(&self.with_names(&self.metadata), old.as_ref(), schema)
    }

    /// The object with the metadata that a schema can say something of: its names.
    fn with_names(&self, metadata: &ObjectMeta) -> Value {
        let mut names = Map::new();
        for (field, name) in [
            ("name", &metadata.name),
            ("generateName", &metadata.generate_name),
        ] {
            if let Some(name) = name {
                names.insert(field.to_owned(), Value::String(name.clone()));
            }
        }
        let mut body = self.body.clone();
        body["metadata"] = Value::Object(names);
        body
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
            Part::Main | Part::Scale if self.definition.has_status => {
                self.put("status", old.body.get("status"));
                Ok(())
            }
            Part::Main | Part::Scale => Ok(()),
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
            Part::Finalize | Part::EphemeralContainers | Part::Resize | Part::Approval => {
                Err(no_subresource(part))
            }
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let scope = self.definition.scope;
        let mut errors = meta::validate(&self.metadata, scope, names::dns1123_subdomain);
        errors.extend(self.body_errors(None));
        errors
    }

    fn validate_update(&self, part: Part, old: &dyn Object) -> Result<Vec<FieldError>, ApiError> {
        let old: &Self = old.typed()?;
        match part {
            Part::Main | Part::Status | Part::Scale => {
                let mut errors = meta::validate_update(&self.metadata, &old.metadata);
                errors.extend(self.body_errors(Some(old)));
                Ok(errors)
            }
            Part::Finalize | Part::EphemeralContainers | Part::Resize | Part::Approval => {
                Err(no_subresource(part))
            }
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
        // One that can't be enforced is an error when the object is validated.
        if let Some(Ok(schema)) = self.schemas.get(version) {
            let most = MAX_PROBLEMS.saturating_sub(unknown.len());
            unknown.extend(berth_schema::prune(&mut object, schema, most));
            berth_schema::default(&mut object, schema)
                .map_err(|e| ApiError::RequestEntityTooLarge(e.to_string()))?;
        }
        object["apiVersion"] = Value::String(self.api_version.clone());
        let object =
            Self::object(object, decoded.object, &self.definition).map_err(ApiError::BadRequest)?;
        Ok(Box::new(object))
    }

    fn read(&self, stored: &Value) -> Result<Box<dyn Object>, String> {
        let empty = Value::Object(Map::new());
        let metadata = stored.get("metadata").unwrap_or(&empty);
        let metadata = decode::from_value(metadata).map_err(|e| format!("metadata.{e}"))?;
        let object = Self::object(stored.clone(), metadata, &self.definition)?;
        Ok(Box::new(object))
    }

    fn is_typed(&self) -> bool {
        false
    }

    fn selectable_in(&self, version: &str) -> Option<&[String]> {
        Some(self.selectable_in.get(version).map_or(&[], Vec::as_slice))
    }

    fn unenforceable(&self) -> Option<String> {
        self.schemas.iter().find_map(|(version, schema)| {
            let error = schema.as_ref().err()?;
            Some(format!("the schema of version {version}: {error}"))
        })
    }

    fn has_rules_of(&self, version: &str) -> bool {
        self.others.contains_key(version)
    }

    fn read_by_rules_of(&self, version: &str, object: &Value) -> Result<Box<dyn Object>, String> {
        let Some(definition) = self.others.get(version) else {
            return self.read(object);
        };
        let mut object = object.clone();
        let metadata = object.get_mut("metadata").map(Value::take);
        let metadata = metadata.unwrap_or_else(|| Value::Object(Map::new()));
        let metadata = decode::from_value(&metadata).map_err(|e| format!("metadata.{e}"))?;
        if let Some(Ok(schema)) = &definition.schema {
            // Whoever converts may know fields that the schema doesn't.
            berth_schema::prune(&mut object, schema, 0);
            berth_schema::default(&mut object, schema).map_err(|e| e.to_string())?;
        }
        Ok(Box::new(Self::object(object, metadata, definition)?))
    }

    fn may_lack_defaults(&self, stored_at: i64, version: &str) -> bool {
        stored_at < self.revision && self.schema(version).is_some_and(Schema::has_defaults)
    }

    fn fill(&self, version: &str, object: &mut Value) {
        let Some(schema) = self.schema(version) else {
            return;
        };
        // What is too much to be filled in is shown as it is stored.
        if let Err(error) = berth_schema::default(object, schema) {
            tracing::debug!(%error, "a stored object is shown without defaults");
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn schema(&self, version: &str) -> Option<&Schema> {
        match self.schemas.get(version) {
            Some(Ok(schema)) => Some(schema),
            Some(Err(_)) | None => None,
        }
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

    fn field_labels(&self) -> &[FieldLabel] {
        &self.selectable
    }

    fn quota_names(&self) -> &[String] {
        &self.quota_names
    }

    fn ending(&self) -> Ending {
        Ending::Immediate
    }

    fn shows_deleted(&self) -> bool {
        false
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

    fn scale(&self, object: &dyn Object) -> Result<Option<ScaleNumbers>, ApiError> {
        let Some(paths) = &self.scale else {
            return Ok(None);
        };
        let object: &CustomObject = object.typed()?;
        let number = |pointer: &str| {
            let value = object.body.pointer(pointer)?.as_i64()?;
            Some(i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX }))
        };
        let Some(replicas) = number(&paths.replicas) else {
            let path = paths.replicas.replace('/', ".");
            return Err(ApiError::Internal(format!(
                "the spec replicas field {path:?} does not exist"
            )));
        };
        let selector = paths
            .selector
            .as_ref()
            .and_then(|pointer| object.body.pointer(pointer)?.as_str());
        Ok(Some(ScaleNumbers {
            replicas,
            observed: number(&paths.observed).unwrap_or(0),
            selector: selector.unwrap_or_default().to_owned(),
        }))
    }

    fn replicas_path(&self) -> &str {
        self.scale.as_ref().map_or("", |paths| &paths.replicas)
    }

    fn set_replicas(&self, object: &mut dyn Object, replicas: i32) -> Result<(), ApiError> {
        let paths = self.scale.as_ref().ok_or(ApiError::NoSuchPath)?;
        let object: &mut CustomObject = object.typed_mut()?;
        let mut at = &mut object.body;
        for name in paths.replicas.split('/').skip(1) {
            let name = name.replace("~1", "/").replace("~0", "~");
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            at = &mut at[name.as_str()];
        }
        *at = Value::from(replicas);
        Ok(())
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
        // Nothing that is created while the definition goes is left behind.
        if self.terminating {
            Err(ApiError::MethodNotAllowed)
        } else {
            Ok(())
        }
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
