//! Webhook configurations and policies whose expressions are none are refused (422): nobody is to find out by the first
//! object that should have been refused.

use berth_api::field::{FieldError, FieldPath};
use berth_api::status::ApiError;
use berth_cel::{Composite, Env, Type};
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingAdmissionPolicy, MutatingWebhookConfiguration,
    ValidatingAdmissionPolicy, ValidatingWebhookConfiguration,
};

use super::cel::{Conditions, Expression, Sees, environment};
use super::policies::compiled::{Mutating, Mutation, Policy, Validating};
use super::{Attributes, Operation, Plugin};
use crate::object::Object;

const GROUP: &str = "admissionregistration.k8s.io";
/// Errors of one object that are told.
const MAX_ERRORS: usize = 100;

/// Compiles the expressions of what is written.
pub(super) struct Expressions;

impl Plugin for Expressions {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.resource.group == GROUP
            && attributes.subresource.is_empty()
            && matches!(attributes.operation, Operation::Create | Operation::Update)
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let Some(object) = object else {
            return Ok(());
        };
        let mut errors = match attributes.resource.plural.as_str() {
            "mutatingwebhookconfigurations" => {
                let object: &MutatingWebhookConfiguration = object.typed()?;
                let webhooks = object.webhooks.iter().flatten();
                of_webhooks(webhooks.map(|w| w.match_conditions.as_deref()))
            }
            "validatingwebhookconfigurations" => {
                let object: &ValidatingWebhookConfiguration = object.typed()?;
                let webhooks = object.webhooks.iter().flatten();
                of_webhooks(webhooks.map(|w| w.match_conditions.as_deref()))
            }
            "validatingadmissionpolicies" => {
                let object: &ValidatingAdmissionPolicy = object.typed()?;
                of_validating(&Validating::new(object))
            }
            "mutatingadmissionpolicies" => {
                let object: &MutatingAdmissionPolicy = object.typed()?;
                of_mutating(&Mutating::new(object))
            }
            _ => Vec::new(),
        };
        errors.truncate(MAX_ERRORS);
        if errors.is_empty() {
            return Ok(());
        }
        let kind = &attributes.resource.kind;
        Err(ApiError::invalid(GROUP, kind, attributes.name, errors))
    }
}

fn of_webhooks<'a>(
    webhooks: impl Iterator<Item = Option<&'a [MatchCondition]>>,
) -> Vec<FieldError> {
    let env: Env = environment(Sees {
        params: false,
        authorizer: true,
    });
    let mut errors = Vec::new();
    for (at, conditions) in webhooks.enumerate() {
        let path = FieldPath::new("webhooks").index(at);
        let conditions = Conditions::new(&env, conditions.unwrap_or_default());
        of_conditions(&mut errors, &conditions, &path);
    }
    errors
}

/// What is wrong with an expression that is to have a value of a type.
fn check(
    errors: &mut Vec<FieldError>,
    expression: &Expression,
    wanted: &str,
    is_wanted: impl Fn(&Type) -> bool,
    path: &FieldPath,
) {
    let why = match (expression.error(), expression.program()) {
        (Some(why), _) => format!("compilation failed: {why}"),
        (None, Some(program)) if !is_wanted(program.output()) => {
            format!("must evaluate to {wanted}")
        }
        (None, _) => return,
    };
    if errors.len() < MAX_ERRORS {
        errors.push(FieldError::invalid(path, &*expression.source, why));
    }
}

fn is_bool(of: &Type) -> bool {
    matches!(of, Type::Bool | Type::Dyn)
}

fn of_conditions(errors: &mut Vec<FieldError>, conditions: &Conditions, at: &FieldPath) {
    for (i, expression) in conditions.expressions().enumerate() {
        let path = at.child("matchConditions").index(i).child("expression");
        check(errors, expression, "bool", is_bool, &path);
    }
}

fn of_policy(errors: &mut Vec<FieldError>, policy: &Policy, at: &FieldPath) {
    of_conditions(errors, &policy.conditions, at);
    for (i, expression) in policy.composed.expressions().enumerate() {
        let path = at.child("variables").index(i).child("expression");
        check(errors, expression, "a value", |_| true, &path);
    }
}

fn of_validating(validating: &Validating) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = FieldPath::new("spec");
    of_policy(&mut errors, &validating.policy, &spec);
    for (i, validation) in validating.validations.iter().enumerate() {
        let at = spec.child("validations").index(i);
        let path = at.child("expression");
        check(&mut errors, &validation.expression, "bool", is_bool, &path);
        if let Some(message) = &validation.message_expression {
            let path = at.child("messageExpression");
            let is_text = |of: &Type| matches!(of, Type::String | Type::Dyn);
            check(&mut errors, message, "string", is_text, &path);
        }
    }
    for (i, (_, expression)) in validating.annotations.iter().enumerate() {
        let path = spec
            .child("auditAnnotations")
            .index(i)
            .child("valueExpression");
        let is_text = |of: &Type| matches!(of, Type::String | Type::Null | Type::Dyn);
        check(&mut errors, expression, "string or null", is_text, &path);
    }
    errors
}

fn of_mutating(mutating: &Mutating) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = FieldPath::new("spec");
    of_policy(&mut errors, &mutating.policy, &spec);
    for (i, mutation) in mutating.mutations.iter().enumerate() {
        let at = spec.child("mutations").index(i);
        match mutation {
            Mutation::Apply(expression) => {
                let path = at.child("applyConfiguration").child("expression");
                let is_object = |of: &Type| matches!(of, Type::Dynamic(_) | Type::Dyn);
                check(&mut errors, expression, "Object", is_object, &path);
            }
            Mutation::JsonPatch(expression) => {
                let path = at.child("jsonPatch").child("expression");
                let is_list =
                    |of: &Type| matches!(of, Type::Composite(Composite::List, _) | Type::Dyn);
                check(&mut errors, expression, "array(JSONPatch)", is_list, &path);
            }
        }
    }
    errors
}
