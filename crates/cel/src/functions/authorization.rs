//! `authorizer`: a check is put together step by step, and asked by `check`.

use std::rc::Rc;

use berth_api::names;

use crate::authorizer::{Check, Stage};
use crate::budget::EvalError;
use crate::context::Context;
use crate::value::Value;

pub(super) fn run<'a>(
    _: &mut Context<'_>,
    name: &str,
    args: &[Value<'a>],
) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Decision(decision)] => Ok(match name {
            "allowed" => Value::Bool(decision.allowed),
            "errored" => Value::Bool(decision.error.is_some()),
            "error" => Value::made(decision.error.clone().unwrap_or_default()),
            "reason" => Value::made(decision.reason.clone()),
            _ => return Err(EvalError::no_overload()),
        }),
        [
            Value::Check(check),
            Value::String(namespace),
            Value::String(account),
        ] if name == "serviceAccount" && check.stage == Stage::Authorizer => {
            if !names::dns1123_subdomain(account).is_empty() {
                return Err(EvalError::new("Invalid service account name"));
            }
            if !names::dns1123_label(namespace).is_empty() {
                return Err(EvalError::new("Invalid service account namespace"));
            }
            let mut next = (**check).clone();
            next.question.service_account = Some((namespace.to_string(), account.to_string()));
            Ok(Value::Check(Rc::new(next)))
        }
        [Value::Check(check), Value::String(text)] => step(check, name, text),
        _ => Err(EvalError::no_overload()),
    }
}

fn step<'a>(check: &Check<'a>, name: &str, text: &str) -> Result<Value<'a>, EvalError> {
    let mut next = check.clone();
    match (name, check.stage) {
        ("path", Stage::Authorizer) => {
            if text.trim().is_empty() {
                return Err(EvalError::new("path must not be empty"));
            }
            next.stage = Stage::Path;
            next.question.path = Some(text.to_owned());
        }
        ("group", Stage::Authorizer) => {
            next.stage = Stage::Group;
            text.clone_into(&mut next.question.group);
        }
        ("resource", Stage::Group) => {
            if text.trim().is_empty() {
                return Err(EvalError::new("resource must not be empty"));
            }
            next.stage = Stage::Resource;
            text.clone_into(&mut next.question.resource);
        }
        ("subresource", Stage::Resource) => text.clone_into(&mut next.question.subresource),
        ("namespace", Stage::Resource) => text.clone_into(&mut next.question.namespace),
        ("name", Stage::Resource) => text.clone_into(&mut next.question.name),
        ("fieldSelector", Stage::Resource) => text.clone_into(&mut next.question.field_selector),
        ("labelSelector", Stage::Resource) => text.clone_into(&mut next.question.label_selector),
        ("check", Stage::Path | Stage::Resource) => {
            text.clone_into(&mut next.question.verb);
            return Ok(Value::Decision(Rc::new(
                check.authorizer.authorize(&next.question),
            )));
        }
        _ => return Err(EvalError::no_overload()),
    }
    Ok(Value::Check(Rc::new(next)))
}
