//! Subresources that are not a part of the object: binding and eviction.

use std::sync::Arc;

use berth_api::field::aggregate;
use berth_api::status::{ApiError, Subject};
use berth_api::status_json::status_json;
use berth_core::meta as core_meta;
use berth_rules::pod::binding;
use berth_store::Expect;
use http::StatusCode;
use k8s_openapi::api::core::v1::{Binding, Pod};
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde_json::json;

use super::{Call, delete_unreadable};
use crate::admission::{self, Form, Operation, decode_posted};
use crate::http_types::Response;
use crate::metadata as meta;
use crate::negotiate;
use crate::object::Object;
use crate::query::Options;
use crate::registry::Resource;
use crate::storage::{Stored, Written};

const TRIES: usize = 20;

impl Call {
    fn accepted_status(&self) -> Result<Response, ApiError> {
        let status = Status {
            status: Some("Success".to_owned()),
            code: Some(201),
            ..Status::default()
        };
        self.respond_bytes(StatusCode::CREATED, status_json(&status).into())
    }

    /// Answers a POST of a Binding: the pod gets its node.
    pub(crate) async fn bind(&self) -> Result<Response, ApiError> {
        self.query.check(Options::Create)?;
        let document = negotiate::document(&self.headers, &self.body)?;
        let mut binding: Binding = self.posted(document)?;
        self.settle_namespace(&mut binding.metadata)?;
        let name = binding.metadata.name.clone().unwrap_or_default();
        if !self.name().is_empty() && name != self.name() {
            return Err(ApiError::BadRequest(
                "name in URL does not match name in Binding object".to_owned(),
            ));
        }
        check_binding(&binding)?;
        let mut binding: Box<dyn Object> = Box::new(binding);
        // Whichever of the two paths it came by, it is the pod that is bound.
        let pods = self.pods()?;
        let attributes = admission::Attributes {
            resource: &pods,
            form: Form::Posted(decode_posted::<Binding>),
            ..self.admitted(Operation::Create, "binding", &name, None)
        };
        let admission = &self.api.admission;
        if admission.admit(&attributes, &mut binding).await? {
            check_binding(binding.typed()?)?;
        }
        admission
            .validate(&attributes, Some(binding.as_ref()))
            .await?;
        let binding: &Binding = binding.typed()?;
        let storage = &self.api.storage;
        let mut current = storage.get(&pods.storage, self.namespace(), &name);
        for _ in 0..TRIES {
            let stored = current.take().ok_or_else(|| self.not_found(&name))?;
            let mut bound = self.bound(&pods, &stored, binding)?;
            if self.query.dry_run {
                return self.accepted_status();
            }
            let expect = Expect::Revision(stored.revision);
            let written = storage
                .put_object(
                    &pods.storage,
                    self.namespace(),
                    &name,
                    expect,
                    bound.as_mut(),
                )
                .await?;
            match written {
                Written::Done(_) => return self.accepted_status(),
                Written::Changed(newer) => current = newer,
            }
        }
        Err(self.modified(&name))
    }

    fn pods(&self) -> Result<Arc<Resource>, ApiError> {
        let table = self.api.registry.table();
        let row = table.find_any("", "pods").ok_or(ApiError::NoSuchPath)?;
        Ok(Arc::clone(row))
    }

    fn bound(
        &self,
        pods: &Resource,
        stored: &Stored,
        binding: &Binding,
    ) -> Result<Box<dyn Object>, ApiError> {
        // Almost every pod is stored as this server writes it; one that isn't is read as leniently as elsewhere.
        let written = serde_json::from_slice::<Pod>(&stored.bytes);
        let mut object: Box<dyn Object> = match written.ok().filter(|_| !stored.corrupt) {
            Some(pod) => Box::new(pod),
            None => {
                let read = pods.strategy.read(&stored.value()?);
                read.map_err(|error| stored.report(&error))?
            }
        };
        let pod: &mut Pod = object.typed_mut()?;
        let before = pod.metadata.clone();
        binding::assign(pod, binding, self.time(0)).map_err(|error| ApiError::Conflict {
            subject: Subject::new("", "pods/binding", &*stored.name),
            message: error.to_string(),
        })?;
        // What the binding's labels and annotations have made of the pod's.
        let errors = core_meta::validate_update(&pod.metadata, &before);
        if !errors.is_empty() {
            return Err(ApiError::invalid("", "Pod", &stored.name, errors));
        }
        Ok(object)
    }

    /// Answers a POST of an Eviction: a delete, if disruption budgets allow it.
    pub(crate) async fn evict(&self) -> Result<Response, ApiError> {
        let mut document = negotiate::document(&self.headers, &self.body)?;
        if meta::text(&document.value, "/apiVersion") == "policy/v1beta1" {
            document.value["apiVersion"] = json!("policy/v1");
        }
        let mut eviction: Box<dyn Object> = Box::new(self.posted::<Eviction>(document)?);
        self.settle_namespace(eviction.metadata_mut())?;
        let named = eviction.name();
        if !named.is_empty() && named != self.name() {
            return Err(ApiError::BadRequest(format!(
                "name in URL does not match name in Eviction object: {} != {named}",
                self.name()
            )));
        }
        let stored = self.cache().get(self.namespace(), self.name());
        let pod = match &stored {
            Some(stored) => Some(self.typed(stored, &stored.value()?)?),
            None => None,
        };
        let attributes = admission::Attributes {
            form: Form::Posted(decode_posted::<Eviction>),
            ..self.admitted(
                Operation::Create,
                self.subresource(),
                self.name(),
                pod.as_deref(),
            )
        };
        let admission = &self.api.admission;
        admission.admit(&attributes, &mut eviction).await?;
        admission
            .validate(&attributes, Some(eviction.as_ref()))
            .await?;
        let eviction: &Eviction = eviction.typed()?;
        let options = eviction.delete_options.clone().unwrap_or_default();
        let mut deletion = Self::deletion_of(options, &self.query)?;
        delete_unreadable::refuse_option(&deletion)?;
        // It is admitted as an eviction, and as nothing else: of the pod that was there then, and of no other.
        let (Some(stored), Some(pod)) = (&stored, &pod) else {
            return Err(self.not_found(self.name()));
        };
        deletion.is_admitted = true;
        deletion.uid.get_or_insert_with(|| pod.uid().to_owned());
        self.take_disruption(pod.typed()?, stored.revision, &mut deletion)
            .await?;
        self.mark_disrupted(&mut deletion).await?;
        self.delete_object(self.name(), &deletion).await?;
        self.accepted_status()
    }
}

fn check_binding(binding: &Binding) -> Result<(), ApiError> {
    let errors = binding::validate(binding);
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::Unexplained(aggregate(&errors)))
}
