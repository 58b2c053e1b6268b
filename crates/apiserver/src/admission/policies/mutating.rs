//! MutatingAdmissionPolicy.

use berth_api::decode::check_depth;
use berth_api::status::ApiError;
use berth_cel::{Budget, Value as CelValue};
use futures::future::BoxFuture;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
};
use serde_json::Value;

use super::super::cel::{Checks, Expression, Facts, Matched, Scope, off_worker};
use super::super::form;
use super::super::invocation::Invocation;
use super::super::matching::Lookup;
use super::super::reinvocation::Reinvocation;
use super::super::source::Source;
use super::super::{Attributes, Outside, Parts};
use super::compiled::{Binding, Mutating, Mutation};
use super::{REQUEST_LIMIT, Seen, budget, denied, is_changeable, is_unseen, params};
use crate::object::Object;
use crate::patch;

const POLICIES: &str = "admissionregistration.k8s.io/mutatingadmissionpolicies";
const BINDINGS: &str = "admissionregistration.k8s.io/mutatingadmissionpolicybindings";
const PLUGIN: &str = "MutatingAdmissionPolicy";

/// MutatingAdmissionPolicy.
pub(in crate::admission) struct MutatingPolicies {
    policies: Source<MutatingAdmissionPolicy, Mutating>,
    bindings: Source<MutatingAdmissionPolicyBinding, Binding>,
    lookup: Lookup,
}

impl MutatingPolicies {
    pub(in crate::admission) fn new(parts: &Parts) -> Self {
        Self {
            policies: Source::new(&parts.storage, POLICIES, Mutating::new),
            bindings: Source::new(&parts.storage, BINDINGS, Binding::of_mutating),
            lookup: parts.lookup(),
        }
    }
}

/// One policy with one parameter of one of its bindings.
struct Turn<'p> {
    mutating: &'p Mutating,
    binding: &'p Binding,
    invocation: Invocation,
    params: Value,
    id: String,
}

impl Outside for MutatingPolicies {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !self.policies.is_empty()
            && !self.bindings.is_empty()
            && !is_unseen(attributes)
            && is_changeable(attributes)
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a Attributes<'_>,
        object: Option<&'a mut Box<dyn Object>>,
        round: &'a mut Reinvocation,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move {
            match object {
                Some(object) => self.mutate(attributes, object, round).await,
                None => Ok(()),
            }
        })
    }
}

impl MutatingPolicies {
    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
        round: &mut Reinvocation,
    ) -> Result<(), ApiError> {
        let (policies, bindings) = (self.policies.all()?, self.bindings.all()?);
        let mut errors = Vec::new();
        round.begin(PLUGIN, || object.to_value().ok());
        // Which ones are asked is decided by the object as it came.
        let mut turns = Vec::new();
        for mutating in policies.iter() {
            self.turns(
                attributes,
                object.as_ref(),
                mutating,
                &bindings,
                &mut turns,
                &mut errors,
            )
            .await;
        }
        let mut left = REQUEST_LIMIT;
        for turn in &turns {
            if !round.is_due(PLUGIN, &turn.id) {
                continue;
            }
            let before = object.to_value()?;
            let asked = self.take(turn, attributes, object, &mut left).await?;
            let changed = asked.is_some() && object.to_value()? != before;
            match asked {
                None => continue,
                Some(Ok(())) => {}
                Some(Err(why)) => errors.extend(turn.error(why)),
            }
            round.asked(PLUGIN, &turn.id, changed, turn.mutating.if_needed);
        }
        round.end(PLUGIN, || object.to_value().ok());
        match errors.first() {
            None => Ok(()),
            Some(first) => {
                let first = first.clone();
                Err(denied(attributes, first, "Invalid", 403, errors))
            }
        }
    }

    async fn turns<'p>(
        &self,
        attributes: &Attributes<'_>,
        object: &dyn Object,
        mutating: &'p Mutating,
        bindings: &'p [std::sync::Arc<Binding>],
        turns: &mut Vec<Turn<'p>>,
        errors: &mut Vec<String>,
    ) {
        let (policy, lookup) = (&mutating.policy, &self.lookup);
        let mut fails = |what: String| {
            if !policy.fails_open {
                errors.push(what);
            }
        };
        let invocation = match policy.criteria.matches(attributes, Some(object), lookup) {
            Ok(Some(invocation)) => invocation,
            Ok(None) => return,
            Err(error) => {
                fails(format!(
                    "policy '{}' denied request: failed to configure policy: {error}",
                    policy.name
                ));
                return;
            }
        };
        for binding in bindings.iter().filter(|b| b.policy == policy.name) {
            let found = match binding.matches(attributes, Some(object), lookup) {
                Ok(true) => {
                    let kind = policy.param_kind.as_ref();
                    let reference = binding.params.as_ref();
                    params::collect(kind, reference, attributes, lookup).await
                }
                Ok(false) => continue,
                Err(error) => Err(error.to_string()),
            };
            match found {
                Ok(found) => turns.extend(found.into_iter().map(|params| {
                    let param = &params["metadata"];
                    Turn {
                        id: format!(
                            "{}/{}/{}/{}",
                            policy.name, binding.name, param["namespace"], param["name"]
                        ),
                        mutating,
                        binding,
                        invocation: invocation.clone(),
                        params,
                    }
                })),
                Err(why) => fails(format!(
                    "policy '{}' with binding '{}' denied request: failed to configure binding: {why}",
                    policy.name, binding.name
                )),
            }
        }
    }

    /// Lets a policy change the object; none when its conditions don't hold. The inner error is for its failure policy.
    async fn take(
        &self,
        turn: &Turn<'_>,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
        left: &mut u64,
    ) -> Result<Option<Result<(), String>>, ApiError> {
        let lookup = &self.lookup;
        let mut failed = None;
        for (at, mutation) in turn.mutating.mutations.iter().enumerate() {
            let seen =
                Seen::new(attributes, &turn.invocation, Some(object.as_ref()), lookup).await?;
            let made = off_worker(|| {
                let checks = Checks {
                    authorizer: &self.lookup.authorizer,
                    user: attributes.user,
                };
                let facts = seen.facts(&turn.params, &checks);
                if at == 0 {
                    match turn.mutating.policy.conditions.evaluate(&facts) {
                        Matched::Yes => {}
                        Matched::No => return None,
                        Matched::Failed(why) => return Some(Err(why)),
                    }
                }
                let mut budget = budget(*left);
                let begun = budget.left();
                let made = make(turn, mutation, &facts, &seen.object, &mut budget);
                *left = left.saturating_sub(begun.saturating_sub(budget.left()));
                Some(made)
            });
            let made = match made {
                None => return Ok(None),
                Some(made) => made,
            };
            let read = match made {
                Ok(made) => form::read(attributes, &turn.invocation, made, object.as_ref())
                    .await
                    .map_err(|error| error.to_string()),
                Err(why) => Err(why),
            };
            match read {
                Ok(read) => *object = read,
                Err(why) => {
                    failed = failed.or(Some(why));
                    // What holds for no object holds for none of the mutations.
                    if at == 0 {
                        break;
                    }
                }
            }
        }
        Ok(Some(failed.map_or(Ok(()), Err)))
    }
}

impl Turn<'_> {
    /// What is said of a failure, unless the policy lets it pass.
    fn error(&self, why: String) -> Option<String> {
        let policy = &self.mutating.policy;
        (!policy.fails_open).then(|| {
            format!(
                "policy '{}' with binding '{}' denied request: {why}",
                policy.name, self.binding.name
            )
        })
    }
}

/// What a mutation makes of an object.
fn make(
    turn: &Turn<'_>,
    mutation: &Mutation,
    facts: &Facts<'_>,
    object: &Value,
    budget: &mut Budget,
) -> Result<Value, String> {
    let scope = Scope::new(facts, Some(&turn.mutating.policy.composed));
    let made = match mutation {
        Mutation::Apply(expression) => {
            let configuration = configuration(expression, &scope, object, budget)?;
            let row = &turn.invocation.row;
            patch::merge_configuration(row, &turn.invocation.version, object, &configuration)
                .map_err(|error| error.to_string())?
        }
        Mutation::JsonPatch(expression) => {
            let operations = expression.evaluate(&scope, budget)?;
            if !matches!(operations, CelValue::List(_)) {
                return Err(format!(
                    "type mismatch: JSONPatch expression '{}' must make a list of JSONPatch, not {}",
                    expression.source,
                    &*operations.type_name()
                ));
            }
            let operations = operations.to_json().map_err(|error| error.to_string())?;
            let operations = operations.to_string();
            patch::json::apply(object, operations.as_bytes())
                .map_err(|error| format!("JSON Patch: {error}"))?
        }
    };
    check_depth(&made).map_err(|error| error.to_string())?;
    Ok(made)
}

/// The configuration that an expression makes, of the object's kind.
fn configuration<'a>(
    expression: &'a Expression,
    scope: &Scope<'a>,
    object: &Value,
    budget: &mut Budget,
) -> Result<Value, String> {
    let value = expression.evaluate(scope, budget)?;
    let CelValue::Message(message) = &value else {
        return Err(format!(
            "type mismatch: ApplyConfiguration expression '{}' must make an Object, not {}",
            expression.source,
            &*value.type_name()
        ));
    };
    message
        .check_names()
        .map_err(|error| format!("type mismatch: {error}"))?;
    let mut configuration = value.to_json().map_err(|error| error.to_string())?;
    for field in ["apiVersion", "kind"] {
        configuration[field] = object[field].clone();
    }
    Ok(configuration)
}
