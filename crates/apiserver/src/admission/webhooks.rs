//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook.
//!
//! Those that change objects are asked one after the other, by the name of their configuration and then as they stand in
//! it; those that only judge are asked all at once, with the object as it will be stored. While webhooks are waited for,
//! the request has no seat of the flow control and no turn among the large requests, and the namespace's quota is nobody's.

mod hook;

use std::sync::Arc;
use std::time::Duration;

use berth_api::decode::check_depth;
use berth_api::status::ApiError;
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use serde_json::Value;
use tokio::time::Instant;

use self::hook::Hook;
use super::form::{self, Form};
use super::invocation::Invocation;
use super::matching::{Lookup, is_exempt};
use super::measures::{Ended, Half, Measures};
use super::reinvocation::Reinvocation;
use super::review::{self, ReviewVersion, Verdict};
use super::source::Source;
use super::{Attributes, Outside, Parts};
use crate::object::Object;
use crate::patch::json;
use crate::webhook::CallError;

const MUTATING: &str = "admissionregistration.k8s.io/mutatingwebhookconfigurations";
const VALIDATING: &str = "admissionregistration.k8s.io/validatingwebhookconfigurations";
const PLUGIN: &str = "MutatingAdmissionWebhook";
/// Warnings of one answer that are passed on, and characters of each.
const MAX_WARNINGS: usize = 64;
const MAX_WARNING: usize = 4096;
/// Audit annotations of one answer that are looked at.
const MAX_ANNOTATIONS: usize = 64;

/// Why a request does not go on.
enum Failed {
    /// The webhook gave no usable answer: its failure policy decides.
    Call(CallError),
    /// It is refused, whatever the failure policy.
    Refused(ApiError),
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

/// MutatingAdmissionWebhook.
pub(super) struct MutatingWebhooks {
    hooks: Source<MutatingWebhookConfiguration, Vec<Hook>>,
    lookup: Lookup,
    measures: Measures,
}

/// ValidatingAdmissionWebhook.
pub(super) struct ValidatingWebhooks {
    hooks: Source<ValidatingWebhookConfiguration, Vec<Hook>>,
    lookup: Lookup,
    measures: Measures,
}

impl MutatingWebhooks {
    pub(super) fn new(parts: &Parts) -> Self {
        let storage = Arc::clone(&parts.storage);
        Self {
            hooks: Source::new(&parts.storage, MUTATING, move |configuration| {
                hook::of_mutating(configuration, &storage)
            }),
            lookup: parts.lookup(),
            measures: parts.measures.clone(),
        }
    }
}

impl ValidatingWebhooks {
    pub(super) fn new(parts: &Parts) -> Self {
        let storage = Arc::clone(&parts.storage);
        Self {
            hooks: Source::new(&parts.storage, VALIDATING, move |configuration| {
                hook::of_validating(configuration, &storage)
            }),
            lookup: parts.lookup(),
            measures: parts.measures.clone(),
        }
    }
}

impl Parts {
    /// What rules of others are matched with.
    pub(super) fn lookup(&self) -> Lookup {
        Lookup {
            storage: Arc::clone(&self.storage),
            registry: Arc::clone(&self.registry),
            authorizer: Arc::clone(&self.authorizer),
        }
    }
}

impl Outside for MutatingWebhooks {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !self.hooks.is_empty() && !is_exempt(attributes)
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a Attributes<'_>,
        object: Option<&'a mut Box<dyn Object>>,
        round: &'a mut Reinvocation,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(self.mutate(attributes, object, round))
    }
}

impl MutatingWebhooks {
    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        mut object: Option<&mut Box<dyn Object>>,
        round: &mut Reinvocation,
    ) -> Result<(), ApiError> {
        let all = self.hooks.all()?;
        round.begin(PLUGIN, || value(object.as_ref().map(|object| &***object)));
        for (at, hook) in all.iter().flat_map(|hooks| hooks.iter()).enumerate() {
            let seen = object.as_deref().map(AsRef::as_ref);
            let Some(invocation) = hook.matches(attributes, seen, &self.lookup).await? else {
                continue;
            };
            if !round.is_due(PLUGIN, &hook.id) {
                continue;
            }
            let begun = Instant::now();
            let made = change(hook, attributes, &invocation, seen).await;
            let ended = ended(hook, &made);
            let (operation, took) = (attributes.operation, begun.elapsed());
            self.measures
                .webhook(&hook.name, Half::Admit, operation, ended, took);
            if ended == Ended::FailedOpen {
                let key =
                    format!("failed-open.mutation.webhook.admission.k8s.io/round_0_index_{at}");
                attributes.annotate(&key, &hook.name);
            }
            match made {
                Ok(None) => round.asked(PLUGIN, &hook.id, false, hook.if_needed),
                Ok(Some(made)) => {
                    let before = value(object.as_ref().map(|object| &***object));
                    let changed = before.as_ref() != Some(&made.to_value()?);
                    if let Some(object) = &mut object {
                        **object = made;
                    }
                    round.asked(PLUGIN, &hook.id, changed, hook.if_needed);
                }
                Err(failed) => {
                    round.asked(PLUGIN, &hook.id, false, hook.if_needed);
                    hook.judge(failed, attributes)?;
                }
            }
        }
        round.end(PLUGIN, || value(object.as_ref().map(|object| &***object)));
        Ok(())
    }
}

fn value(object: Option<&dyn Object>) -> Option<Value> {
    object.and_then(|object| object.to_value().ok())
}

impl Outside for ValidatingWebhooks {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !self.hooks.is_empty() && !is_exempt(attributes)
    }

    fn validate<'a>(
        &'a self,
        attributes: &'a Attributes<'_>,
        object: Option<&'a dyn Object>,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(self.judge(attributes, object))
    }
}

impl ValidatingWebhooks {
    async fn judge(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let all = self.hooks.all()?;
        let mut questions = Vec::new();
        for hook in all.iter().flat_map(|hooks| hooks.iter()) {
            if let Some(invocation) = hook.matches(attributes, object, &self.lookup).await? {
                let question = Question::new(hook, attributes, &invocation, object).await;
                questions.push((hook, question));
            }
        }
        if questions.is_empty() {
            return Ok(());
        }
        let calls = questions.into_iter().map(|(hook, question)| async move {
            let begun = Instant::now();
            let verdict = match question {
                Ok(question) => question.ask(attributes, false).await,
                Err(failed) => Err(failed),
            };
            (hook, verdict, begun.elapsed())
        });
        // All are heard; the first one's refusal is what the client is told.
        let mut told = Ok(());
        let verdicts = attributes.away(join_all(calls)).await?;
        for (at, (hook, verdict, took)) in verdicts.into_iter().enumerate() {
            let accepted = verdict.and_then(|verdict| accept(hook, attributes, verdict));
            let ended = ended(hook, &accepted);
            self.measures.webhook(
                &hook.name,
                Half::Validate,
                attributes.operation,
                ended,
                took,
            );
            if ended == Ended::FailedOpen {
                let key =
                    format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{at}");
                attributes.annotate(&key, &hook.name);
            }
            let judged = match accepted {
                Ok(_) => Ok(()),
                Err(failed) => hook.judge(failed, attributes),
            };
            told = told.and(judged);
        }
        told
    }
}

/// How a call ended, for who counts.
fn ended<T>(hook: &Hook, result: &Result<T, Failed>) -> Ended {
    match result {
        Ok(_) => Ended::Allowed,
        Err(Failed::Refused(error)) => Ended::Refused(error.code()),
        Err(Failed::Call(_)) if hook.fails_open => Ended::FailedOpen,
        Err(Failed::Call(_)) => Ended::FailedClosed,
    }
}

/// What a webhook makes of an object; none when it leaves it as it is.
async fn change(
    hook: &Hook,
    attributes: &Attributes<'_>,
    invocation: &Invocation,
    object: Option<&dyn Object>,
) -> Result<Option<Box<dyn Object>>, Failed> {
    let question = Question::new(hook, attributes, invocation, object).await?;
    let verdict = attributes.away(question.ask(attributes, true)).await??;
    let verdict = accept(hook, attributes, verdict)?;
    if verdict.patch.is_empty() {
        return Ok(None);
    }
    if verdict.patch_type != "JSONPatch" {
        let kind = verdict.patch_type;
        return Err(Failed::Call(CallError::Unusable(format!(
            "unsupported patch type {kind:?}"
        ))));
    }
    let internal = |error: String| Failed::Refused(ApiError::Internal(error));
    let Some(object) = object.filter(|_| !matches!(attributes.form, Form::Connection(_))) else {
        if verdict.patch.as_slice() == b"[]" {
            return Ok(None);
        }
        return Err(internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    };
    let shown = form::show(attributes, invocation, object).await?;
    let patched =
        json::apply(&shown, &verdict.patch).map_err(|error| internal(error.to_string()))?;
    if patched == shown {
        return Ok(None);
    }
    check_depth(&patched).map_err(|error| internal(error.to_string()))?;
    let made = form::read(attributes, invocation, patched, object).await;
    made.map(Some).map_err(|error| {
        internal(format!(
            "admission webhook {:?} made an object that cannot be used: {}",
            hook.name,
            message(error)
        ))
    })
}

/// An error without the words that stand before those of an internal one.
fn message(error: ApiError) -> String {
    match error {
        ApiError::Internal(message) => message,
        other => other.to_string(),
    }
}

/// What a webhook is asked. It is made before the request leaves its seat; while it waits, only bytes are held.
struct Question<'h> {
    hook: &'h Hook,
    version: ReviewVersion,
    uid: String,
    body: Bytes,
}

impl<'h> Question<'h> {
    async fn new(
        hook: &'h Hook,
        attributes: &Attributes<'_>,
        invocation: &Invocation,
        object: Option<&dyn Object>,
    ) -> Result<Self, Failed> {
        if attributes.dry_run && hook.has_side_effects {
            return Err(Failed::Refused(ApiError::BadRequest(format!(
                "admission webhook {:?} does not support dry run",
                hook.name
            ))));
        }
        let version = hook.version.ok_or_else(|| {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            Failed::Call(CallError::Unusable(why.to_owned()))
        })?;
        let uid = uuid::Uuid::new_v4().to_string();
        let request = review::request(attributes, invocation, object, &uid).await?;
        Ok(Self {
            hook,
            version,
            uid,
            body: review::encode(version, request),
        })
    }

    async fn ask(self, attributes: &Attributes<'_>, mutating: bool) -> Result<Verdict, Failed> {
        let hook = self.hook;
        let left = attributes
            .deadline
            .saturating_duration_since(Instant::now());
        let stage = attributes.traced.stage("webhook");
        let timeout = hook.timeout.min(left);
        let answer = hook.client.post(self.body, timeout, stage.traceparent());
        let answer = answer.await;
        drop(stage);
        let answer = answer.map_err(|error| match error {
            CallError::Busy => Failed::Refused(ApiError::TooManyRequests {
                message: format!(
                    "too many requests wait for admission webhook {:?}, please try again later",
                    hook.name
                ),
                retry_after_seconds: 1,
            }),
            error => Failed::Call(error),
        })?;
        review::read(&answer, self.version, &self.uid, mutating).map_err(|why| {
            let why = format!("received invalid webhook response: {why}");
            Failed::Call(CallError::Unusable(why))
        })
    }
}

/// Passes on what a webhook says besides, and its refusal.
fn accept(hook: &Hook, attributes: &Attributes<'_>, verdict: Verdict) -> Result<Verdict, Failed> {
    for (key, value) in verdict.annotations.iter().take(MAX_ANNOTATIONS) {
        attributes.annotate(&format!("{}/{key}", hook.name), value);
    }
    for warning in verdict.warnings.iter().take(MAX_WARNINGS) {
        attributes.warn(warning.chars().take(MAX_WARNING).collect());
    }
    if verdict.allowed {
        return Ok(verdict);
    }
    Err(Failed::Refused(review::refusal(&hook.name, verdict.result)))
}

impl Hook {
    /// What a failure means for the request.
    fn judge(&self, failed: Failed, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        let error = match failed {
            Failed::Refused(error) => return Err(error),
            Failed::Call(error) => error,
        };
        let message = format!("failed calling webhook {:?}: {error}", self.name);
        if self.fails_open {
            if attributes
                .deadline
                .saturating_duration_since(Instant::now())
                == Duration::ZERO
            {
                let why = "request did not complete within requested timeout".to_owned();
                return Err(ApiError::Timeout(why));
            }
            if let Some(suppressed) = self.failures.pass() {
                tracing::warn!(
                    webhook = self.name,
                    configuration = self.configuration,
                    suppressed,
                    "failing open (failurePolicy is Ignore): {message}"
                );
            }
            return Ok(());
        }
        if let Some(suppressed) = self.failures.pass() {
            tracing::warn!(
                webhook = self.name,
                configuration = self.configuration,
                suppressed,
                "failing closed (failurePolicy is Fail): {message}"
            );
        }
        Err(ApiError::Internal(message))
    }
}
