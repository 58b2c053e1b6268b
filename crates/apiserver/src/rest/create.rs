//! POST of a new object.

use std::sync::Arc;

use berth_api::field::FieldError;
use berth_api::names;
use berth_api::status::ApiError;
use berth_core::meta as core_meta;
use berth_store::Expect;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::Value;

use super::{Call, meta};
use crate::admission::{Operation, Turn};
use crate::generated_name;
use crate::http_types::Response;
use crate::negotiate;
use crate::object::Object;
use crate::patch;
use crate::query::Options;
use crate::storage::{Stored, Written};

/// How often a generated name that is taken is drawn again.
const DRAWS: usize = 8;

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
            Created::Stored(stored) => self.respond_stored(StatusCode::CREATED, &stored),
            Created::Dry(object) => self.respond_value(StatusCode::CREATED, &object),
        }
    }

    /// Creates a decoded object. `track` keeps managedFields (an apply has done so itself).
    pub(crate) async fn create_object(
        &self,
        object: Box<dyn Object>,
        track: bool,
    ) -> Result<Created, ApiError> {
        let prefix = object.metadata().generate_name.as_deref();
        if !object.name().is_empty() || prefix.unwrap_or_default().is_empty() {
            return self.create_once(object, track).await;
        }
        let mut last = None;
        for _ in 0..DRAWS {
            match self.create_once(object.to_boxed(), track).await {
                Err(error @ ApiError::AlreadyExists(_)) => last = Some(error),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| ApiError::Internal("no name could be generated".to_owned())))
    }

    async fn create_once(
        &self,
        mut object: Box<dyn Object>,
        track: bool,
    ) -> Result<Created, ApiError> {
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
        let name = object.name().to_owned();
        let attributes = self.admitted(Operation::Create, "", &name, None);
        let admission = &self.api.admission;
        admission.admit(&attributes, object.as_mut()).await?;
        object.prepare_create(&self.api.gates);
        let strategy = &self.row.strategy;
        strategy.complete(object.as_mut(), None, self.write())?;
        self.invalid(&name, object.validate())?;
        self.check_metadata(&name, object.metadata(), None)?;
        let turn = admission.turn(&attributes).await;
        admission.validate(&attributes, Some(object.as_ref()))?;
        self.check_grant(object.as_ref(), None)?;
        strategy.check(object.as_ref(), self.cluster())?;
        for warning in self
            .row
            .strategy
            .warnings(object.as_ref(), self.cluster())?
        {
            self.warn(warning);
        }
        let judged = object;
        let mut object = judged.to_value()?;
        if track {
            self.track(None, &mut object)?;
        }
        if self.query.dry_run {
            if self.cache().get(self.namespace(), &name).is_some() {
                return Err(ApiError::AlreadyExists(self.subject(&name)));
            }
            return Ok(Created::Dry(object));
        }
        let storage = &self.api.storage;
        let written = storage
            .put_guarded(
                (&self.row.storage, self.namespace(), &name),
                Expect::Absent,
                object,
                turn.as_ref().and_then(Turn::guard),
                || admission.recount(&attributes, judged.as_ref()),
            )
            .await?;
        match written {
            Written::Done(stored) => Ok(Created::Stored(stored)),
            Written::Changed(_) => Err(ApiError::AlreadyExists(self.subject(&name))),
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

    /// Keeps `metadata.managedFields`, which speak the request's version.
    pub(crate) fn track(&self, old: Option<&Value>, object: &mut Value) -> Result<(), ApiError> {
        let manager = self.manager();
        let ctx = self.write_context(&manager);
        if self.row.convert.is_none() {
            patch::track(old, object, &ctx);
            return Ok(());
        }
        let old = match old {
            Some(old) => {
                let mut old = old.clone();
                self.to_request(&mut old)?;
                Some(old)
            }
            None => None,
        };
        let mut spoken = object.clone();
        self.to_request(&mut spoken)?;
        patch::track(old.as_ref(), &mut spoken, &ctx);
        meta::carry(object, &spoken, "managedFields");
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
