//! Operators, `size`, and optional values.

use std::rc::Rc;

use crate::budget::EvalError;
use crate::context::Context;
use crate::ops::{self, missing};
use crate::value::{Key, Map, Value};

pub(super) fn run<'a>(
    context: &mut Context<'_>,
    name: &str,
    args: &[Value<'a>],
) -> Result<Value<'a>, EvalError> {
    if let ("@in", [Value::String(key), Value::Map(_)])
    | ("_[_]" | "_[?_]", [Value::Map(_), Value::String(key)]) = (name, args)
    {
        // It is hashed or compared, and copied for a map that the expression made.
        context.work(key.len())?;
    }
    match (name, args) {
        ("!_", [Value::Bool(value)]) => Ok(Value::Bool(!value)),
        ("@not_strictly_false", [value]) => Ok(Value::Bool(!matches!(value, Value::Bool(false)))),
        ("_==_", [a, b]) => ops::equal(context, a, b).map(Value::Bool),
        ("_!=_", [a, b]) => ops::equal(context, a, b).map(|equal| Value::Bool(!equal)),
        ("_+_", [a, b]) => ops::add(context, a, b),
        ("_-_", [a, b]) => ops::subtract(a, b),
        ("_*_", [a, b]) => ops::multiply(a, b),
        ("_/_", [a, b]) => ops::divide(a, b),
        ("_%_", [a, b]) => ops::modulo(a, b),
        ("-_", [value]) => ops::negate(value),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [a, b]) => ops::ordered(context, name, a, b),
        ("_[_]", [Value::Optional(None), _]) => Ok(Value::Optional(None)),
        ("_[_]" | "_[?_]", [Value::Optional(Some(inner)), key]) => optional_index(inner, key),
        ("_[_]", [of, key]) => ops::index(of, key)?.ok_or_else(|| missing(of, key)),
        ("_[?_]", [Value::Optional(None), _]) => Ok(Value::Optional(None)),
        ("_[?_]", [of, key]) => optional_index(of, key),
        ("@in", [value, Value::List(list)]) => {
            Ok(Value::Bool(ops::find(context, list, value)?.is_some()))
        }
        ("@in", [key, Value::Map(map)]) => Ok(Value::Bool(match Key::of(key) {
            // Whether it can be converted is no question of membership.
            Some(Key::String(key)) if matches!(map, Map::Json(fields, _) if fields.contains_key(&*key)) => {
                true
            }
            Some(key) => map.get_key(&key).is_some(),
            None => false,
        })),
        (
            "size",
            [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))],
        ) => {
            if let Value::String(text) = value {
                context.work(text.len())?;
            }
            i64::try_from(value.size())
                .map(Value::Int)
                .map_err(|_| EvalError::new("integer overflow"))
        }
        ("optional.of", [value]) => Ok(Value::some(value.clone())),
        ("optional.ofNonZeroValue", [value]) => Ok(if is_zero(value) {
            Value::Optional(None)
        } else {
            Value::some(value.clone())
        }),
        ("optional.none", []) => Ok(Value::Optional(None)),
        ("value", [Value::Optional(Some(inner))]) => Ok((**inner).clone()),
        ("value", [Value::Optional(None)]) => Err(EvalError::new("optional.none() dereference")),
        ("hasValue", [Value::Optional(inner)]) => Ok(Value::Bool(inner.is_some())),
        ("optional.unwrap" | "unwrapOpt", [Value::List(list)]) => {
            context.allocate_list(list.len())?;
            let mut values = Vec::new();
            for value in list.iter() {
                match value? {
                    Value::Optional(Some(inner)) => values.push(Rc::unwrap_or_clone(inner)),
                    Value::Optional(None) => {}
                    _ => return Err(EvalError::new("value is not optional")),
                }
            }
            context.charge(u64::try_from(list.len()).unwrap_or(u64::MAX))?;
            Ok(Value::list(values))
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn optional_index<'a>(of: &Value<'a>, key: &Value<'a>) -> Result<Value<'a>, EvalError> {
    Ok(ops::index(of, key)?.map_or(Value::Optional(None), Value::some))
}

/// Whether a value is what an unset field would be.
#[allow(clippy::float_cmp)]
fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Optional(None) => true,
        Value::Bool(value) => !value,
        Value::Int(value) | Value::Duration(value) => *value == 0,
        Value::Uint(value) => *value == 0,
        Value::Double(value) => *value == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Message(message) => message.fields.is_empty(),
        _ => false,
    }
}
