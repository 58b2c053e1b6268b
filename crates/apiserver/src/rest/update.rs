//! PUT and PATCH, of objects and of the subresources that change them.

use std::sync::Arc;

use berth_api::field::{FieldError, FieldPath};
use berth_api::status::ApiError;
use berth_store::Expect;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::Call;
use super::create::Created;
use crate::admission::{self, Form, Operation, Turn};
use crate::http_types::Response;
use crate::metadata as meta;
use crate::negotiate;
use crate::object::Object;
pub(crate) use crate::object::Part;
use crate::patch::{self, PatchKind};
use crate::query::Options;
use crate::request::Verb;
use crate::storage::{Beside, Committed, Stored, Written};

/// How often a write that others keep overtaking is tried.
const TRIES: usize = 20;

/// The object that is to be replaced.
struct Old {
    stored: Arc<Stored>,
    value: Value,
    object: Box<dyn Object>,
    /// Whether it is stored in a version that no longer is: it is written even when nothing changes.
    stale: bool,
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
pub(super) struct Replacement {
    pub(super) object: Box<dyn Object>,
    /// Whether managedFields are still to be kept.
    pub(super) track: bool,
    /// Whether it can be made again from a newer object when somebody overtakes.
    pub(super) again: bool,
    /// Whether it was decoded in the request's version.
    pub(super) spoken: bool,
}

impl Call {
    /// Answers a PUT.
    pub(crate) async fn put(&self, part: Part) -> Result<Response, ApiError> {
        self.query.check(Options::Update)?;
        let body = negotiate::document(&self.headers, &self.body)?;
        let mut object = self.decode(body)?;
        self.check_name(object.name())?;
        let metadata = object.metadata_mut();
        self.settle_namespace(metadata)?;
        let version = metadata.resource_version.as_deref().unwrap_or_default();
        let unconditional = version.is_empty();
        if part == Part::Main
            && self.row.strategy.create_on_update()
            && self.cache().get(self.namespace(), self.name()).is_none()
            && unconditional
        {
            self.authorize(Verb::Create)?;
            return match self.create_object(object, true).await? {
                Created::Stored(stored) => self.answer_stored(StatusCode::CREATED, stored).await,
                Created::Dry(object) => self.answer_value(StatusCode::CREATED, object).await,
            };
        }
        let mut given = Some(object);
        let updated = self
            .update_object(part, |_, _| {
                // It may be tried again though nobody has changed the object itself.
                let object = if unconditional || self.row.strategy.allocates() {
                    given.as_ref().map(|object| object.to_boxed())
                } else {
                    given.take()
                };
                Ok(Replacement {
                    object: object.ok_or_else(|| self.modified(self.name()))?,
                    track: true,
                    again: unconditional,
                    spoken: true,
                })
            })
            .await?;
        self.respond_updated(updated).await
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
            .update_object(part, |_, spoken| {
                let ctx = self.write_context(&manager);
                let mut patched = patch::apply(kind, Some(spoken), &self.body, &ctx)?;
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
                let object = if kind == PatchKind::Apply {
                    self.decode_applied(patched, &strict)?
                } else {
                    let reset = patched["metadata"]["managedFields"]
                        .as_array()
                        .is_some_and(Vec::is_empty);
                    let mut object = self.decode_patched(patched, &strict)?;
                    if reset {
                        object.metadata_mut().managed_fields = Some(Vec::new());
                    }
                    object
                };
                Ok(Replacement {
                    object,
                    track: kind != PatchKind::Apply,
                    again: true,
                    spoken: true,
                })
            })
            .await?;
        self.respond_updated(updated).await
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
        let object = self.decode_applied(applied, strict)?;
        match self.create_object(object, false).await {
            Ok(Created::Stored(stored)) => {
                let answer = self.answer_stored(StatusCode::CREATED, stored).await;
                answer.map(Some)
            }
            Ok(Created::Dry(object)) => {
                let answer = self.answer_value(StatusCode::CREATED, object).await;
                answer.map(Some)
            }
            Err(ApiError::AlreadyExists(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn check_patched(&self, patched: &Value) -> Result<(), ApiError> {
        if patched.is_object() {
            return self.check_name(meta::name(patched));
        }
        Err(ApiError::BadRequest(
            "the patched object is not an object".to_owned(),
        ))
    }

    async fn respond_updated(&self, updated: Updated) -> Result<Response, ApiError> {
        match updated {
            Updated::Stored(stored) | Updated::Removed(stored) => {
                self.answer_stored(StatusCode::OK, stored).await
            }
            Updated::Dry(object) => self.answer_value(StatusCode::OK, object).await,
        }
    }

    /// Replaces the current object by what `make` makes of it, again and again while others
    /// overtake, unless the replacement names the version it is based on.
    pub(super) async fn update_object(
        &self,
        part: Part,
        mut make: impl FnMut(&Value, &Value) -> Result<Replacement, ApiError> + Send,
    ) -> Result<Updated, ApiError> {
        let name = self.name();
        let mut current = self.cache().get(self.namespace(), name);
        let mut turn = None;
        for _ in 0..TRIES {
            let stored = current.take().ok_or_else(|| self.not_found(name))?;
            let (value, stale) = self.current(&stored).await?;
            let old = Old {
                object: self.typed(&stored, &value)?,
                stored,
                value,
                stale,
            };
            let replacement = {
                let spoken = self.spoken(&old.value).await?;
                make(&old.value, &spoken)?
            };
            match self.update_once(part, &old, replacement).await? {
                Ok(updated) => return Ok(updated),
                Err(changed) => current = changed,
            }
            if turn.is_none() && self.row.strategy.allocates() {
                turn = self.turn_to_take().await;
            }
        }
        Err(self.modified(name))
    }

    /// One try; the inner error is the object's newer state.
    async fn update_once(
        &self,
        part: Part,
        old: &Old,
        replacement: Replacement,
    ) -> Result<Result<Updated, Option<Arc<Stored>>>, ApiError> {
        let name = self.name();
        let Replacement {
            mut object,
            track,
            again,
            spoken,
        } = replacement;
        if spoken {
            object = self.settled(object).await?;
        }
        self.check_base(object.metadata(), old)?;
        self.keep_metadata(object.metadata_mut(), old)?;
        if track {
            self.track(Some(&old.value), object.as_mut()).await?;
        }
        let strategy = &self.row.strategy;
        let was = old.object.as_ref();
        self.prepare_update(part, old, object.as_mut())?;
        let attributes = admission::Attributes {
            form: match part {
                Part::Scale => Form::Scale,
                _ => Form::Own,
            },
            ..self.admitted(Operation::Update, part.subresource(), name, Some(was))
        };
        let admission = &self.api.admission;
        if admission.admit(&attributes, &mut object).await? {
            // Others may not change more than the client.
            self.prepare_update(part, old, object.as_mut())?;
        }
        let mut beside = if part == Part::Main {
            strategy.allocate(Some(object.as_mut()), Some(was), self.cluster())?
        } else {
            Vec::new()
        };
        let wrong = self.wrong(object.as_ref(), Some((part, was, &old.value)));
        self.invalid(name, wrong.await?)?;
        self.check_metadata(name, object.metadata(), Some(was.metadata()))?;
        let turn = admission
            .validate(&attributes, Some(object.as_ref()))
            .await?;
        self.check_grant(object.as_ref(), Some(was))?;
        let removes = self.deletes_now(object.as_ref())?;
        let judged = object;
        let object = judged.to_value()?;
        // A write without a change still brings an object to the key or the version that is now the one.
        if object == old.value && !old.stale && !old.stored.stale {
            return Ok(Ok(Updated::Stored(Arc::clone(&old.stored))));
        }
        if self.query.dry_run {
            return Ok(Ok(Updated::Dry(object)));
        }
        let (row, namespace) = (&self.row.storage, self.namespace());
        let expect = Expect::Revision(old.stored.revision);
        let write = if removes {
            beside = strategy.allocate(None, Some(was), self.cluster())?;
            Beside::remove(row, namespace, name, expect)
        } else {
            Beside::put(row, namespace, name, expect, object)?
        };
        let guard = turn.as_ref().and_then(Turn::guard).filter(|_| !removes);
        let recount = || admission.recount(&attributes, judged.as_ref());
        let storage = &self.api.storage;
        let _stage = self.traced.stage("store");
        match storage
            .commit_guarded(write, beside, guard, recount)
            .await?
        {
            Committed::Written(Written::Done(stored)) if removes => {
                Ok(Ok(Updated::Removed(stored)))
            }
            Committed::Written(Written::Done(stored)) => Ok(Ok(Updated::Stored(stored))),
            Committed::Written(Written::Changed(_)) if !again => Err(self.modified(name)),
            Committed::Written(Written::Changed(current)) => Ok(Err(current)),
            Committed::Overtaken => Ok(Err(self.cache().get(namespace, name))),
        }
    }

    /// Restores what an update of the part may not change, and sets what follows from it.
    fn prepare_update(
        &self,
        part: Part,
        old: &Old,
        object: &mut dyn Object,
    ) -> Result<(), ApiError> {
        let strategy = &self.row.strategy;
        let was = old.object.as_ref();
        self.keep_metadata(object.metadata_mut(), old)?;
        object.prepare_update(part, was, &self.api.gates)?;
        strategy.complete(object, Some(was), self.write())?;
        if strategy.moved_on(object, was)? {
            let generation = was.metadata().generation.unwrap_or(0) + 1;
            object.metadata_mut().generation = Some(generation);
        }
        Ok(())
    }

    /// Refuses what was made from another object or another state of it.
    fn check_base(&self, given: &ObjectMeta, old: &Old) -> Result<(), ApiError> {
        let name = self.name();
        let version = given.resource_version.as_deref().unwrap_or_default();
        if !version.is_empty() && version != old.stored.revision.to_string() {
            return Err(self.modified(name));
        }
        let uid = given.uid.as_deref().unwrap_or_default();
        let current_uid = old.object.uid();
        if !uid.is_empty() && uid != current_uid {
            return Err(self.conflict(
                name,
                format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {current_uid}"),
            ));
        }
        if version.is_empty() && !self.row.strategy.unconditional_update() {
            let path = FieldPath::new("metadata").child("resourceVersion");
            let error = FieldError::invalid(&path, 0, "must be specified for an update");
            let (group, resource) = (&self.row.group, &self.row.plural);
            return Err(ApiError::invalid(group, resource, name, vec![error]));
        }
        Ok(())
    }

    /// Restores the metadata that only the server writes.
    fn keep_metadata(&self, metadata: &mut ObjectMeta, old: &Old) -> Result<(), ApiError> {
        self.settle_namespace(metadata)?;
        let was = old.object.metadata();
        metadata.uid.clone_from(&was.uid);
        metadata
            .creation_timestamp
            .clone_from(&was.creation_timestamp);
        metadata
            .deletion_timestamp
            .clone_from(&was.deletion_timestamp);
        metadata.deletion_grace_period_seconds = was.deletion_grace_period_seconds;
        metadata.generation = was.generation;
        metadata.self_link = None;
        metadata.resource_version = Some(old.stored.revision.to_string());
        Ok(())
    }

    /// Whether nothing keeps a terminating object any longer.
    fn deletes_now(&self, object: &dyn Object) -> Result<bool, ApiError> {
        let grace = object.metadata().deletion_grace_period_seconds;
        Ok(object.is_terminating()
            && grace.unwrap_or(0) == 0
            && object.finalizers().is_empty()
            && !self.row.strategy.has_own_finalizers(object)?)
    }
}
