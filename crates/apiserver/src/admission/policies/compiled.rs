//! Policies and bindings as they are evaluated.

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ParamKind, ParamRef,
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};

use super::super::cel::{Composed, Conditions, Expression, Sees, environment};
use super::super::matching::Criteria;

/// What both kinds of policies have.
pub(in crate::admission) struct Policy {
    pub(super) name: String,
    pub(super) criteria: Criteria,
    /// Whether a request goes on when an expression has no value.
    pub(super) fails_open: bool,
    pub(super) param_kind: Option<ParamKind>,
    pub(in crate::admission) conditions: Conditions,
    pub(in crate::admission) composed: Composed,
}

/// One validation of a policy.
pub(in crate::admission) struct Validation {
    pub(in crate::admission) expression: Expression,
    pub(super) message: String,
    pub(in crate::admission) message_expression: Option<Expression>,
    pub(super) reason: String,
}

/// A ValidatingAdmissionPolicy.
pub(in crate::admission) struct Validating {
    pub(in crate::admission) policy: Policy,
    pub(in crate::admission) validations: Vec<Validation>,
    pub(in crate::admission) annotations: Vec<(String, Expression)>,
}

/// A mutation of a policy.
pub(in crate::admission) enum Mutation {
    /// `applyConfiguration`
    Apply(Expression),
    /// `jsonPatch`
    JsonPatch(Expression),
}

/// A MutatingAdmissionPolicy.
pub(in crate::admission) struct Mutating {
    pub(in crate::admission) policy: Policy,
    pub(in crate::admission) mutations: Vec<Mutation>,
    pub(super) if_needed: bool,
}

/// A binding of either kind.
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    pub(super) criteria: Option<Criteria>,
    pub(super) params: Option<ParamRef>,
    pub(super) actions: Vec<String>,
}

fn criteria(resources: Option<&MatchResources>) -> Criteria {
    Criteria::of_policy(&resources.cloned().unwrap_or_default())
}

impl Validating {
    pub(in crate::admission) fn new(policy: &ValidatingAdmissionPolicy) -> Self {
        let spec = policy.spec.clone().unwrap_or_default();
        let params = spec.param_kind.is_some();
        let env = |authorizer| environment(Sees { params, authorizer });
        let variables = spec.variables.as_deref().unwrap_or_default();
        let (composed, checking) = Composed::new(env(true), variables);
        // Messages and annotations see no authorizer, but variables that do.
        let (_, telling) = Composed::new(env(false), variables);
        let validations = spec.validations.iter().flatten().map(|validation| {
            let message = validation.message_expression.as_deref();
            Validation {
                expression: Expression::new(&checking, &validation.expression),
                message: validation.message.clone().unwrap_or_default(),
                message_expression: message
                    .filter(|message| !message.is_empty())
                    .map(|message| Expression::new(&telling, message)),
                reason: validation.reason.clone().unwrap_or_default(),
            }
        });
        let annotations = spec.audit_annotations.iter().flatten().map(|annotation| {
            let expression = Expression::new(&telling, &annotation.value_expression);
            (annotation.key.clone(), expression)
        });
        Self {
            validations: validations.collect(),
            annotations: annotations.collect(),
            policy: Policy {
                name: policy.metadata.name.clone().unwrap_or_default(),
                criteria: criteria(spec.match_constraints.as_ref()),
                fails_open: spec.failure_policy.as_deref() == Some("Ignore"),
                conditions: Conditions::new(
                    &env(true),
                    spec.match_conditions.as_deref().unwrap_or_default(),
                ),
                param_kind: spec.param_kind,
                composed,
            },
        }
    }
}

impl Mutating {
    pub(in crate::admission) fn new(policy: &MutatingAdmissionPolicy) -> Self {
        let spec = policy.spec.clone().unwrap_or_default();
        let env = environment(Sees {
            params: spec.param_kind.is_some(),
            authorizer: true,
        });
        let variables = spec.variables.as_deref().unwrap_or_default();
        let (composed, composing) = Composed::new(env.clone(), variables);
        let making = composing.mutation();
        let mutations = spec.mutations.iter().flatten().map(|mutation| {
            let source = |expression: Option<&String>| {
                let source = expression.map(String::as_str).unwrap_or_default();
                Expression::new(&making, source)
            };
            match mutation.patch_type.as_str() {
                "JSONPatch" => {
                    let patch = mutation.json_patch.as_ref();
                    Mutation::JsonPatch(source(patch.and_then(|p| p.expression.as_ref())))
                }
                _ => {
                    let apply = mutation.apply_configuration.as_ref();
                    Mutation::Apply(source(apply.and_then(|a| a.expression.as_ref())))
                }
            }
        });
        Self {
            mutations: mutations.collect(),
            if_needed: spec.reinvocation_policy.as_deref() == Some("IfNeeded"),
            policy: Policy {
                name: policy.metadata.name.clone().unwrap_or_default(),
                criteria: criteria(spec.match_constraints.as_ref()),
                fails_open: spec.failure_policy.as_deref() == Some("Ignore"),
                conditions: Conditions::new(
                    &env,
                    spec.match_conditions.as_deref().unwrap_or_default(),
                ),
                param_kind: spec.param_kind,
                composed,
            },
        }
    }
}

impl Binding {
    pub(super) fn of_validating(binding: &ValidatingAdmissionPolicyBinding) -> Self {
        let spec = &binding.spec;
        Self {
            name: binding.metadata.name.clone().unwrap_or_default(),
            policy: spec.policy_name.clone(),
            criteria: spec.match_resources.as_ref().map(Criteria::of_policy),
            params: spec.param_ref.clone(),
            actions: spec.validation_actions.clone(),
        }
    }

    pub(super) fn of_mutating(binding: &MutatingAdmissionPolicyBinding) -> Self {
        let spec = binding.spec.clone().unwrap_or_default();
        Self {
            name: binding.metadata.name.clone().unwrap_or_default(),
            policy: spec.policy_name.unwrap_or_default(),
            criteria: spec.match_resources.as_ref().map(Criteria::of_policy),
            params: spec.param_ref,
            actions: Vec::new(),
        }
    }
}
