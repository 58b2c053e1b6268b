//! Lists and sets: Kubernetes' own functions, version 3 of cel-go's list extension, and its sets.

use std::cmp::Ordering;

use crate::budget::EvalError;
use crate::context::Context;
use crate::ops;
use crate::value::{List, Text, Value};

type Result<'a> = std::result::Result<Value<'a>, EvalError>;

pub(super) fn run<'a>(context: &mut Context<'_>, name: &str, args: &[Value<'a>]) -> Result<'a> {
    match (name, args) {
        ("indexOf" | "lastIndexOf", [Value::String(text), rest @ ..]) => {
            string_index(context, name, text, rest)
        }
        ("indexOf", [Value::List(list), wanted]) => position(ops::find(context, list, wanted)?),
        ("lastIndexOf", [Value::List(list), wanted]) => {
            let mut last = None;
            for (index, element) in list.iter().enumerate() {
                if ops::equal(context, &element?, wanted)? {
                    last = Some(index);
                }
            }
            position(last)
        }
        ("isSorted", [Value::List(list)]) => is_sorted(context, list),
        ("sum", [Value::List(list)]) => sum(context, list),
        ("max" | "min", [Value::List(list)]) => extreme(context, list, name),
        ("slice", [Value::List(list), Value::Int(start), Value::Int(end)]) => {
            slice(context, list, *start, *end)
        }
        ("flatten", [Value::List(list)]) => flatten(context, list, 1),
        ("flatten", [Value::List(list), Value::Int(depth)]) => flatten(context, list, *depth),
        ("sort", [Value::List(list)]) => sort(context, list, list),
        ("@sortByAssociatedKeys", [Value::List(list), Value::List(keys)]) => {
            sort(context, list, keys)
        }
        ("lists.range", [Value::Int(end)]) => range(context, *end),
        ("reverse", [Value::List(list)]) => {
            context.allocate_list(list.len())?;
            let mut values = all(list)?;
            values.reverse();
            Ok(Value::list(values))
        }
        ("distinct", [Value::List(list)]) => distinct(context, list),
        ("first", [Value::List(list)]) => Ok(list
            .get(0)
            .transpose()?
            .map_or(Value::Optional(None), Value::some)),
        ("last", [Value::List(list)]) => {
            let last = list.len().checked_sub(1).and_then(|index| list.get(index));
            Ok(last.transpose()?.map_or(Value::Optional(None), Value::some))
        }
        ("sets.contains", [Value::List(list), Value::List(part)]) => {
            contains(context, list, part).map(Value::Bool)
        }
        ("sets.equivalent", [Value::List(a), Value::List(b)]) => Ok(Value::Bool(
            contains(context, a, b)? && contains(context, b, a)?,
        )),
        ("sets.intersects", [Value::List(a), Value::List(b)]) => {
            for element in a.iter() {
                if ops::find(context, b, &element?)?.is_some() {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn all<'a>(list: &List<'a>) -> std::result::Result<Vec<Value<'a>>, EvalError> {
    list.iter().collect()
}

fn position<'a>(index: Option<usize>) -> Result<'a> {
    Ok(Value::Int(index.map_or(-1, |index| {
        i64::try_from(index).unwrap_or(i64::MAX)
    })))
}

fn contains<'a>(
    context: &mut Context<'_>,
    list: &List<'a>,
    part: &List<'a>,
) -> std::result::Result<bool, EvalError> {
    for element in part.iter() {
        if ops::find(context, list, &element?)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where a string is in a string, in code points.
fn string_index<'a>(
    context: &mut Context<'_>,
    name: &str,
    text: &Text<'a>,
    rest: &[Value<'a>],
) -> Result<'a> {
    let (wanted, offset) = match rest {
        [Value::String(wanted)] => (wanted, None),
        [Value::String(wanted), Value::Int(offset)] => (wanted, Some(*offset)),
        _ => return Err(EvalError::no_overload()),
    };
    context.work(text.len().saturating_mul(10))?;
    let count = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(offset) = offset.filter(|offset| *offset < 0) {
        return Err(EvalError::new(format!("index out of range: {offset}")));
    }
    if wanted.is_empty() {
        let at = offset.map_or(if name == "indexOf" { 0 } else { count }, |offset| {
            offset.min(count)
        });
        return Ok(Value::Int(at));
    }
    if offset.is_some_and(|offset| offset >= count) {
        return Ok(Value::Int(-1));
    }
    let byte = |index: i64| {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        text.char_indices()
            .nth(index)
            .map_or(text.len(), |(at, _)| at)
    };
    let found = match (name, offset) {
        ("indexOf", offset) => {
            let from = byte(offset.unwrap_or(0));
            text.get(from..)
                .and_then(|tail| tail.find(&**wanted))
                .map(|at| at + from)
        }
        (_, None) => text.rfind(&**wanted),
        (_, Some(offset)) => {
            let end = byte(offset).saturating_add(wanted.len()).min(text.len());
            let mut end = end;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.get(..end).and_then(|head| head.rfind(&**wanted))
        }
    };
    position(found.map(|at| text[..at].chars().count()))
}

fn order(
    context: &mut Context<'_>,
    a: &Value<'_>,
    b: &Value<'_>,
) -> std::result::Result<Ordering, EvalError> {
    ops::compare(context, a, b)?.ok_or_else(EvalError::no_overload)
}

fn is_sorted<'a>(context: &mut Context<'_>, list: &List<'a>) -> Result<'a> {
    let mut previous: Option<Value<'a>> = None;
    for element in list.iter() {
        let element = element?;
        if let Some(previous) = &previous
            && order(context, previous, &element)?.is_gt()
        {
            return Ok(Value::Bool(false));
        }
        previous = Some(element);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(context: &mut Context<'_>, list: &List<'a>) -> Result<'a> {
    let mut total: Option<Value<'a>> = None;
    for element in list.iter() {
        let element = element?;
        if !matches!(
            element,
            Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_)
        ) {
            return Err(EvalError::no_overload());
        }
        total = Some(match total {
            None => element,
            Some(total) => ops::add(context, &total, &element)?,
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'a>(context: &mut Context<'_>, list: &List<'a>, name: &str) -> Result<'a> {
    let mut best: Option<Value<'a>> = None;
    for element in list.iter() {
        let element = element?;
        let better = match &best {
            None => true,
            Some(best) => {
                let order = order(context, &element, best)?;
                if name == "max" {
                    order.is_gt()
                } else {
                    order.is_lt()
                }
            }
        };
        if better {
            best = Some(element);
        }
    }
    best.ok_or_else(|| EvalError::new(format!("{name} called on empty list")))
}

fn slice<'a>(context: &mut Context<'_>, list: &List<'a>, start: i64, end: i64) -> Result<'a> {
    let wrong = |why: String| EvalError::new(format!("cannot slice({start}, {end}), {why}"));
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
        return Err(wrong("negative indexes not supported".to_owned()));
    };
    if from > to {
        return Err(wrong(
            "start index must be less than or equal to end index".to_owned(),
        ));
    }
    if list.len() < to {
        return Err(wrong(format!("list is length {}", list.len())));
    }
    context.allocate_list(to - from)?;
    let values: std::result::Result<Vec<_>, _> =
        (from..to).map_while(|index| list.get(index)).collect();
    Ok(Value::list(values?))
}

fn flatten<'a>(context: &mut Context<'_>, list: &List<'a>, depth: i64) -> Result<'a> {
    if depth < 0 {
        return Err(EvalError::new("level must be non-negative"));
    }
    let mut values = Vec::new();
    flatten_into(context, &mut values, list, depth, 0)?;
    Ok(Value::list(values))
}

fn flatten_into<'a>(
    context: &mut Context<'_>,
    values: &mut Vec<Value<'a>>,
    list: &List<'a>,
    depth: i64,
    level: u32,
) -> std::result::Result<(), EvalError> {
    if level > 250 {
        return Err(EvalError::too_expensive());
    }
    for element in list.iter() {
        context.allocate_list(1)?;
        context.charge(1)?;
        match element? {
            Value::List(inner) if depth > 0 => {
                flatten_into(context, values, &inner, depth - 1, level + 1)?
            }
            element => values.push(element),
        }
    }
    Ok(())
}

fn sort<'a>(context: &mut Context<'_>, list: &List<'a>, keys: &List<'a>) -> Result<'a> {
    let comparable = |value: &Value<'_>| {
        matches!(
            value,
            Value::Bool(_)
                | Value::Int(_)
                | Value::Uint(_)
                | Value::Double(_)
                | Value::String(_)
                | Value::Bytes(_)
                | Value::Duration(_)
                | Value::Timestamp(_)
        )
    };
    if list.len() != keys.len() {
        return Err(EvalError::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} \
             elements respectively",
            list.len(),
            keys.len()
        )));
    }
    context.allocate_list(list.len().saturating_mul(2))?;
    let keys = all(keys)?;
    let Some(first) = keys.first() else {
        return Ok(Value::list(Vec::new()));
    };
    if !comparable(first) {
        return Err(EvalError::new("list elements must be comparable"));
    }
    if keys
        .iter()
        .any(|key| std::mem::discriminant(key) != std::mem::discriminant(first))
    {
        return Err(EvalError::new("list elements must have the same type"));
    }
    let mut pairs: Vec<(Value<'a>, Value<'a>)> = keys.into_iter().zip(all(list)?).collect();
    let mut failed = None;
    pairs.sort_by(|(a, _), (b, _)| match ops::compare(context, a, b) {
        Ok(order) => order.unwrap_or(Ordering::Equal),
        Err(error) => {
            failed = Some(error);
            Ordering::Equal
        }
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(Value::list(
            pairs.into_iter().map(|(_, value)| value).collect(),
        )),
    }
}

fn range<'a>(context: &mut Context<'_>, end: i64) -> Result<'a> {
    let count = usize::try_from(end).unwrap_or(0);
    // Before it is made: the end is chosen freely.
    context.charge(u64::try_from(count).unwrap_or(u64::MAX))?;
    context.allocate_list(count)?;
    Ok(Value::list((0..end).map(Value::Int).collect()))
}

fn distinct<'a>(context: &mut Context<'_>, list: &List<'a>) -> Result<'a> {
    let mut kept: Vec<Value<'a>> = Vec::new();
    for element in list.iter() {
        let element = element?;
        let mut known = false;
        for other in &kept {
            context.work(100)?;
            if ops::equal(context, other, &element)? {
                known = true;
                break;
            }
        }
        if !known {
            context.allocate_list(1)?;
            kept.push(element);
        }
    }
    Ok(Value::list(kept))
}
