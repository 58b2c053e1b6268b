//! Equality, order and arithmetic, as cel-spec has them: numbers compare across their types, overflow is an error.

use std::cmp::Ordering;

use indexmap::IndexMap;

use crate::budget::EvalError;
use crate::context::Context;
use crate::time;
use crate::types::ListKind;
use crate::value::{Items, Key, List, Map, Value};

type Result<'a> = std::result::Result<Value<'a>, EvalError>;

/// Whether two values are equal. Values of different types are not, except numbers.
pub(crate) fn equal<'a>(
    context: &mut Context<'_>,
    a: &Value<'a>,
    b: &Value<'a>,
) -> std::result::Result<bool, EvalError> {
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
        ) => compare_numbers(a, b) == Some(Ordering::Equal),
        (Value::String(a), Value::String(b)) => {
            context.work(a.len().min(b.len()))?;
            **a == **b
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            context.work(a.len().min(b.len()))?;
            a == b
        }
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => **a == **b,
        (Value::List(a), Value::List(b)) => return equal_lists(context, a, b),
        (Value::Map(a), Value::Map(b)) => return equal_maps(context, a, b),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => return equal(context, a, b),
            (a, b) => a.is_none() && b.is_none(),
        },
        (Value::Message(a), Value::Message(b)) => {
            if a.name != b.name || a.fields.len() != b.fields.len() {
                return Ok(false);
            }
            for (name, value) in &a.fields {
                let Some((_, other)) = b.fields.iter().find(|(other, _)| other == name) else {
                    return Ok(false);
                };
                if !equal(context, value, other)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Quantity(a), Value::Quantity(b)) => a == b,
        (Value::Ip(a), Value::Ip(b)) => a == b,
        (Value::Cidr(a), Value::Cidr(b)) => a == b,
        (Value::Url(a), Value::Url(b)) => a == b,
        (Value::Format(a), Value::Format(b)) => a.name == b.name,
        (Value::Semver(a), Value::Semver(b)) => a.compare(b) == Ordering::Equal,
        (Value::Decision(a), Value::Decision(b)) => a == b,
        (Value::Check(a), Value::Check(b)) => a.same(b),
        _ => false,
    })
}

fn equal_lists<'a>(
    context: &mut Context<'_>,
    a: &List<'a>,
    b: &List<'a>,
) -> std::result::Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    // The declaration of either counts: one side is often a literal.
    let kind = if *a.kind == ListKind::Atomic {
        b.kind
    } else {
        a.kind
    };
    for (index, one) in a.iter().enumerate() {
        context.visit()?;
        let one = one?;
        let other = match kind {
            ListKind::Atomic => match b.get(index) {
                Some(other) => other?,
                None => return Ok(false),
            },
            ListKind::Set => match find_paid(context, b, &one)? {
                Some(_) => continue,
                None => return Ok(false),
            },
            ListKind::Map(keys) => match find_keyed(context, b, &one, keys)? {
                Some(at) => match b.get(at) {
                    Some(other) => other?,
                    None => return Ok(false),
                },
                None => return Ok(false),
            },
        };
        if !equal(context, &one, &other)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where an element equal to this is.
pub(crate) fn find<'a>(
    context: &mut Context<'_>,
    list: &List<'a>,
    wanted: &Value<'a>,
) -> std::result::Result<Option<usize>, EvalError> {
    for (index, element) in list.iter().enumerate() {
        if equal(context, &element?, wanted)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// [`find`], where what going through the list costs isn't paid for.
fn find_paid<'a>(
    context: &mut Context<'_>,
    list: &List<'a>,
    wanted: &Value<'a>,
) -> std::result::Result<Option<usize>, EvalError> {
    context.charge(u64::try_from(list.len() / 10).unwrap_or(u64::MAX))?;
    find(context, list, wanted)
}

/// Where an element with the same values of the keys is.
fn find_keyed<'a>(
    context: &mut Context<'_>,
    list: &List<'a>,
    wanted: &Value<'a>,
    keys: &[String],
) -> std::result::Result<Option<usize>, EvalError> {
    let key_of = |value: &Value<'a>, key: &str| match value {
        Value::Map(map) => map
            .get(key)
            .and_then(std::result::Result::ok)
            .unwrap_or(Value::Null),
        _ => Value::Null,
    };
    for (index, element) in list.iter().enumerate() {
        context.visit()?;
        let element = element?;
        let mut same = true;
        for key in keys {
            same = same && equal(context, &key_of(&element, key), &key_of(wanted, key))?;
        }
        if same {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn equal_maps<'a>(
    context: &mut Context<'_>,
    a: &Map<'a>,
    b: &Map<'a>,
) -> std::result::Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    if let (Map::Object(a, of), Map::Object(b, _)) = (a, b) {
        for (name, json) in *a {
            context.visit()?;
            let Some(other) = b.get(name) else {
                return Ok(false);
            };
            let same = match of.fields.values().find(|field| field.name == *name) {
                Some(field) => equal(
                    context,
                    &Value::typed(json, &field.decl)?,
                    &Value::typed(other, &field.decl)?,
                )?,
                None => equal(context, &Value::json(json), &Value::json(other))?,
            };
            if !same {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let keys = a.keys();
    for index in 0..a.len() {
        context.visit()?;
        let Some((key, value)) = a.entry(index, &keys) else {
            return Ok(false);
        };
        let Some(other) = Key::of(&key).and_then(|key| b.get_key(&key)) else {
            return Ok(false);
        };
        if !equal(context, &value?, &other?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The order of two numbers, across types; None when one is no number.
pub(crate) fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Uint(b)) => {
            Some(u64::try_from(*a).map_or(Ordering::Less, |a| a.cmp(b)))
        }
        (Value::Int(a), Value::Double(b)) => compare_integer(i128::from(*a), *b),
        (Value::Uint(a), Value::Double(b)) => compare_integer(i128::from(*a), *b),
        (a, b) => compare_numbers_reversed(a, b),
    }
}

fn compare_numbers_reversed(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Uint(_), Value::Int(_)) | (Value::Double(_), Value::Int(_) | Value::Uint(_)) => {
            compare_numbers(b, a).map(Ordering::reverse)
        }
        _ => None,
    }
}

/// The order of a whole number and a double, exactly.
fn compare_integer(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    // Doubles beyond 2^70 saturate the cast far outside of what a can be.
    #[allow(clippy::cast_possible_truncation)]
    let whole = b.trunc() as i128;
    Some(
        a.cmp(&whole)
            .then_with(|| 0.0_f64.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal)),
    )
}

/// The order of two values of one type, for `<` and sorting; None when they have none.
pub(crate) fn compare(
    context: &mut Context<'_>,
    a: &Value<'_>,
    b: &Value<'_>,
) -> std::result::Result<Option<Ordering>, EvalError> {
    Ok(match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => {
            context.work(a.len().min(b.len()))?;
            Some((**a).cmp(&**b))
        }
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (a, b) => compare_numbers(a, b),
    })
}

/// `a < b` and its like.
pub(crate) fn ordered<'a>(
    context: &mut Context<'_>,
    function: &str,
    a: &Value<'a>,
    b: &Value<'a>,
) -> Result<'a> {
    let numbers =
        |value: &Value<'a>| matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_));
    let Some(order) = compare(context, a, b)? else {
        // Not a number is neither less nor greater.
        return if numbers(a) && numbers(b) {
            Ok(Value::Bool(false))
        } else {
            Err(EvalError::no_overload())
        };
    };
    Ok(Value::Bool(match function {
        "_<_" => order.is_lt(),
        "_<=_" => order.is_le(),
        "_>_" => order.is_gt(),
        _ => order.is_ge(),
    }))
}

fn overflow(kind: &str) -> EvalError {
    EvalError::new(format!("{kind} overflow"))
}

pub(crate) fn add<'a>(context: &mut Context<'_>, a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => {
            Value::Int(a.checked_add(*b).ok_or_else(|| overflow("integer"))?)
        }
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(
            a.checked_add(*b)
                .ok_or_else(|| overflow("unsigned integer"))?,
        ),
        (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        (Value::String(a), Value::String(b)) => {
            context.allocate(a.len() + b.len())?;
            Value::made([&**a, &**b].concat())
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            context.allocate(a.len() + b.len())?;
            Value::Bytes([&**a, &**b].concat().into())
        }
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_add(*b).ok_or_else(|| overflow("duration"))?)
        }
        (Value::Timestamp(at), Value::Duration(by))
        | (Value::Duration(by), Value::Timestamp(at)) => {
            Value::Timestamp(time::add(*at, *by).ok_or_else(|| overflow("timestamp"))?)
        }
        (Value::List(a), Value::List(b)) => return concatenate(context, a, b),
        _ => return Err(EvalError::no_overload()),
    })
}

/// Two lists, one behind the other; a set takes what it doesn't have, a keyed list replaces what has the same keys.
fn concatenate<'a>(context: &mut Context<'_>, a: &List<'a>, b: &List<'a>) -> Result<'a> {
    context.allocate_list(a.len() + b.len())?;
    let mut made: Vec<Value<'a>> = Vec::with_capacity(a.len() + b.len());
    for element in a.iter() {
        context.visit()?;
        made.push(element?);
    }
    let list = |made: Vec<Value<'a>>| List {
        items: Items::Made(made.into()),
        kind: a.kind,
    };
    if *a.kind == ListKind::Atomic {
        for element in b.iter() {
            context.visit()?;
            made.push(element?);
        }
        return Ok(Value::List(list(made)));
    }
    for element in b.iter() {
        let element = element?;
        let so_far = list(made);
        let known = match a.kind {
            ListKind::Map(keys) => find_keyed(context, &so_far, &element, keys)?,
            _ => find_paid(context, &so_far, &element)?,
        };
        let Items::Made(items) = so_far.items else {
            return Err(EvalError::no_overload());
        };
        made = std::rc::Rc::unwrap_or_clone(items);
        match known.and_then(|at| made.get_mut(at)) {
            Some(slot) => *slot = element,
            None => made.push(element),
        }
    }
    Ok(Value::List(list(made)))
}

pub(crate) fn subtract<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => {
            Value::Int(a.checked_sub(*b).ok_or_else(|| overflow("integer"))?)
        }
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(
            a.checked_sub(*b)
                .ok_or_else(|| overflow("unsigned integer"))?,
        ),
        (Value::Double(a), Value::Double(b)) => Value::Double(a - b),
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_sub(*b).ok_or_else(|| overflow("duration"))?)
        }
        (Value::Timestamp(at), Value::Duration(by)) => {
            let later = by.checked_neg().and_then(|by| time::add(*at, by));
            Value::Timestamp(later.ok_or_else(|| overflow("timestamp"))?)
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            Value::Duration(time::between(*a, *b).ok_or_else(|| overflow("timestamp"))?)
        }
        _ => return Err(EvalError::no_overload()),
    })
}

pub(crate) fn multiply<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => {
            Value::Int(a.checked_mul(*b).ok_or_else(|| overflow("integer"))?)
        }
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(
            a.checked_mul(*b)
                .ok_or_else(|| overflow("unsigned integer"))?,
        ),
        (Value::Double(a), Value::Double(b)) => Value::Double(a * b),
        _ => return Err(EvalError::no_overload()),
    })
}

pub(crate) fn divide<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    let by_zero = || EvalError::new("division by zero");
    Ok(match (a, b) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => return Err(by_zero()),
        (Value::Int(a), Value::Int(b)) => {
            Value::Int(a.checked_div(*b).ok_or_else(|| overflow("integer"))?)
        }
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_div(*b).ok_or_else(by_zero)?),
        (Value::Double(a), Value::Double(b)) => Value::Double(a / b),
        _ => return Err(EvalError::no_overload()),
    })
}

pub(crate) fn modulo<'a>(a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    let by_zero = || EvalError::new("modulus by zero");
    Ok(match (a, b) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => return Err(by_zero()),
        (Value::Int(a), Value::Int(b)) => {
            Value::Int(a.checked_rem(*b).ok_or_else(|| overflow("integer"))?)
        }
        (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_rem(*b).ok_or_else(by_zero)?),
        _ => return Err(EvalError::no_overload()),
    })
}

pub(crate) fn negate<'a>(value: &Value<'a>) -> Result<'a> {
    Ok(match value {
        Value::Int(value) => Value::Int(value.checked_neg().ok_or_else(|| overflow("integer"))?),
        Value::Double(value) => Value::Double(-value),
        _ => return Err(EvalError::no_overload()),
    })
}

/// `list[i]`, `map[k]`; None when there is no such element.
pub(crate) fn index<'a>(
    of: &Value<'a>,
    key: &Value<'a>,
) -> std::result::Result<Option<Value<'a>>, EvalError> {
    match of {
        Value::List(list) => {
            let at = match key {
                Value::Int(at) => *at,
                Value::Uint(at) => i64::try_from(*at).unwrap_or(-1),
                Value::Double(at) => crate::value::exact_int(*at).ok_or_else(|| {
                    EvalError::new(format!("unsupported index value '{at}' in list"))
                })?,
                other => {
                    return Err(EvalError::new(format!(
                        "unsupported index type '{}' in list",
                        &*other.type_name()
                    )));
                }
            };
            usize::try_from(at)
                .ok()
                .and_then(|at| list.get(at))
                .transpose()
        }
        Value::Map(map) => {
            let Some(key) = Key::of(key) else {
                return match key {
                    Value::Double(_) => Ok(None),
                    other => Err(EvalError::new(format!(
                        "unsupported key type: {}",
                        &*other.type_name()
                    ))),
                };
            };
            map.get_key(&key).transpose()
        }
        Value::Optional(_) | Value::Message(_) => Err(EvalError::no_overload()),
        _ => Err(EvalError::no_overload()),
    }
}

/// A map with another entry.
pub(crate) fn insert<'a>(
    entries: &mut IndexMap<Key, Value<'a>>,
    key: &Value<'a>,
    value: Value<'a>,
) -> std::result::Result<(), EvalError> {
    let key = Key::of(key)
        .ok_or_else(|| EvalError::new(format!("unsupported key type: {}", &*key.type_name())))?;
    if entries.contains_key(&key) {
        let shown = match &key {
            Key::Bool(value) => value.to_string(),
            Key::Int(value) => value.to_string(),
            Key::Uint(value) => value.to_string(),
            Key::String(value) => value.to_string(),
        };
        return Err(EvalError::new(format!(
            "insert failed: key {shown} already exists"
        )));
    }
    entries.insert(key, value);
    Ok(())
}

/// That there is no such element or entry.
pub(crate) fn missing(what: &Value<'_>, key: &Value<'_>) -> EvalError {
    match (what, key) {
        (Value::List(_), Value::Int(at)) => EvalError::new(format!("index out of bounds: {at}")),
        (_, Value::String(key)) => EvalError::new(format!("no such key: {}", &**key)),
        (_, Value::Int(key)) => EvalError::new(format!("no such key: {key}")),
        (_, Value::Uint(key)) => EvalError::new(format!("no such key: {key}")),
        (_, Value::Bool(key)) => EvalError::new(format!("no such key: {key}")),
        _ => EvalError::new("no such key"),
    }
}
