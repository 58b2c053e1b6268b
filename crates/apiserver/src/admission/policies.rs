//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: rules in CEL that a cluster administrator has written, and the
//! bindings that say where they hold and with which parameters.

pub(super) mod compiled;
mod mutating;
mod params;
mod validating;

use berth_api::status::ApiError;
use berth_cel::{Budget, PER_OBJECT_LIMIT, Question};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use serde_json::{Map, Value, json};

use super::cel::{Checks, Facts};
use super::form;
use super::invocation::Invocation;
use super::matching::{Lookup, is_exempt};
use super::{Attributes, NAMESPACES, Operation, review};
use crate::object::Object;

pub(super) use mutating::MutatingPolicies;
pub(super) use validating::ValidatingPolicies;

/// What all policies of a plugin together may cost for one request: twice what one may for one parameter. On the stock server
/// each parameter has a budget of its own, however many somebody makes.
const REQUEST_LIMIT: u64 = 2 * PER_OBJECT_LIMIT;

/// Reviews, which policies don't see: a cluster without them does not work.
const REVIEWS: [&str; 2] = ["authentication.k8s.io", "authorization.k8s.io"];

/// Whether no policy is asked about a request.
fn is_unseen(attributes: &Attributes<'_>) -> bool {
    is_exempt(attributes)
        || (REVIEWS.contains(&attributes.resource.group.as_str())
            && attributes.resource.plural.ends_with("reviews"))
}

/// What of a policy's budget is left for the next evaluation, out of the request's.
fn budget(left: u64) -> Budget {
    Budget::new(left.min(PER_OBJECT_LIMIT))
}

/// A request as one policy sees it.
struct Seen {
    object: Value,
    old: Value,
    request: Value,
    namespace: Value,
    question: Question,
}

impl Seen {
    async fn new(
        attributes: &Attributes<'_>,
        invocation: &Invocation,
        object: Option<&dyn Object>,
        lookup: &Lookup,
    ) -> Result<Self, ApiError> {
        let (object, old) = review::objects(attributes, invocation, object).await?;
        Ok(Self {
            request: review::describe(attributes, invocation, &object, &old),
            object,
            old,
            namespace: namespace_object(attributes, lookup)?,
            question: question(attributes),
        })
    }

    fn facts<'a>(&'a self, params: &'a Value, checks: &'a Checks<'_>) -> Facts<'a> {
        Facts {
            object: &self.object,
            old: &self.old,
            request: &self.request,
            params,
            namespace: &self.namespace,
            authorizer: checks,
            question: self.question.clone(),
        }
    }
}

/// What `authorizer.requestResource` is about.
pub(super) fn question(attributes: &Attributes<'_>) -> Question {
    Question {
        group: attributes.resource.group.clone(),
        resource: attributes.resource.plural.clone(),
        subresource: attributes.subresource.to_owned(),
        namespace: attributes.namespace.to_owned(),
        name: attributes.name.to_owned(),
        ..Question::default()
    }
}

/// `namespaceObject`: what of the request's namespace expressions see; null for what is of the cluster.
fn namespace_object(attributes: &Attributes<'_>, lookup: &Lookup) -> Result<Value, ApiError> {
    const METADATA: [&str; 10] = [
        "name",
        "generateName",
        "namespace",
        "labels",
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "resourceVersion",
    ];
    let name = attributes.namespace;
    if name.is_empty() || attributes.resource.storage == NAMESPACES {
        return Ok(Value::Null);
    }
    let stored = lookup.storage.get(NAMESPACES, "", name);
    let stored = stored.ok_or_else(|| ApiError::not_found("", "namespaces", name))?;
    let whole = stored.value()?;
    let mut metadata = Map::new();
    for field in METADATA.into_iter().chain(["finalizers"]) {
        if let Some(value) = whole["metadata"].get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(uid) = whole["metadata"].get("uid") {
        metadata.insert("UID".to_owned(), uid.clone());
    }
    Ok(json!({"metadata": metadata, "spec": whole["spec"], "status": whole["status"]}))
}

/// The refusal of a policy: `Forbidden` in the form, with a reason and causes of its own.
fn denied(
    attributes: &Attributes<'_>,
    message: String,
    reason: &str,
    code: i32,
    causes: Vec<String>,
) -> ApiError {
    let resource = attributes.resource;
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let causes = causes.into_iter().map(|message| StatusCause {
        message: Some(message),
        ..StatusCause::default()
    });
    ApiError::Denied(Box::new(Status {
        status: Some("Failure".to_owned()),
        code: Some(code),
        reason: Some(reason.to_owned()),
        message: Some(message),
        details: Some(StatusDetails {
            name: filled(attributes.name),
            group: filled(&resource.group),
            kind: filled(&resource.plural),
            causes: Some(causes.collect()),
            ..StatusDetails::default()
        }),
        ..Status::default()
    }))
}

/// Whether mutations make sense: there is an object, and it may be changed.
fn is_changeable(attributes: &Attributes<'_>) -> bool {
    attributes.operation != Operation::Delete
        && !matches!(attributes.form, form::Form::Connection(_))
}
