//! ValidatingAdmissionPolicy.

use berth_api::status::ApiError;
use berth_cel::Value as CelValue;
use futures::future::BoxFuture;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use serde_json::{Value, json};

use super::super::cel::{Checks, Facts, Matched, OUT_OF_BUDGET, Scope, off_worker};
use super::super::matching::Lookup;
use super::super::source::Source;
use super::super::{Attributes, Outside, Parts};
use super::compiled::{Binding, Validating, Validation};
use super::{REQUEST_LIMIT, Seen, budget, denied, is_unseen, params};
use crate::object::Object;

const POLICIES: &str = "admissionregistration.k8s.io/validatingadmissionpolicies";
const BINDINGS: &str = "admissionregistration.k8s.io/validatingadmissionpolicybindings";
/// Longest message that an expression makes.
const MAX_MESSAGE: usize = 5 << 10;
/// Longest audit annotation.
const MAX_ANNOTATION: usize = 10 << 10;
const FAILURE: &str = "validation.policy.admission.k8s.io/validation_failure";

/// ValidatingAdmissionPolicy.
pub(in crate::admission) struct ValidatingPolicies {
    policies: Source<ValidatingAdmissionPolicy, Validating>,
    bindings: Source<ValidatingAdmissionPolicyBinding, Binding>,
    lookup: Lookup,
}

impl ValidatingPolicies {
    pub(in crate::admission) fn new(parts: &Parts) -> Self {
        Self {
            policies: Source::new(&parts.storage, POLICIES, Validating::new),
            bindings: Source::new(&parts.storage, BINDINGS, Binding::of_validating),
            lookup: parts.lookup(),
        }
    }
}

/// What is refused.
struct Refusal {
    message: String,
    reason: String,
}

/// What one evaluation has to say.
#[derive(Default)]
struct Outcome {
    refusals: Vec<(usize, Refusal)>,
    /// Refused whatever the actions of the binding are.
    broken: Vec<Refusal>,
    annotations: Vec<(String, String)>,
    spent: u64,
}

impl Refusal {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            reason: String::new(),
        }
    }
}

impl Outside for ValidatingPolicies {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !self.policies.is_empty() && !self.bindings.is_empty() && !is_unseen(attributes)
    }

    fn validate<'a>(
        &'a self,
        attributes: &'a Attributes<'_>,
        object: Option<&'a dyn Object>,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(self.judge(attributes, object))
    }
}

impl ValidatingPolicies {
    async fn judge(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let (policies, bindings) = (self.policies.all()?, self.bindings.all()?);
        let lookup = &self.lookup;
        let mut denials: Vec<(String, Refusal)> = Vec::new();
        let mut left = REQUEST_LIMIT;
        for validating in policies.iter() {
            let policy = &validating.policy;
            let unusable = |why: String| {
                let message = format!(
                    "ValidatingAdmissionPolicy '{}' denied request: failed to configure policy: {why}",
                    policy.name
                );
                (!policy.fails_open).then(|| (message, Refusal::new("")))
            };
            let invocation = match policy.criteria.matches(attributes, object, lookup) {
                Ok(Some(invocation)) => invocation,
                Ok(None) => continue,
                Err(error) => {
                    denials.extend(unusable(error.to_string()));
                    continue;
                }
            };
            let mut seen = None;
            for binding in bindings.iter().filter(|b| b.policy == policy.name) {
                let denied_by = |what: &str| {
                    format!(
                        "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {what}",
                        policy.name, binding.name
                    )
                };
                let found = match binding.matches(attributes, object, lookup) {
                    Ok(true) => {
                        let kind = policy.param_kind.as_ref();
                        let reference = binding.params.as_ref();
                        params::collect(kind, reference, attributes, lookup).await
                    }
                    Ok(false) => continue,
                    Err(error) => Err(error.to_string()),
                };
                let found = match found {
                    Ok(found) => found,
                    Err(_) if policy.fails_open => continue,
                    Err(why) => {
                        let message = denied_by(&format!("failed to configure binding: {why}"));
                        denials.push((message, Refusal::new("")));
                        continue;
                    }
                };
                if seen.is_none() {
                    match Seen::new(attributes, &invocation, object, lookup).await {
                        Ok(made) => seen = Some(made),
                        Err(error @ ApiError::NotFound(_)) => return Err(error),
                        Err(error) => {
                            denials.extend(unusable(format!(
                                "failed to convert object version: {error}"
                            )));
                            break;
                        }
                    }
                }
                let Some(seen) = &seen else { break };
                for params in &found {
                    let outcome =
                        off_worker(|| self.evaluate(validating, seen, params, attributes, left));
                    left = left.saturating_sub(outcome.spent);
                    publish(&outcome, policy.name.as_str(), attributes);
                    for (at, refusal) in outcome.refusals {
                        if binding.acts("Warn") {
                            attributes.warn(format!(
                                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                                policy.name, binding.name, refusal.message
                            ));
                        }
                        if binding.acts("Audit") {
                            attributes
                                .annotate(FAILURE, &audit(&policy.name, binding, at, &refusal));
                        }
                        if binding.acts("Deny") {
                            denials.push((denied_by(&refusal.message), refusal));
                        }
                    }
                    for refusal in outcome.broken {
                        denials.push((denied_by(&refusal.message), refusal));
                    }
                }
            }
        }
        match denials.into_iter().next() {
            None => Ok(()),
            Some((message, refusal)) => Err(refuse(attributes, message, &refusal)),
        }
    }

    fn evaluate(
        &self,
        validating: &Validating,
        seen: &Seen,
        params: &Value,
        attributes: &Attributes<'_>,
        left: u64,
    ) -> Outcome {
        let checks = Checks {
            authorizer: &self.lookup.authorizer,
            user: attributes.user,
        };
        let facts = seen.facts(params, &checks);
        validating.evaluate(&facts, left)
    }
}

impl Binding {
    /// Whether it is about the request.
    pub(super) fn matches(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
        lookup: &Lookup,
    ) -> Result<bool, ApiError> {
        match &self.criteria {
            None => Ok(true),
            Some(criteria) => Ok(criteria.matches(attributes, object, lookup)?.is_some()),
        }
    }

    fn acts(&self, action: &str) -> bool {
        self.actions.iter().any(|a| a == action)
    }
}

impl Validating {
    /// Evaluates the policy for one parameter, with what is left of the request's budget.
    fn evaluate(&self, facts: &Facts<'_>, left: u64) -> Outcome {
        let mut outcome = Outcome::default();
        let policy = &self.policy;
        // An expression without a value refuses, unless the policy says otherwise.
        let error = |why: String| (!policy.fails_open).then(|| Refusal::new(why));
        match policy.conditions.evaluate(facts) {
            Matched::Yes => {}
            Matched::No => return outcome,
            Matched::Failed(why) => {
                outcome
                    .refusals
                    .extend(error(why).map(|refusal| (0, refusal)));
                return outcome;
            }
        }
        let mut budget = budget(left);
        let begun = budget.left();
        let scope = Scope::new(facts, Some(&policy.composed));
        for (at, validation) in self.validations.iter().enumerate() {
            let refusal = match validation.expression.evaluate(&scope, &mut budget) {
                Ok(value) if value.as_bool() == Some(true) => None,
                Ok(_) => Some(Refusal {
                    message: validation.told(&scope, &mut budget),
                    reason: validation.reason.clone(),
                }),
                Err(why) if why == OUT_OF_BUDGET => {
                    outcome
                        .refusals
                        .extend(error(why).map(|refusal| (at, refusal)));
                    break;
                }
                Err(why) => error(why),
            };
            outcome
                .refusals
                .extend(refusal.map(|refusal| (at, refusal)));
        }
        for (key, expression) in &self.annotations {
            match expression.evaluate(&scope, &mut budget) {
                Ok(CelValue::Null) => {}
                Ok(CelValue::String(text)) if text.trim().is_empty() => {}
                Ok(CelValue::String(text)) => {
                    let text = text.trim().chars().take(MAX_ANNOTATION).collect();
                    outcome.annotations.push((key.clone(), text));
                }
                Ok(other) => outcome.broken.extend(error(format!(
                    "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                    expression.source,
                    &*other.type_name()
                ))),
                Err(why) => outcome.broken.extend(error(why)),
            }
        }
        outcome.spent = begun.saturating_sub(budget.left());
        outcome
    }
}

impl Validation {
    /// What is said of a violation: what `messageExpression` makes, else `message`, else the expression.
    fn told<'a>(&'a self, scope: &Scope<'a>, budget: &mut berth_cel::Budget) -> String {
        let made = self.message_expression.as_ref().and_then(|expression| {
            let value = expression.evaluate(scope, budget);
            let text = value.ok()?.as_str()?.trim().to_owned();
            let good = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
            good.then_some(text)
        });
        made.unwrap_or_else(|| match self.message.trim() {
            "" => format!("failed expression: {}", self.expression.source.trim()),
            message => message.to_owned(),
        })
    }
}

fn publish(outcome: &Outcome, policy: &str, attributes: &Attributes<'_>) {
    for (key, value) in &outcome.annotations {
        attributes.annotate(&format!("{policy}/{key}"), value);
    }
}

fn audit(policy: &str, binding: &Binding, at: usize, refusal: &Refusal) -> String {
    let failures = json!([{
        "message": refusal.message,
        "policy": policy,
        "binding": binding.name,
        "expressionIndex": at,
        "validationActions": binding.actions,
    }]);
    failures.to_string()
}

fn refuse(attributes: &Attributes<'_>, message: String, refusal: &Refusal) -> ApiError {
    let (reason, code) = match refusal.reason.as_str() {
        "Forbidden" => ("Forbidden", 403),
        "Unauthorized" => ("Unauthorized", 401),
        "RequestEntityTooLarge" => ("RequestEntityTooLarge", 413),
        _ => ("Invalid", 422),
    };
    let shown = attributes.forbidden(&*message).to_string();
    denied(attributes, shown, reason, code, vec![message])
}
