//! DELETE of one object: preconditions, grace, finalizers.

use std::sync::Arc;

use berth_api::decode;
use berth_api::status::ApiError;
use berth_store::Expect;
use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use serde_json::{Value, json};

use super::{Call, meta};
use crate::admission::Operation;
use crate::http_types::Response;
use crate::negotiate;
use crate::query::{Propagation, Query};
use crate::storage::{Stored, Written};

/// How often a delete that others keep overtaking is tried.
const TRIES: usize = 20;
/// Grace of pods that name none.
const POD_GRACE: i64 = 30;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// How an object is to be deleted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletion {
    pub(crate) grace: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) dry_run: bool,
}

/// What became of a delete.
pub(crate) enum Deleted {
    /// It is gone; this was its last state.
    Gone(Arc<Stored>),
    /// It goes later: somebody must finish first.
    Marked(Arc<Stored>),
    /// A dry run.
    Dry(Value),
}

/// What a delete does to the current object.
enum Step {
    Remove,
    Mark(Value),
    /// It is going already.
    Nothing,
}

impl Call {
    /// Answers a DELETE.
    pub(crate) async fn delete(&self) -> Result<Response, ApiError> {
        let deletion = self.deletion()?;
        match self.delete_object(self.name(), &deletion).await? {
            Deleted::Gone(stored) if self.row.storage == "core/pods" => {
                self.respond_stored(StatusCode::OK, &stored)
            }
            Deleted::Gone(stored) => {
                self.respond_bytes(StatusCode::OK, self.success(&stored.value()))
            }
            Deleted::Marked(stored) => self.respond_stored(StatusCode::OK, &stored),
            Deleted::Dry(object) if self.row.storage == "core/pods" => {
                self.respond_value(StatusCode::OK, &object)
            }
            Deleted::Dry(object) => self.respond_bytes(StatusCode::OK, self.success(&object)),
        }
    }

    fn success(&self, object: &Value) -> Bytes {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {
                "name": meta::name(object),
                "group": self.row.group,
                "kind": self.row.plural,
                "uid": meta::text(object, "/metadata/uid"),
            },
        });
        Bytes::from(status.to_string())
    }

    /// Reads DeleteOptions from the body and the query; the body wins.
    pub(crate) fn deletion(&self) -> Result<Deletion, ApiError> {
        let query = &self.query;
        if self.body.is_empty() {
            let (policy, orphan) = (query.propagation.as_deref(), query.orphan_dependents);
            query.check_delete(query.grace_period_seconds, policy, orphan, query.dry_runs())?;
            return Ok(Deletion {
                grace: query.grace_period_seconds,
                propagation: propagation(policy, orphan),
                dry_run: query.dry_run,
                ..Deletion::default()
            });
        }
        let body = negotiate::body(&self.headers, &self.body)?;
        let kind = meta::text(&body, "/kind");
        if !kind.is_empty() && kind != "DeleteOptions" {
            return Err(ApiError::BadRequest(format!(
                "{kind} cannot be handled as a DeleteOptions"
            )));
        }
        let options: DeleteOptions =
            decode::from_value(&body).map_err(|e| ApiError::BadRequest(e.to_string()))?;
        Self::deletion_of(options, query)
    }

    /// What DeleteOptions say; the query's stand in where they are silent.
    pub(crate) fn deletion_of(options: DeleteOptions, query: &Query) -> Result<Deletion, ApiError> {
        let given = options.propagation_policy.as_deref();
        let policy = given.or(query.propagation.as_deref());
        let orphan = options.orphan_dependents.or(query.orphan_dependents);
        let mut dry_runs = options.dry_run.unwrap_or_default();
        dry_runs.extend_from_slice(query.dry_runs());
        let grace = options.grace_period_seconds.or(query.grace_period_seconds);
        query.check_delete(grace, policy, orphan, &dry_runs)?;
        let preconditions = options.preconditions.unwrap_or_default();
        Ok(Deletion {
            grace,
            propagation: propagation(policy, orphan),
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
            dry_run: !dry_runs.is_empty(),
        })
    }

    /// Deletes an object by name.
    pub(crate) async fn delete_object(
        &self,
        name: &str,
        deletion: &Deletion,
    ) -> Result<Deleted, ApiError> {
        let mut current = self.cache().get(self.namespace(), name);
        for _ in 0..TRIES {
            let stored = current.take().ok_or_else(|| self.not_found(name))?;
            match self.delete_stored(&stored, deletion).await? {
                Ok(deleted) => return Ok(deleted),
                Err(changed) => current = changed,
            }
        }
        Err(self.modified(name))
    }

    /// Deletes an object as it was read; the inner error is its newer state.
    pub(crate) async fn delete_stored(
        &self,
        stored: &Arc<Stored>,
        deletion: &Deletion,
    ) -> Result<Result<Deleted, Option<Arc<Stored>>>, ApiError> {
        let object = stored.value();
        self.check_preconditions(stored, &object, deletion)?;
        self.api
            .admission
            .validate(self, Operation::Delete, None, Some(&object))
            .await?;
        let step = self.step(&object, deletion);
        if deletion.dry_run {
            let shown = match step {
                Step::Mark(marked) => marked,
                Step::Remove | Step::Nothing => object,
            };
            return Ok(Ok(Deleted::Dry(shown)));
        }
        let storage = &self.api.storage;
        let (namespace, name) = (&stored.namespace, &stored.name);
        let expect = Expect::Revision(stored.revision);
        match step {
            Step::Nothing => Ok(Ok(Deleted::Marked(Arc::clone(stored)))),
            Step::Remove => {
                let written = storage
                    .remove(&self.row.storage, namespace, name, expect)
                    .await?;
                Ok(match written {
                    Written::Done(last) => Ok(Deleted::Gone(last)),
                    Written::Changed(current) => Err(current),
                })
            }
            Step::Mark(marked) => {
                let written = storage
                    .put(&self.row.storage, namespace, name, expect, &marked)
                    .await?;
                Ok(match written {
                    Written::Done(stored) => Ok(Deleted::Marked(stored)),
                    Written::Changed(current) => Err(current),
                })
            }
        }
    }

    fn check_preconditions(
        &self,
        stored: &Stored,
        object: &Value,
        deletion: &Deletion,
    ) -> Result<(), ApiError> {
        let uid = meta::text(object, "/metadata/uid");
        if let Some(wanted) = deletion.uid.as_deref().filter(|w| *w != uid) {
            return Err(self.conflict(
                &stored.name,
                format!(
                    "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
                ),
            ));
        }
        let revision = stored.revision.to_string();
        if let Some(wanted) = deletion
            .resource_version
            .as_deref()
            .filter(|w| *w != revision)
        {
            return Err(self.conflict(
                &stored.name,
                format!("Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {revision}"),
            ));
        }
        Ok(())
    }

    fn step(&self, object: &Value, deletion: &Deletion) -> Step {
        let grace = self.grace(object, deletion);
        let finalizers = self.finalizers_for(object, deletion);
        let terminating = meta::is_terminating(object);
        let namespace = self.row.storage == "core/namespaces";
        let spec_finalizers = namespace
            && object
                .pointer("/spec/finalizers")
                .and_then(Value::as_array)
                .is_some_and(|f| !f.is_empty());
        if grace == 0 && finalizers.is_empty() && !spec_finalizers {
            return Step::Remove;
        }
        let old_grace = object
            .pointer("/metadata/deletionGracePeriodSeconds")
            .and_then(Value::as_i64);
        if terminating
            && old_grace.is_some_and(|old| old <= grace)
            && finalizers == meta::finalizers(object)
        {
            return Step::Nothing;
        }
        if terminating && namespace {
            return Step::Nothing;
        }
        let mut marked = object.clone();
        let grace = old_grace.map_or(grace, |old| old.min(grace));
        let grace_period = jiff::SignedDuration::from_secs(grace.max(0));
        let at = self
            .now
            .saturating_add(grace_period)
            .unwrap_or(jiff::Timestamp::MAX);
        meta::set(&mut marked, "deletionTimestamp", Some(meta::time(at)));
        if !namespace {
            meta::set(
                &mut marked,
                "deletionGracePeriodSeconds",
                Some(json!(grace)),
            );
        }
        if !finalizers.is_empty() {
            meta::set(&mut marked, "finalizers", Some(json!(finalizers)));
        }
        if namespace {
            marked["status"]["phase"] = json!("Terminating");
        }
        let generation = object
            .pointer("/metadata/generation")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        if !terminating && generation > 0 {
            meta::set(&mut marked, "generation", Some(json!(generation + 1)));
        }
        Step::Mark(marked)
    }

    /// Seconds that the object may take to end; only pods take any.
    fn grace(&self, object: &Value, deletion: &Deletion) -> i64 {
        if self.row.storage != "core/pods" {
            return 0;
        }
        let unscheduled = meta::text(object, "/spec/nodeName").is_empty();
        let finished = matches!(meta::text(object, "/status/phase"), "Succeeded" | "Failed");
        if unscheduled || finished {
            return 0;
        }
        let wanted = deletion.grace.or_else(|| {
            object
                .pointer("/spec/terminationGracePeriodSeconds")
                .and_then(Value::as_i64)
        });
        match wanted {
            None => POD_GRACE,
            // Negative ones come from objects that validation let pass long ago.
            Some(seconds) if seconds < 0 => 1,
            Some(seconds) => seconds,
        }
    }

    /// The finalizers that must be on the object while it goes.
    fn finalizers_for(&self, object: &Value, deletion: &Deletion) -> Vec<String> {
        let mut finalizers = meta::finalizers(object);
        match deletion.propagation {
            None => {}
            Some(Propagation::Background) => {
                finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
            }
            Some(Propagation::Foreground) => {
                finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
                if self.has_dependents(object) {
                    finalizers.push(FOREGROUND.to_owned());
                }
            }
            Some(Propagation::Orphan) => {
                finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
                if self.has_dependents(object) {
                    finalizers.push(ORPHAN.to_owned());
                }
            }
        }
        finalizers
    }

    /// Whether any object names this one as its owner; without dependents there is nothing that a
    /// collector would have to wait for.
    fn has_dependents(&self, object: &Value) -> bool {
        let uid = meta::text(object, "/metadata/uid");
        let namespace = meta::text(object, "/metadata/namespace");
        let namespace = (!namespace.is_empty()).then_some(namespace);
        let table = self.api.registry.table();
        table.rows().iter().any(|row| {
            self.api
                .storage
                .list(&row.storage, namespace.filter(|_| row.namespaced()))
                .iter()
                .filter(|o| contains(&o.bytes, uid.as_bytes()))
                .any(|o| {
                    o.value()
                        .pointer("/metadata/ownerReferences")
                        .and_then(Value::as_array)
                        .is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == uid))
                })
        })
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && haystack.windows(needle.len()).any(|w| w == needle)
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Option<Propagation> {
    policy.and_then(Propagation::parse).or(match orphan {
        Some(true) => Some(Propagation::Orphan),
        Some(false) => Some(Propagation::Background),
        None => None,
    })
}
