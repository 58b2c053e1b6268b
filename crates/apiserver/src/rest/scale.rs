//! The subresource `scale`: how many pods a workload wants and has, as an autoscaling/v1 Scale of any kind.

use berth_api::decode::Document;
use berth_api::field::{FieldError, FieldPath};
use berth_api::status::ApiError;
use http::StatusCode;
use k8s_openapi::Resource as _;
use k8s_openapi::api::autoscaling::v1::Scale;
use serde_json::{Value, json};

use super::Call;
use super::update::{Part, Replacement, Updated};
use crate::http_types::Response;
use crate::negotiate;
use crate::patch::{self, PatchKind};
use crate::query::Options;
use crate::strategy::scale;

impl Call {
    /// Answers a GET of the scale.
    pub(crate) async fn get_scale(&self) -> Result<Response, ApiError> {
        self.freshen().await?;
        let stored = self.cache().get(self.namespace(), self.name());
        let stored = stored.ok_or_else(|| self.not_found(self.name()))?;
        self.respond_scale(&stored.value()?)
    }

    /// Answers a PUT of the scale.
    pub(crate) async fn put_scale(&self) -> Result<Response, ApiError> {
        self.query.check(Options::Update)?;
        let document = negotiate::document(&self.headers, &self.body)?;
        let scale: Scale = self.posted(document)?;
        self.check_name(scale.metadata.name.as_deref().unwrap_or_default())?;
        let updated = self
            .update_object(Part::Scale, |current, _| {
                let version = scale.metadata.resource_version.as_deref();
                self.scaled(current, &scale, version.unwrap_or_default().is_empty())
            })
            .await?;
        self.respond_scaled(&updated)
    }

    /// Answers a PATCH of the scale.
    pub(crate) async fn patch_scale(&self) -> Result<Response, ApiError> {
        let kind = self.patch_kind()?;
        self.query.check(Options::Patch(kind))?;
        if kind == PatchKind::Apply {
            return self.apply_scale().await;
        }
        let manager = self.manager();
        let updated = self
            .update_object(Part::Scale, |current, _| {
                let spoken = self.scale_value(current)?;
                let ctx = self.write_context(&manager);
                // No field of a Scale is a list: a strategic patch of it is a merge patch.
                let plain = match kind {
                    PatchKind::Strategic => PatchKind::Merge,
                    other => other,
                };
                let patched = patch::apply(plain, Some(&spoken), &self.body, &ctx)?;
                let scale: Scale = self.posted(Document {
                    value: patched,
                    ..Document::default()
                })?;
                self.check_name(scale.metadata.name.as_deref().unwrap_or_default())?;
                // The version is that of the object as it was read, unless the patch says another.
                self.scaled(current, &scale, true)
            })
            .await?;
        self.respond_scaled(&updated)
    }

    /// Answers a server-side apply of the scale: the manager owns the object's number of replicas, as one that has set it
    /// through this subresource.
    async fn apply_scale(&self) -> Result<Response, ApiError> {
        let manager = self.manager();
        let document = patch::configuration_of(&self.body, Scale::API_VERSION, Scale::KIND)?;
        let managed = document.value.pointer("/metadata/managedFields");
        if managed.is_some_and(|managed| !managed.is_null()) {
            let why = "metadata.managedFields must be nil";
            return Err(ApiError::BadRequest(why.to_owned()));
        }
        let scale: Scale = self.posted(document)?;
        self.check_name(scale.metadata.name.as_deref().unwrap_or_default())?;
        let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas);
        self.check_scale(&scale, replicas.unwrap_or(0))?;
        let mut config = json!({"apiVersion": self.api_version(), "kind": self.row.kind, "metadata": {"name": self.name()}});
        if let Some(replicas) = replicas {
            put(&mut config, self.row.strategy.replicas_path(), replicas);
        }
        let updated = self
            .update_object(Part::Scale, |_, spoken| {
                let ctx = self.write_context(&manager);
                let mut applied = patch::apply_configuration(spoken, &config, &ctx)?;
                for (field, given) in [
                    ("resourceVersion", &scale.metadata.resource_version),
                    ("uid", &scale.metadata.uid),
                ] {
                    if let Some(given) = given.as_ref().filter(|given| !given.is_empty()) {
                        applied["metadata"][field] = json!(given);
                    }
                }
                Ok(Replacement {
                    object: self.decode_applied(applied, &[])?,
                    track: false,
                    again: true,
                    spoken: true,
                })
            })
            .await?;
        self.respond_scaled(&updated)
    }

    /// The object with what a Scale says. `again`: whether that can be said of a newer object, too.
    fn scaled(&self, current: &Value, scale: &Scale, again: bool) -> Result<Replacement, ApiError> {
        let replicas = scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
        self.check_scale(scale, replicas)?;
        let read = self.row.strategy.read(current);
        let mut object = read.map_err(ApiError::Internal)?;
        let given = &scale.metadata;
        let version = given.resource_version.as_deref().unwrap_or_default();
        let metadata = object.metadata_mut();
        if !version.is_empty() {
            metadata.resource_version = Some(version.to_owned());
        }
        if let Some(uid) = given.uid.as_ref().filter(|uid| !uid.is_empty()) {
            metadata.uid = Some(uid.clone());
        }
        self.row.strategy.set_replicas(object.as_mut(), replicas)?;
        Ok(Replacement {
            object,
            track: true,
            again,
            spoken: false,
        })
    }

    fn check_scale(&self, scale: &Scale, replicas: i32) -> Result<(), ApiError> {
        let given = scale.metadata.namespace.as_deref().unwrap_or_default();
        if !given.is_empty() && given != self.namespace() {
            return Err(ApiError::BadRequest(
                "the namespace of the provided object does not match the namespace sent on the request"
                    .to_owned(),
            ));
        }
        if replicas >= 0 {
            return Ok(());
        }
        let why = "must be greater than or equal to 0";
        let error = FieldError::invalid(&FieldPath::new("spec.replicas"), replicas, why);
        Err(ApiError::invalid(
            "autoscaling",
            "Scale",
            self.name(),
            vec![error],
        ))
    }

    fn respond_scaled(&self, updated: &Updated) -> Result<Response, ApiError> {
        match updated {
            Updated::Stored(stored) | Updated::Removed(stored) => {
                self.respond_scale(&stored.value()?)
            }
            Updated::Dry(object) => self.respond_scale(object),
        }
    }

    fn respond_scale(&self, object: &Value) -> Result<Response, ApiError> {
        let scale = self.scale_value(object)?;
        self.respond_bytes(StatusCode::OK, scale.to_string().into())
    }

    /// The Scale of an object.
    fn scale_value(&self, object: &Value) -> Result<Value, ApiError> {
        let strategy = &self.row.strategy;
        let object = strategy.read(object).map_err(ApiError::Internal)?;
        let scale = scale::of(strategy.as_ref(), object.as_ref())?;
        serde_json::to_value(scale).map_err(|e| ApiError::Internal(e.to_string()))
    }
}

/// Puts a number at a JSON pointer, and makes the maps that lead there.
fn put(object: &mut Value, pointer: &str, number: i32) {
    let mut at = object;
    for name in pointer.split('/').skip(1) {
        let name = name.replace("~1", "/").replace("~0", "~");
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[name.as_str()];
    }
    *at = json!(number);
}
