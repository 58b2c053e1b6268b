//! CEL expressions about requests: what they see, and conditions of webhooks and policies.
//!
//! Expressions are evaluated within bounds ([`berth_cel::Budget`]), away from the worker that serves connections: whoever
//! writes an object chooses how long an expression takes, up to the bound.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use berth_cel::{
    Authorizer as CelAuthorizer, Budget, Check, Decision as CelDecision, Decl, DeclKind, Env,
    EvalError, Lazy, MATCH_CONDITIONS_LIMIT, Program, Question, Value, Variables, namespace_decl,
    request_decl, variables_decl,
};
use k8s_openapi::api::admissionregistration::v1::{MatchCondition, Variable};
use serde_json::Value as Json;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::attributes::{Action, Asked, Attributes, ResourceAttributes};
use crate::authz::{Authorizer, Decision};
use crate::selector::Selection;
use crate::user::{AUTHENTICATED, User};

static REQUEST: LazyLock<Arc<Decl>> = LazyLock::new(|| Arc::new(request_decl()));
static NAMESPACE: LazyLock<Arc<Decl>> = LazyLock::new(|| Arc::new(namespace_decl()));

/// What an expression sees besides the objects and the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sees {
    /// `params`
    pub(super) params: bool,
    /// `authorizer`
    pub(super) authorizer: bool,
}

/// The environment of an expression.
pub(super) fn environment(sees: Sees) -> Env {
    let any = || Arc::new(Decl::of(DeclKind::Dyn));
    let mut env = Env::new()
        .data("object", any())
        .data("oldObject", any())
        .data("namespaceObject", Arc::clone(&NAMESPACE))
        .data("request", Arc::clone(&REQUEST));
    if sees.params {
        env = env.data("params", any());
    }
    if sees.authorizer {
        env = env.authorizer(true);
    }
    env
}

/// A compiled expression, or why it is none.
pub(super) struct Expression {
    pub(super) source: String,
    program: Result<Program, String>,
}

impl Expression {
    pub(super) fn new(env: &Env, source: &str) -> Self {
        Self {
            source: source.to_owned(),
            program: env.compile(source).map_err(|e| e.to_string()),
        }
    }

    /// Why it cannot be evaluated; none when it can.
    pub(super) fn error(&self) -> Option<&str> {
        self.program.as_ref().err().map(String::as_str)
    }

    /// The type of its value.
    pub(super) fn program(&self) -> Option<&Program> {
        self.program.as_ref().ok()
    }

    /// Its value, within a budget.
    ///
    /// # Errors
    /// In the words of the stock server.
    pub(super) fn evaluate<'a>(
        &'a self,
        scope: &Scope<'a>,
        budget: &mut Budget,
    ) -> Result<Value<'a>, String> {
        let program = self
            .program
            .as_ref()
            .map_err(|why| format!("compilation error: {why}"))?;
        program.evaluate(scope, budget).map_err(|error| {
            if error.is_cost_limit() && budget.left() == 0 {
                return OUT_OF_BUDGET.to_owned();
            }
            format!("expression '{}' resulted in error: {error}", self.source)
        })
    }
}

/// What is said when nothing is left for more expressions.
pub(super) const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Variables of a policy, in order; each sees those before it.
#[derive(Default)]
pub(super) struct Composed {
    variables: Vec<(String, Expression)>,
}

impl Composed {
    /// Compiles the variables, and adds `variables` to the environment.
    pub(super) fn new(env: Env, variables: &[Variable]) -> (Self, Env) {
        let mut all = Vec::with_capacity(variables.len());
        let mut fields = BTreeMap::new();
        let with = |fields: &BTreeMap<_, _>| env.clone().data("variables", variables_decl(fields));
        for variable in variables {
            let expression = Expression::new(&with(&fields), &variable.expression);
            let ty = expression.program().map(|program| program.output().clone());
            fields.insert(variable.name.clone(), ty);
            all.push((variable.name.clone(), expression));
        }
        let env = with(&fields);
        (Self { variables: all }, env)
    }

    /// The variables, with why one is none.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.variables.iter().map(|(_, expression)| expression)
    }
}

/// What is known of a request.
pub(super) struct Facts<'a> {
    pub(super) object: &'a Json,
    pub(super) old: &'a Json,
    pub(super) request: &'a Json,
    pub(super) params: &'a Json,
    pub(super) namespace: &'a Json,
    pub(super) authorizer: &'a dyn CelAuthorizer,
    /// What `authorizer.requestResource` asks about.
    pub(super) question: Question,
}

/// The values of variables for one object: those of a policy are made when they are asked for, once.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    facts: &'a Facts<'a>,
    composed: Option<&'a Composed>,
    made: Rc<RefCell<HashMap<&'a str, Result<Value<'a>, EvalError>>>>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(facts: &'a Facts<'a>, composed: Option<&'a Composed>) -> Self {
        Self {
            facts,
            composed,
            made: Rc::default(),
        }
    }
}

impl<'a> Variables<'a> for Scope<'a> {
    fn get(&self, name: &str, _budget: &mut Budget) -> Option<Result<Value<'a>, EvalError>> {
        let facts = self.facts;
        Some(Ok(match name {
            "object" => Value::json(facts.object),
            "oldObject" => Value::json(facts.old),
            "params" => Value::json(facts.params),
            "namespaceObject" => return Some(Value::typed(facts.namespace, &NAMESPACE)),
            "request" => return Some(Value::typed(facts.request, &REQUEST)),
            "authorizer" => Value::Check(Rc::new(Check::new(facts.authorizer))),
            "authorizer.requestResource" => Value::Check(Rc::new(Check::resource(
                facts.authorizer,
                facts.question.clone(),
            ))),
            "variables" => Value::Lazy(Rc::new(self.clone())),
            _ => return None,
        }))
    }
}

impl<'a> Lazy<'a> for Scope<'a> {
    fn field(&self, name: &str, budget: &mut Budget) -> Option<Result<Value<'a>, EvalError>> {
        if let Some(made) = self.made.borrow().get(name) {
            return Some(made.clone());
        }
        let composed = self.composed?;
        let (name, expression) = composed.variables.iter().find(|(known, _)| known == name)?;
        let value = match &expression.program {
            Ok(program) => program.evaluate(self, budget),
            Err(why) => Err(EvalError::new(format!(
                "composited variable {name:?} fails to compile: {why}"
            ))),
        };
        let value = value.map_err(|error| {
            if error.is_cost_limit() {
                return error;
            }
            EvalError::new(format!(
                "composited variable {name:?} fails to evaluate: {error}"
            ))
        });
        self.made.borrow_mut().insert(name, value.clone());
        Some(value)
    }
}

/// Conditions under which a webhook or policy is asked.
#[derive(Default)]
pub(super) struct Conditions(Vec<Expression>);

/// Whether all hold.
pub(super) enum Matched {
    Yes,
    No,
    /// None is false, and some have no value.
    Failed(String),
}

impl Conditions {
    pub(super) fn new(env: &Env, conditions: &[MatchCondition]) -> Self {
        let compile = |c: &MatchCondition| Expression::new(env, &c.expression);
        Self(conditions.iter().map(compile).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The conditions, with why one is none.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.0.iter()
    }

    /// Evaluates them. One that is false decides, whatever is wrong with others.
    ///
    /// They may name `namespaceObject`, which is null here, as on a stock server (`matchconditions/matcher.go` of 1.36 hands no
    /// namespace over): what one of them reads of it is an error.
    pub(super) fn evaluate(&self, facts: &Facts<'_>) -> Matched {
        let facts = &Facts {
            namespace: &Json::Null,
            question: facts.question.clone(),
            ..*facts
        };
        let mut budget = Budget::new(MATCH_CONDITIONS_LIMIT);
        let mut errors = Vec::new();
        for condition in &self.0 {
            let scope = Scope::new(facts, None);
            match condition.evaluate(&scope, &mut budget) {
                Ok(value) => match value.as_bool() {
                    Some(true) => {}
                    Some(false) => return Matched::No,
                    None => errors.push(format!(
                        "expression '{}' is not a boolean",
                        condition.source
                    )),
                },
                Err(why) => errors.push(why),
            }
            if budget.left() == 0 {
                break;
            }
        }
        match errors.as_slice() {
            [] => Matched::Yes,
            [one] => Matched::Failed(one.clone()),
            many => Matched::Failed(format!("[{}]", many.join(", "))),
        }
    }
}

/// Answers the checks of expressions.
pub(super) struct Checks<'a> {
    pub(super) authorizer: &'a Authorizer,
    pub(super) user: &'a User,
}

impl CelAuthorizer for Checks<'_> {
    fn authorize(&self, question: &Question) -> CelDecision {
        let account = question
            .service_account
            .as_ref()
            .map(|(namespace, name)| User {
                name: format!("system:serviceaccount:{namespace}:{name}"),
                groups: vec![
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                    AUTHENTICATED.to_owned(),
                ],
                ..User::default()
            });
        let user = account.as_ref().unwrap_or(self.user);
        // One that cannot be read selects nothing less than everything.
        let selection = Selection::read(&question.label_selector, &question.field_selector).ok();
        let asked = match &question.path {
            Some(path) => Asked::Path {
                method: &question.verb,
                path,
            },
            None => Asked::Resource(ResourceAttributes {
                action: Action::from_name(&question.verb),
                group: &question.group,
                version: "*",
                namespace: &question.namespace,
                resource: &question.resource,
                subresource: &question.subresource,
                name: &question.name,
                selection: selection.as_ref(),
            }),
        };
        let (allowed, reason) = match self.authorizer.authorize(&Attributes { user, asked }) {
            Decision::Allow(reason) => (true, reason),
            Decision::NoOpinion(reason) => (false, reason),
        };
        CelDecision {
            allowed,
            reason,
            error: None,
        }
    }
}

/// Evaluates where nobody waits for the worker.
pub(super) fn off_worker<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        Ok(_) | Err(_) => work(),
    }
}
