//! `x-kubernetes-validations`: rules of one part of a schema, compiled, and their evaluation over a value.

use std::sync::Arc;

use berth_api::field::{FieldError, FieldPath};
use berth_cel::{Bindings, Budget, Decl, Env, Program, Type, Value};
use serde_json::Value as Json;

/// The longest message that an expression makes.
const MAX_MESSAGE: usize = 5 * 1024;

/// The rules of one part of a schema.
#[derive(Debug)]
pub(crate) struct Rules {
    decl: Arc<Decl>,
    rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) program: Program,
    pub(crate) message_expression: Option<Program>,
    message: String,
    source: String,
    reason: Option<String>,
    field_path: String,
    pub(crate) uses_old: bool,
    optional_old: bool,
}

/// Why a rule can't be compiled.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// In `rule`.
    Rule(String),
    /// In `messageExpression`.
    Message(String),
}

/// The environments of the rules of a part of a schema: with `oldSelf` as it is, or as something optional.
pub(crate) struct Environments {
    plain: Env,
    optional: Env,
}

impl Environments {
    pub(crate) fn new(decl: &Arc<Decl>) -> Self {
        let env = Env::new().data("self", decl.clone());
        Self {
            plain: env.clone().data("oldSelf", decl.clone()),
            optional: env.optional("oldSelf", decl.clone()),
        }
    }

    /// Compiles one rule.
    pub(crate) fn compile(&self, json: &Json) -> Result<Rule, Wrong> {
        let text = |name: &str| json.get(name).and_then(Json::as_str).unwrap_or_default();
        let optional_old = json
            .get("optionalOldSelf")
            .and_then(Json::as_bool)
            .unwrap_or(false);
        let env = if optional_old {
            &self.optional
        } else {
            &self.plain
        };
        let source = text("rule");
        let program = env
            .compile(source)
            .map_err(|error| Wrong::Rule(format!("compilation failed: {error}")))?;
        if !matches!(program.output(), Type::Bool) {
            return Err(Wrong::Rule(
                "cel expression must evaluate to a bool".to_owned(),
            ));
        }
        let message_expression = match text("messageExpression").trim() {
            "" => None,
            _ => {
                let source = text("messageExpression");
                let program = env.compile(source).map_err(|error| {
                    Wrong::Message(format!("messageExpression compilation failed: {error}"))
                })?;
                if !matches!(program.output(), Type::String) {
                    return Err(Wrong::Message(
                        "messageExpression must evaluate to a string".to_owned(),
                    ));
                }
                Some(program)
            }
        };
        Ok(Rule {
            uses_old: program.uses("oldSelf"),
            program,
            message_expression,
            message: text("message").trim().to_owned(),
            source: source.trim().to_owned(),
            reason: json.get("reason").and_then(Json::as_str).map(str::to_owned),
            field_path: text("fieldPath").to_owned(),
            optional_old,
        })
    }
}

impl Rules {
    pub(crate) fn compile(schema: &Json, decl: Decl) -> Result<Self, String> {
        let decl = Arc::new(decl);
        let environments = Environments::new(&decl);
        let list = schema
            .get("x-kubernetes-validations")
            .and_then(Json::as_array);
        let rules = list
            .into_iter()
            .flatten()
            .map(|json| environments.compile(json))
            .collect::<Result<_, _>>();
        match rules {
            Ok(rules) => Ok(Self { decl, rules }),
            Err(Wrong::Rule(what) | Wrong::Message(what)) => Err(what),
        }
    }

    /// Evaluates the rules over a value and what it was before. False: no rule may be evaluated any more.
    pub(crate) fn evaluate(
        &self,
        place: &Place<'_>,
        value: &Json,
        old: Option<&Json>,
        budget: &mut Budget,
        errors: &mut Vec<FieldError>,
    ) -> bool {
        let invalid = |detail: String| FieldError::invalid(&place.at, place.kind, detail);
        if budget.left() == 0 {
            errors.push(invalid(NO_BUDGET.to_owned()));
            return false;
        }
        let converted = Value::typed(value, &self.decl).and_then(|current| {
            let old = old.map(|old| Value::typed(old, &self.decl)).transpose()?;
            Ok((current, old))
        });
        let (current, old) = match converted {
            Ok(converted) => converted,
            Err(error) => {
                errors.push(invalid(error.to_string()));
                return true;
            }
        };
        for rule in &self.rules {
            if rule.uses_old && old.is_none() && !rule.optional_old {
                continue;
            }
            let mut variables = Bindings::new().with("self", current.clone());
            if rule.optional_old {
                variables = variables.with("oldSelf", Value::Optional(old.clone().map(Into::into)));
            } else if let Some(old) = &old {
                variables = variables.with("oldSelf", old.clone());
            }
            match rule.program.evaluate(&variables, budget) {
                Ok(result) if result.as_bool() == Some(true) => {}
                Ok(_) => {
                    let (detail, go_on) = rule.detail(&variables, budget);
                    // What was wrong before and hasn't changed stays allowed; a transition is judged anew.
                    if rule.uses_old || !(place.unchanged)() {
                        errors.push(rule.error(place, value, &detail));
                    }
                    if !go_on {
                        return false;
                    }
                }
                Err(error) => {
                    let named = rule.named();
                    if error.is_cost_limit() {
                        errors.push(invalid(if budget.left() == 0 {
                            NO_BUDGET.to_owned()
                        } else {
                            format!("'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {named}")
                        }));
                        return false;
                    }
                    errors.push(invalid(if error.to_string().starts_with("no such overload") {
                        format!("'{error}': call arguments did not match a supported operator, function or macro signature for rule: {named}")
                    } else {
                        format!("{error} evaluating rule: {named}")
                    }));
                }
            }
        }
        true
    }
}

const NO_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Where a value is that rules judge.
pub(crate) struct Place<'p> {
    pub(crate) at: FieldPath,
    /// The type of the schema there, shown in place of the value.
    pub(crate) kind: &'static str,
    /// Whether the value, or what it is part of, is as it was.
    pub(crate) unchanged: &'p dyn Fn() -> bool,
}

impl Rule {
    fn named(&self) -> &str {
        if self.message.is_empty() {
            &self.source
        } else {
            &self.message
        }
    }

    /// What the error says, and whether further rules may be evaluated.
    fn detail(&self, variables: &Bindings<'_>, budget: &mut Budget) -> (String, bool) {
        let plain = || match self.message.as_str() {
            "" => format!("failed rule: {}", self.source),
            message => message.to_owned(),
        };
        let Some(program) = &self.message_expression else {
            return (plain(), true);
        };
        match program.evaluate(variables, budget) {
            Ok(value) => match value.as_str().map(str::trim) {
                Some(text)
                    if !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n') =>
                {
                    (text.to_owned(), true)
                }
                _ => (plain(), true),
            },
            Err(error) if error.is_cost_limit() => {
                let why = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
                (why.to_owned(), false)
            }
            Err(_) => (plain(), true),
        }
    }

    fn error(&self, place: &Place<'_>, value: &Json, detail: &str) -> FieldError {
        let at = match self.field_path.as_str() {
            "" => place.at.clone(),
            path => FieldPath::new(format!(
                "{}{}",
                place.at.as_str(),
                crate::path::shown(path, place.at.as_str().is_empty())
            )),
        };
        match self.reason.as_deref() {
            Some("FieldValueForbidden") => FieldError::forbidden(&at, detail),
            Some("FieldValueRequired") => FieldError::required(&at, detail),
            Some("FieldValueDuplicate") => FieldError::duplicate(&at, value),
            _ if value.is_object() || value.is_array() => {
                let mut error = FieldError::invalid(&at, "", detail);
                error.value.clear();
                error
            }
            _ => FieldError::invalid(&at, value, detail),
        }
    }
}
