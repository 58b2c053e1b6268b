//! DELETE of one object: preconditions, grace, finalizers.

use std::sync::Arc;

use berth_api::decode;
use berth_api::status::ApiError;
use berth_api::status_json::status_json;
use berth_store::Expect;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Status, StatusDetails};
use serde_json::{Value, json};

use super::Call;
use crate::admission::{self, Operation, RequestOptions};
use crate::http_types::Response;
use crate::metadata as meta;
use crate::negotiate;
use crate::object::Object;
use crate::query::{Propagation, Query};
use crate::storage::{Beside, Committed, Stored, Written};
use crate::strategy::Ending;

/// How often a delete that others keep overtaking is tried.
const TRIES: usize = 20;

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
    /// Whether what cannot be decoded from the store is meant, and nothing else.
    pub(crate) ignore_read_errors: bool,
    /// Whether admission has judged it already, as something else than a deletion.
    pub(crate) is_admitted: bool,
}

/// A deletion as webhooks and policies see it.
struct Options<'a>(&'a Deletion);

impl RequestOptions for Options<'_> {
    fn options(&self, _operation: Operation) -> Value {
        let deletion = self.0;
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if let Some(grace) = deletion.grace {
            options["gracePeriodSeconds"] = json!(grace);
        }
        if let Some(uid) = &deletion.uid {
            options["preconditions"]["uid"] = json!(uid);
        }
        if let Some(version) = &deletion.resource_version {
            options["preconditions"]["resourceVersion"] = json!(version);
        }
        if let Some(propagation) = deletion.propagation {
            options["propagationPolicy"] = json!(match propagation {
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
                Propagation::Orphan => "Orphan",
            });
        }
        if deletion.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        options
    }
}

/// What became of a delete.
pub(crate) enum Deleted {
    /// It is gone; this was its last state.
    Gone(Arc<Stored>),
    /// It goes later: somebody must finish first.
    Marked(Arc<Stored>),
    /// A dry run.
    Dry(Value),
    /// It could not be decoded, and is gone.
    Unreadable(Arc<Stored>),
}

/// What a delete does to the current object.
enum Step {
    Remove,
    Mark(Box<dyn Object>),
    /// It is going already.
    Nothing,
}

impl Call {
    /// Answers a DELETE.
    pub(crate) async fn delete(&self) -> Result<Response, ApiError> {
        let deletion = self.deletion()?;
        let shows_object = self.row.strategy.shows_deleted();
        match self.delete_object(self.name(), &deletion).await? {
            Deleted::Gone(stored) if shows_object => {
                self.answer_stored(StatusCode::OK, stored).await
            }
            Deleted::Gone(stored) => {
                let object = stored.value()?;
                self.respond_success(&stored.name, meta::text(&object, "/metadata/uid"))
            }
            Deleted::Unreadable(stored) => self.respond_success(&stored.name, ""),
            Deleted::Marked(stored) => self.answer_stored(StatusCode::OK, stored).await,
            Deleted::Dry(object) if shows_object => self.answer_value(StatusCode::OK, object).await,
            Deleted::Dry(object) => {
                self.respond_success(meta::name(&object), meta::text(&object, "/metadata/uid"))
            }
        }
    }

    fn respond_success(&self, name: &str, uid: &str) -> Result<Response, ApiError> {
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let status = Status {
            status: Some("Success".to_owned()),
            details: Some(StatusDetails {
                name: said(name),
                group: said(&self.row.group),
                kind: said(&self.row.plural),
                uid: said(uid),
                ..StatusDetails::default()
            }),
            ..Status::default()
        };
        self.respond_bytes(StatusCode::OK, status_json(&status).into())
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
                ignore_read_errors: query.ignore_read_errors,
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
            ignore_read_errors: options
                .ignore_store_read_error_with_cluster_breaking_potential
                .unwrap_or(query.ignore_read_errors),
            is_admitted: false,
        })
    }

    /// Deletes an object by name.
    pub(crate) async fn delete_object(
        &self,
        name: &str,
        deletion: &Deletion,
    ) -> Result<Deleted, ApiError> {
        let mut current = self.cache().get(self.namespace(), name);
        if deletion.ignore_read_errors {
            let stored = current.ok_or_else(|| self.not_found(name))?;
            return self.delete_unreadable(stored, deletion).await;
        }
        let mut turn = None;
        for _ in 0..TRIES {
            let stored = current.take().ok_or_else(|| self.not_found(name))?;
            match self.delete_stored(&stored, deletion).await? {
                Ok(deleted) => return Ok(deleted),
                Err(changed) => current = changed,
            }
            if turn.is_none() && self.row.strategy.allocates() {
                turn = self.turn_to_take().await;
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
        let (value, _) = self.current(stored).await?;
        let object = self.typed(stored, &value)?;
        self.check_preconditions(stored, object.uid(), deletion)?;
        if !deletion.is_admitted {
            let options = Options(deletion);
            let attributes = admission::Attributes {
                options: &options,
                dry_run: deletion.dry_run,
                ..self.admitted(Operation::Delete, "", &stored.name, Some(object.as_ref()))
            };
            self.api.admission.judge(&attributes).await?;
        }
        let step = self.step(object.as_ref(), deletion)?;
        if deletion.dry_run {
            let shown = match step {
                Step::Mark(marked) => marked.to_value()?,
                Step::Remove | Step::Nothing => value,
            };
            return Ok(Ok(Deleted::Dry(shown)));
        }
        let storage = &self.api.storage;
        let (namespace, name) = (&stored.namespace, &stored.name);
        let expect = Expect::Revision(stored.revision);
        let _stage = self.traced.stage("store");
        match step {
            Step::Nothing => Ok(Ok(Deleted::Marked(Arc::clone(stored)))),
            Step::Remove => {
                let row = &self.row;
                let released =
                    row.strategy
                        .allocate(None, Some(object.as_ref()), self.cluster())?;
                let write = Beside::remove(&row.storage, namespace, name, expect);
                Ok(match storage.commit(write, released).await? {
                    Committed::Written(Written::Done(last)) => Ok(Deleted::Gone(last)),
                    Committed::Written(Written::Changed(current)) => Err(current),
                    Committed::Overtaken => Err(self.cache().get(namespace, name)),
                })
            }
            Step::Mark(marked) => {
                let marked = marked.to_value()?;
                let written = storage
                    .put(&self.row.storage, namespace, name, expect, marked)
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
        uid: &str,
        deletion: &Deletion,
    ) -> Result<(), ApiError> {
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

    fn step(&self, object: &dyn Object, deletion: &Deletion) -> Result<Step, ApiError> {
        let strategy = &self.row.strategy;
        let grace = strategy.grace_seconds(object, deletion.grace)?;
        let finalizers = self.finalizers_for(object, deletion);
        if grace == 0 && finalizers.is_empty() && !strategy.has_own_finalizers(object)? {
            return Ok(Step::Remove);
        }
        let terminating = object.is_terminating();
        let metadata = object.metadata();
        let old_grace = metadata.deletion_grace_period_seconds;
        if terminating
            && old_grace.is_some_and(|old| old <= grace)
            && finalizers == object.finalizers()
        {
            return Ok(Step::Nothing);
        }
        let finalized = strategy.ending() == Ending::Finalized;
        if terminating && finalized {
            return Ok(Step::Nothing);
        }
        let mut marked = object.to_boxed();
        let grace = old_grace.map_or(grace, |old| old.min(grace));
        let generation = metadata.generation.unwrap_or(0);
        let metadata = marked.metadata_mut();
        metadata.deletion_timestamp = Some(self.time(grace.max(0)));
        if !finalized {
            metadata.deletion_grace_period_seconds = Some(grace);
        }
        if !finalizers.is_empty() {
            metadata.finalizers = Some(finalizers);
        }
        if !terminating && generation > 0 {
            metadata.generation = Some(generation + 1);
        }
        strategy.mark_terminating(marked.as_mut())?;
        Ok(Step::Mark(marked))
    }

    /// The finalizers that must be on the object while it goes.
    fn finalizers_for(&self, object: &dyn Object, deletion: &Deletion) -> Vec<String> {
        let mut finalizers = object.finalizers().to_vec();
        let waits_for = match deletion.propagation {
            None => return finalizers,
            Some(Propagation::Background) => None,
            Some(Propagation::Foreground) => Some(FOREGROUND),
            Some(Propagation::Orphan) => Some(ORPHAN),
        };
        finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
        if let Some(finalizer) = waits_for.filter(|_| self.has_dependents(object)) {
            finalizers.push(finalizer.to_owned());
        }
        finalizers
    }

    /// Whether any object names this one as its owner; without dependents there is nothing that a
    /// collector would have to wait for. An object in a namespace owns nothing outside of it.
    fn has_dependents(&self, object: &dyn Object) -> bool {
        let namespace = object.metadata().namespace.as_deref();
        let namespace = namespace.filter(|n| !n.is_empty());
        let table = self.api.registry.table();
        table.rows().iter().any(|row| {
            let cache = self.api.storage.cache(&row.storage);
            cache.has_dependents(object.uid(), namespace)
        })
    }
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Option<Propagation> {
    policy.and_then(Propagation::parse).or(match orphan {
        Some(true) => Some(Propagation::Orphan),
        Some(false) => Some(Propagation::Background),
        None => None,
    })
}
