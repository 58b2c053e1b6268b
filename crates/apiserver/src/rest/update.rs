//! PUT and PATCH, of objects and of the subresources that change them.

use std::sync::Arc;

use berth_api::decode;
use berth_api::field::{FieldError, FieldPath};
use berth_api::status::ApiError;
use berth_core::pod::validate_ephemeral_containers;
use berth_store::Expect;
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::create::Created;
use super::{Call, meta};
use crate::admission::Operation;
use crate::http_types::Response;
use crate::negotiate;
use crate::patch::{self, PatchKind};
use crate::query::Options;
use crate::request::Verb;
use crate::storage::{Stored, Written};

/// How often a write that others keep overtaking is tried.
const TRIES: usize = 20;

/// Which part of the object a write may change.
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
}

/// What became of an update.
pub(crate) enum Updated {
    /// It is stored (or was like that already).
    Stored(Arc<Stored>),
    /// The change removed the last finalizer: the object is gone.
    Removed(Arc<Stored>),
    /// A dry run: this would have been stored.
    Dry(Value),
}

/// An object to be written in place of the current one.
struct Replacement {
    object: Value,
    /// Whether managedFields are still to be kept.
    track: bool,
    /// Whether it can be made again from a newer object when somebody overtakes.
    again: bool,
}

/// The validation that follows once everybody has changed the object.
type Check<'a> = Box<dyn FnOnce(&Value) -> Vec<FieldError> + Send + 'a>;

impl Call {
    /// Answers a PUT.
    pub(crate) async fn put(&self, part: Part) -> Result<Response, ApiError> {
        self.query.check(Options::Update)?;
        let body = negotiate::document(&self.headers, &self.body)?;
        let mut object = self.decode(body)?;
        self.check_name(&object)?;
        self.settle_namespace(&mut object)?;
        let strategy = &self.row.strategy;
        let unconditional = meta::text(&object, "/metadata/resourceVersion").is_empty();
        if part == Part::Main
            && strategy.create_on_update()
            && self.cache().get(self.namespace(), self.name()).is_none()
            && unconditional
        {
            self.authorize(Verb::Create)?;
            return match self.create_object(object, true).await? {
                Created::Stored(stored) => self.respond_stored(StatusCode::CREATED, &stored),
                Created::Dry(object) => self.respond_value(StatusCode::CREATED, &object),
            };
        }
        let updated = self
            .update_object(part, |_| {
                Ok(Replacement {
                    object: object.clone(),
                    track: true,
                    again: unconditional,
                })
            })
            .await?;
        self.respond_updated(&updated)
    }

    /// Answers a PATCH.
    pub(crate) async fn patch(&self, part: Part) -> Result<Response, ApiError> {
        let kind = self.patch_kind()?;
        let manager = self.manager();
        self.query.check(Options::Patch(kind))?;
        let strict = self.strict_patch(kind, &manager)?;
        let absent = self.cache().get(self.namespace(), self.name()).is_none();
        if kind == PatchKind::Apply
            && part == Part::Main
            && absent
            && let Some(response) = self.apply_new(&manager, &strict).await?
        {
            return Ok(response);
        }
        let updated = self
            .update_object(part, |current| {
                let mut spoken = current.clone();
                self.to_request(&mut spoken)?;
                let ctx = self.write_context(&manager);
                let mut patched = patch::apply(kind, Some(&spoken), &self.body, &ctx)?;
                self.check_patched(&patched)?;
                if kind == PatchKind::Strategic {
                    // It goes by the type, whatever the patch calls itself.
                    for field in ["kind", "apiVersion"] {
                        patched[field] = spoken[field].clone();
                    }
                }
                let uid = FieldPath::new("metadata.uid");
                let (mine, theirs) = (&patched["metadata"]["uid"], &spoken["metadata"]["uid"]);
                if mine.as_str().is_some_and(|u| !u.is_empty()) && mine != theirs {
                    let error = FieldError::invalid(&uid, mine, "field is immutable");
                    self.invalid(self.name(), vec![error])?;
                }
                let managed = patched["metadata"].get("managedFields").cloned();
                let mut object = if kind == PatchKind::Apply {
                    self.decode_applied(patched, &strict)?
                } else {
                    self.decode_patched(patched, &strict)?
                };
                meta::set(&mut object, "managedFields", managed);
                Ok(Replacement {
                    object,
                    track: kind != PatchKind::Apply,
                    again: true,
                })
            })
            .await?;
        self.respond_updated(&updated)
    }

    /// An apply of an object that does not exist; none when it does by now.
    async fn apply_new(
        &self,
        manager: &str,
        strict: &[String],
    ) -> Result<Option<Response>, ApiError> {
        self.authorize(Verb::Create)?;
        let ctx = self.write_context(manager);
        let applied = patch::apply(PatchKind::Apply, None, &self.body, &ctx)?;
        self.check_patched(&applied)?;
        let uid = meta::text(&applied, "/metadata/uid");
        if !uid.is_empty() {
            return Err(self.conflict(
                self.name(),
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found"),
            ));
        }
        let managed = applied["metadata"].get("managedFields").cloned();
        let mut object = self.decode_applied(applied, strict)?;
        meta::set(&mut object, "managedFields", managed);
        match self.create_object(object, false).await {
            Ok(Created::Stored(stored)) => {
                self.respond_stored(StatusCode::CREATED, &stored).map(Some)
            }
            Ok(Created::Dry(object)) => self.respond_value(StatusCode::CREATED, &object).map(Some),
            Err(ApiError::AlreadyExists(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn check_patched(&self, patched: &Value) -> Result<(), ApiError> {
        if patched.is_object() {
            return self.check_name(patched);
        }
        Err(ApiError::BadRequest(
            "the patched object is not an object".to_owned(),
        ))
    }

    fn respond_updated(&self, updated: &Updated) -> Result<Response, ApiError> {
        match updated {
            Updated::Stored(stored) | Updated::Removed(stored) => {
                self.respond_stored(StatusCode::OK, stored)
            }
            Updated::Dry(object) => self.respond_value(StatusCode::OK, object),
        }
    }

    /// Replaces the current object by what `make` makes of it, again and again while others
    /// overtake, unless the replacement names the version it is based on.
    async fn update_object(
        &self,
        part: Part,
        make: impl Fn(&Value) -> Result<Replacement, ApiError> + Send + Sync,
    ) -> Result<Updated, ApiError> {
        let name = self.name();
        let mut current = self.cache().get(self.namespace(), name);
        for _ in 0..TRIES {
            let stored = current.take().ok_or_else(|| self.not_found(name))?;
            let old = stored.value();
            match self.update_once(part, &stored, &old, make(&old)?).await? {
                Ok(updated) => return Ok(updated),
                Err(changed) => current = changed,
            }
        }
        Err(self.modified(name))
    }

    /// One try; the inner error is the object's newer state.
    async fn update_once(
        &self,
        part: Part,
        stored: &Arc<Stored>,
        old: &Value,
        replacement: Replacement,
    ) -> Result<Result<Updated, Option<Arc<Stored>>>, ApiError> {
        let name = self.name();
        let Replacement {
            mut object,
            track,
            again,
        } = replacement;
        let given = meta::text(&object, "/metadata/resourceVersion").to_owned();
        let current_version = stored.revision.to_string();
        if !given.is_empty() && given != current_version {
            return Err(self.modified(name));
        }
        let uid = meta::text(&object, "/metadata/uid");
        let current_uid = meta::text(old, "/metadata/uid");
        if !uid.is_empty() && uid != current_uid {
            return Err(self.conflict(
                name,
                format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {current_uid}"),
            ));
        }
        if given.is_empty() && !self.row.strategy.unconditional_update() {
            let path = FieldPath::new("metadata").child("resourceVersion");
            let error = FieldError::invalid(&path, 0, "must be specified for an update");
            let (group, resource) = (&self.row.group, &self.row.plural);
            return Err(ApiError::invalid(group, resource, name, vec![error]));
        }
        self.settle_namespace(&mut object)?;
        for field in [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
        ] {
            meta::carry(&mut object, old, field);
        }
        meta::set(&mut object, "selfLink", None);
        meta::set(
            &mut object,
            "resourceVersion",
            Some(Value::String(current_version)),
        );
        let errors = self.apply_part(part, &mut object, old);
        self.bump_generation(&mut object, old);
        self.api
            .admission
            .mutate(self, Operation::Update, &mut object, Some(old))
            .await?;
        self.invalid(name, errors(&object))?;
        self.api
            .admission
            .validate(self, Operation::Update, Some(&object), Some(old))
            .await?;
        self.check_rbac(Some(old), &object)?;
        if track {
            self.track(Some(old), &mut object)?;
        }
        if object == *old {
            return Ok(Ok(Updated::Stored(Arc::clone(stored))));
        }
        let removes = deletes_now(&object);
        if self.query.dry_run {
            return Ok(Ok(Updated::Dry(object)));
        }
        let storage = &self.api.storage;
        let expect = Expect::Revision(stored.revision);
        let written = if removes {
            storage
                .remove(&self.row.storage, self.namespace(), name, expect)
                .await?
        } else {
            storage
                .put(&self.row.storage, self.namespace(), name, expect, &object)
                .await?
        };
        match written {
            Written::Done(stored) if removes => Ok(Ok(Updated::Removed(stored))),
            Written::Done(stored) => Ok(Ok(Updated::Stored(stored))),
            Written::Changed(_) if !again => Err(self.modified(name)),
            Written::Changed(current) => Ok(Err(current)),
        }
    }

    /// Restores what this part may not change; gives the validation that must follow.
    fn apply_part<'a>(&'a self, part: Part, object: &mut Value, old: &'a Value) -> Check<'a> {
        let strategy = &self.row.strategy;
        let rules = self.rules();
        match part {
            Part::Main => {
                strategy.prepare_update(object, old, rules);
                Box::new(move |new| strategy.validate_update(new, old, rules))
            }
            Part::Status => {
                strategy.prepare_status(object, old, rules);
                Box::new(move |new| strategy.validate_status(new, old, rules))
            }
            Part::Finalize => {
                let finalizers = object.pointer("/spec/finalizers").cloned();
                restore(object, old, &["status"]);
                object["spec"] = old["spec"].clone();
                object["spec"]["finalizers"] = finalizers.unwrap_or(Value::Null);
                Box::new(|_| Vec::new())
            }
            Part::EphemeralContainers => {
                let added = object.pointer("/spec/ephemeralContainers").cloned();
                restore(object, old, &["spec", "status"]);
                object["spec"]["ephemeralContainers"] = added.unwrap_or(Value::Null);
                Box::new(move |new| ephemeral_containers(new, old))
            }
            Part::Resize => {
                let wanted = object
                    .pointer("/spec/containers")
                    .cloned()
                    .unwrap_or_default();
                restore(object, old, &["spec", "status"]);
                resize(object, &wanted);
                Box::new(|_| Vec::new())
            }
        }
    }

    fn bump_generation(&self, object: &mut Value, old: &Value) {
        if !self.row.strategy.has_generation() {
            return;
        }
        let changed = object
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(k, _)| !matches!(k.as_str(), "metadata" | "status" | "apiVersion" | "kind"))
            .any(|(k, v)| old.get(k) != Some(v));
        if changed {
            let generation = old
                .pointer("/metadata/generation")
                .and_then(Value::as_i64)
                .unwrap_or(0);
            meta::set(object, "generation", Some(json!(generation + 1)));
        }
    }
}

/// Whether nothing keeps a terminating object any longer.
fn deletes_now(object: &Value) -> bool {
    let grace = object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let spec_finalizers = object
        .pointer("/spec/finalizers")
        .and_then(Value::as_array)
        .is_some_and(|f| !f.is_empty());
    meta::is_terminating(object)
        && grace == 0
        && meta::finalizers(object).is_empty()
        && !(object["kind"] == "Namespace" && spec_finalizers)
}

fn restore(object: &mut Value, old: &Value, fields: &[&str]) {
    for field in fields {
        match old.get(*field) {
            Some(value) => object[*field] = value.clone(),
            None => {
                if let Some(map) = object.as_object_mut() {
                    map.remove(*field);
                }
            }
        }
    }
}

/// Core's rules for pods/ephemeralcontainers, on JSON.
fn ephemeral_containers(new: &Value, old: &Value) -> Vec<FieldError> {
    let read = |value: &Value| decode::from_value::<Pod>(value);
    match (read(new), read(old)) {
        (Ok(new), Ok(old)) => validate_ephemeral_containers(&new, &old),
        (Err(error), _) | (_, Err(error)) => {
            vec![FieldError::internal(
                &FieldPath::new("spec"),
                error.to_string(),
            )]
        }
    }
}

fn resize(object: &mut Value, wanted: &Value) {
    let Some(containers) = object
        .pointer_mut("/spec/containers")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    for container in containers {
        let found = wanted
            .as_array()
            .into_iter()
            .flatten()
            .find(|w| w["name"] == container["name"]);
        if let Some(found) = found {
            container["resources"] = found["resources"].clone();
            if let Some(policy) = found.get("resizePolicy") {
                container["resizePolicy"] = policy.clone();
            }
        }
    }
}
