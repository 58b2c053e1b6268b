//! POST of a new object.

use std::sync::Arc;
use std::time::Duration;

use berth_api::field::FieldError;
use berth_api::names;
use berth_api::status::ApiError;
use berth_core::meta as core_meta;
use berth_store::Expect;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::Value;

use super::Call;
use crate::admission::{Operation, Turn};
use crate::generated_name;
use crate::http_types::Response;
use crate::metadata as meta;
use crate::negotiate;
use crate::object::Object;
use crate::patch;
use crate::query::Options;
use crate::storage::{Beside, Committed, Stored, Written};

/// How often a generated name that is taken is drawn again.
const DRAWS: usize = 8;
/// How long somebody waits for others who try again.
const TURN: Duration = Duration::from_secs(1);

/// What became of a create.
pub(crate) enum Created {
    /// It is stored.
    Stored(Arc<Stored>),
    /// A dry run: this would have been stored.
    Dry(Value),
}

impl Call {
    /// Answers a POST.
    pub(crate) async fn create(&self) -> Result<Response, ApiError> {
        self.query.check(Options::Create)?;
        let body = negotiate::document(&self.headers, &self.body)?;
        let object = self.decode(body)?;
        match self.create_object(object, true).await? {
            Created::Stored(stored) => self.answer_stored(StatusCode::CREATED, stored).await,
            Created::Dry(object) => self.answer_value(StatusCode::CREATED, object).await,
        }
    }

    /// Creates a decoded object. `track` keeps managedFields (an apply has done so itself).
    pub(crate) async fn create_object(
        &self,
        object: Box<dyn Object>,
        track: bool,
    ) -> Result<Created, ApiError> {
        let object = self.settled(object).await?;
        let prefix = object.metadata().generate_name.as_deref();
        let named = !object.name().is_empty() || prefix.unwrap_or_default().is_empty();
        if named && !self.row.strategy.allocates() {
            return match self.create_once(object, track).await? {
                Some(created) => Ok(created),
                None => Err(self.busy()),
            };
        }
        let mut last = None;
        let mut turn = None;
        for _ in 0..DRAWS {
            match self.create_once(object.to_boxed(), track).await {
                Ok(Some(created)) => return Ok(created),
                Ok(None) => {
                    last = Some(self.busy());
                    if turn.is_none() {
                        turn = self.turn_to_take().await;
                    }
                }
                Err(error @ ApiError::AlreadyExists(_)) if !named => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| ApiError::Internal("no name could be generated".to_owned())))
    }

    /// What somebody is told who never gets what is handed out because others are always quicker.
    pub(crate) fn busy(&self) -> ApiError {
        ApiError::ServiceUnavailable(
            "other requests keep taking what this one would be given; please try again".to_owned(),
        )
    }

    /// Waits for those who try again, too, for what the server hands out; not for ever, since what each of them waits for
    /// (a webhook) is up to others.
    pub(crate) async fn turn_to_take(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let turn = self.api.handing_out.lock();
        tokio::time::timeout(TURN, turn).await.ok()
    }

    /// One try; none when another request took what this one would have been given.
    async fn create_once(
        &self,
        mut object: Box<dyn Object>,
        track: bool,
    ) -> Result<Option<Created>, ApiError> {
        let metadata = object.metadata_mut();
        self.settle_namespace(metadata)?;
        if metadata
            .resource_version
            .as_ref()
            .is_some_and(|v| !v.is_empty())
        {
            return Err(ApiError::BadRequest(
                "resourceVersion should not be set on objects to be created".to_owned(),
            ));
        }
        self.fill_metadata(metadata);
        if track {
            self.track(None, object.as_mut()).await?;
        }
        let name = object.name().to_owned();
        let attributes = self.admitted(Operation::Create, "", &name, None);
        let admission = &self.api.admission;
        admission.admit(&attributes, &mut object).await?;
        object.prepare_create(&self.api.gates);
        let strategy = &self.row.strategy;
        strategy.complete(object.as_mut(), None, self.write())?;
        self.invalid(&name, self.wrong(object.as_ref(), None).await?)?;
        let beside = strategy.allocate(Some(object.as_mut()), None, self.cluster())?;
        if strategy.allocates() {
            self.invalid(&name, object.validate())?;
        }
        self.check_metadata(&name, object.metadata(), None)?;
        let turn = admission
            .validate(&attributes, Some(object.as_ref()))
            .await?;
        self.check_grant(object.as_ref(), None)?;
        strategy.check(object.as_ref(), self.cluster())?;
        for warning in self
            .row
            .strategy
            .warnings(object.as_ref(), self.cluster())?
        {
            self.warn(warning);
        }
        if self.query.dry_run {
            if self.cache().get(self.namespace(), &name).is_some() {
                return Err(ApiError::AlreadyExists(self.subject(&name)));
            }
            return Ok(Some(Created::Dry(object.to_value()?)));
        }
        let row = &self.row.storage;
        let expect = Expect::Absent;
        let write = Beside::put_object(row, self.namespace(), &name, expect, object.as_mut())?;
        let guard = turn.as_ref().and_then(Turn::guard);
        let recount = || admission.recount(&attributes, object.as_ref());
        let storage = &self.api.storage;
        let _stage = self.traced.stage("store");
        match storage
            .commit_guarded(write, beside, guard, recount)
            .await?
        {
            Committed::Written(Written::Done(stored)) => {
                if self.row.group.is_empty() && self.row.plural == "pods" {
                    self.traced.created_pod(object.metadata());
                }
                Ok(Some(Created::Stored(stored)))
            }
            Committed::Written(Written::Changed(_)) => {
                Err(ApiError::AlreadyExists(self.subject(&name)))
            }
            Committed::Overtaken => Ok(None),
        }
    }

    fn fill_metadata(&self, metadata: &mut ObjectMeta) {
        let prefix = metadata.generate_name.as_deref().unwrap_or_default();
        if metadata.name.as_ref().is_none_or(String::is_empty) && !prefix.is_empty() {
            metadata.name = Some(generated_name::generate(prefix));
        }
        metadata.uid = Some(uuid::Uuid::new_v4().to_string());
        metadata.creation_timestamp = Some(self.time(0));
        metadata.resource_version = None;
        metadata.deletion_timestamp = None;
        metadata.deletion_grace_period_seconds = None;
        metadata.self_link = None;
        metadata.generation = self.row.strategy.has_generation().then_some(1);
    }

    /// So many seconds from now, in whole seconds as the API writes times.
    pub(crate) fn time(&self, seconds: i64) -> Time {
        let at = self.now.as_second().saturating_add(seconds);
        Time(jiff::Timestamp::from_second(at).unwrap_or(jiff::Timestamp::MAX))
    }

    /// `Invalid` unless there are no errors.
    pub(crate) fn invalid(&self, name: &str, errors: Vec<FieldError>) -> Result<(), ApiError> {
        if errors.is_empty() {
            return Ok(());
        }
        Err(ApiError::invalid(
            &self.row.group,
            &self.row.kind,
            name,
            errors,
        ))
    }

    /// What holds for the metadata of all objects, whatever the rules of their kind say of it.
    pub(crate) fn check_metadata(
        &self,
        name: &str,
        metadata: &ObjectMeta,
        old: Option<&ObjectMeta>,
    ) -> Result<(), ApiError> {
        let scope = if self.row.namespaced() {
            core_meta::Scope::Namespaced
        } else {
            core_meta::Scope::Cluster
        };
        let errors = match old {
            None => core_meta::validate(metadata, scope, names::path_segment),
            Some(old) => core_meta::validate_update(metadata, old),
        };
        self.invalid(name, errors)
    }

    /// Keeps `metadata.managedFields`, which speak the request's version. This comes before admission, as on the stock
    /// server: what admission adds is nobody's, so that a client who applies without it does not take it away.
    pub(crate) async fn track(
        &self,
        old: Option<&Value>,
        object: &mut dyn Object,
    ) -> Result<(), ApiError> {
        let manager = self.manager();
        let value = object.to_value()?;
        let given = object.metadata().managed_fields.as_deref();
        if old.is_none() && given.unwrap_or_default().is_empty() {
            let spoken = self.spoken(&value).await?;
            let entry = patch::created(&spoken, &self.write_context(&manager));
            object.metadata_mut().managed_fields = entry.map(|entry| vec![entry]);
            return Ok(());
        }
        let mut spoken = self.spoken(&value).await?.into_owned();
        let old = match old {
            Some(old) => Some(self.spoken(old).await?),
            None => None,
        };
        patch::track(old.as_deref(), &mut spoken, &self.write_context(&manager));
        let managed = meta::metadata(&mut spoken).remove("managedFields");
        object.metadata_mut().managed_fields = managed
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| ApiError::Internal(format!("metadata.managedFields: {error}")))?;
        Ok(())
    }

    /// Refuses an object that would give somebody more than the user has.
    pub(crate) fn check_grant(
        &self,
        new: &dyn Object,
        old: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        match self.row.strategy.grant(new, old)? {
            Some(grant) => self.api.authorizer.check_escalation(
                &self.user,
                &self.row.plural,
                self.namespace(),
                new.name(),
                &grant,
            ),
            None => Ok(()),
        }
    }
}
