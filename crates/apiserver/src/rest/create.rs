//! POST of a new object.

use std::sync::Arc;

use berth_api::field::FieldError;
use berth_api::status::ApiError;
use berth_store::Expect;
use http::StatusCode;
use rand::RngExt;
use serde_json::{Value, json};

use super::{Call, meta};
use crate::admission::Operation;
use crate::http_types::Response;
use crate::negotiate;
use crate::patch;
use crate::query::Options;
use crate::storage::{Stored, Written};

/// Letters of generated names: no vowels, so no words.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of the random part of a generated name.
const SUFFIX: usize = 5;
/// Longest prefix that a generated name keeps.
const PREFIX_MAX: usize = 63 - SUFFIX;
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
        object: Value,
        track: bool,
    ) -> Result<Created, ApiError> {
        let generated = meta::name(&object).is_empty()
            && !meta::text(&object, "/metadata/generateName").is_empty();
        let draws = if generated { DRAWS } else { 1 };
        let mut last = None;
        for _ in 0..draws {
            match self.create_once(object.clone(), track).await {
                Err(error @ ApiError::AlreadyExists(_)) => last = Some(error),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| ApiError::Internal("no name could be generated".to_owned())))
    }

    async fn create_once(&self, mut object: Value, track: bool) -> Result<Created, ApiError> {
        self.settle_namespace(&mut object)?;
        if !meta::text(&object, "/metadata/resourceVersion").is_empty() {
            return Err(ApiError::BadRequest(
                "resourceVersion should not be set on objects to be created".to_owned(),
            ));
        }
        self.fill_metadata(&mut object);
        let strategy = &self.row.strategy;
        let chain = &self.api.admission;
        chain
            .mutate(self, Operation::Create, &mut object, None)
            .await?;
        strategy.prepare_create(&mut object, self.rules());
        let name = meta::name(&object).to_owned();
        let errors = strategy.validate_create(&object, self.rules());
        self.invalid(&name, errors)?;
        let _turn = chain.turn(self).await;
        chain
            .validate(self, Operation::Create, Some(&object), None)
            .await?;
        self.check_rbac(None, &object)?;
        self.warn_new(&object);
        if track {
            self.track(None, &mut object)?;
        }
        if self.query.dry_run {
            if self.cache().get(self.namespace(), &name).is_some() {
                return Err(ApiError::AlreadyExists(self.subject(&name)));
            }
            return Ok(Created::Dry(object));
        }
        let written = self
            .api
            .storage
            .put(
                &self.row.storage,
                self.namespace(),
                &name,
                Expect::Absent,
                &object,
            )
            .await?;
        match written {
            Written::Done(stored) => Ok(Created::Stored(stored)),
            Written::Changed(_) => Err(ApiError::AlreadyExists(self.subject(&name))),
        }
    }

    fn fill_metadata(&self, object: &mut Value) {
        if meta::name(object).is_empty() {
            let prefix = meta::text(object, "/metadata/generateName");
            if !prefix.is_empty() {
                let name = generate(prefix);
                meta::set(object, "name", Some(Value::String(name)));
            }
        }
        let uid = uuid::Uuid::new_v4().to_string();
        meta::set(object, "uid", Some(Value::String(uid)));
        meta::set(object, "creationTimestamp", Some(meta::time(self.now)));
        for field in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
        ] {
            meta::set(object, field, None);
        }
        let generation = self.row.strategy.has_generation().then(|| json!(1));
        meta::set(object, "generation", generation);
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

    /// The escalation check of roles and bindings.
    pub(crate) fn check_rbac(&self, old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
        if self.row.group != "rbac.authorization.k8s.io" {
            return Ok(());
        }
        self.api.authorizer.check_escalation(
            &self.user,
            &self.row.plural,
            self.namespace(),
            old,
            new,
        )
    }
}

fn generate(prefix: &str) -> String {
    let mut kept = prefix.to_owned();
    if kept.len() > PREFIX_MAX {
        let mut end = PREFIX_MAX;
        while !kept.is_char_boundary(end) {
            end -= 1;
        }
        kept.truncate(end);
    }
    kept.push_str(&suffix());
    kept
}

/// The random part of a generated name.
pub(crate) fn suffix() -> String {
    let mut rng = rand::rng();
    (0..SUFFIX)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}
