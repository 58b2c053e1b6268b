//! What calls cost while evaluating: cel-go's and Kubernetes' rules, in units of about 50 ns.

use crate::value::Value;

pub(crate) const CREATE_LIST: u64 = 10;
pub(crate) const CREATE_MAP: u64 = 30;
pub(crate) const CREATE_MESSAGE: u64 = 40;
/// An authorization check: two of them fit into an expression.
pub(crate) const AUTHORIZATION_CHECK: u64 = 350_000;

/// So many tenths of a unit for each element, rounded up.
pub(crate) fn tenths(size: u64, tenths: u64) -> u64 {
    size.saturating_mul(tenths).div_ceil(10)
}

/// A regular expression of this length over a text of this length.
pub(crate) fn regex(text: u64, pattern: u64) -> u64 {
    tenths(text.saturating_add(1), 1).saturating_mul(pattern.div_ceil(4))
}

fn size(values: &[Value<'_>], at: usize) -> u64 {
    values.get(at).map_or(1, Value::size)
}

/// Going through a list and all that is in it.
fn traversal(value: &Value<'_>) -> u64 {
    fn within(value: &Value<'_>, depth: u32) -> u64 {
        match value {
            Value::String(text) => u64::try_from(text.len()).unwrap_or(u64::MAX) / 10,
            Value::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX) / 10,
            Value::List(list) if depth > 0 => list.iter().flatten().fold(0, |sum, element| {
                within(&element, depth - 1).saturating_add(sum)
            }),
            // Deeper down it is the size, which is known without going there.
            Value::List(_) | Value::Map(_) => value.size(),
            _ => 1,
        }
    }
    within(value, 2)
}

/// Quadratic: each element with each other.
fn pairs(list: &Value<'_>) -> u64 {
    let size = list.size();
    let strings = matches!(list, Value::List(list) if matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_)))));
    tenths(size.saturating_mul(size), if strings { 21 } else { 20 }).saturating_add(1 + CREATE_LIST)
}

/// What a call costs by its arguments, before it is made.
pub(crate) fn of_call(function: &str, method: bool, values: &[Value<'_>]) -> u64 {
    let first = || size(values, 0);
    match function {
        "check" => AUTHORIZATION_CHECK,
        "fieldSelector" | "labelSelector" => {
            let length = size(values, 1);
            10 + tenths(length, 1)
                + length
                    .div_ceil(2)
                    .saturating_mul(CREATE_LIST + CREATE_MESSAGE)
        }
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
            values.first().map_or(0, traversal)
        }
        "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "isIP"
        | "isCIDR"
        | "cidr"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver"
        | "startsWith"
        | "endsWith"
        | "format"
        | "strings.quote"
        | "url"
        | "isURL"
        | "charAt" => tenths(first(), 1),
        "ip" => {
            if method {
                1
            } else {
                tenths(first(), 1)
            }
        }
        "replace" | "split" | "ip.isCanonical" => tenths(first(), 2),
        "find" | "findAll" | "matches" => regex(first(), size(values, 1)),
        "containsIP" | "containsCIDR" => {
            let text = if matches!(values.get(1), Some(Value::String(_))) {
                tenths(size(values, 1), 1)
            } else {
                0
            };
            let network = if function == "containsCIDR" {
                tenths(first(), 1) + 1
            } else {
                0
            };
            tenths(first().saturating_mul(2), 1) + network + text
        }
        "validate" => match values {
            [Value::Format(format), text] => regex(text.size(), format.regex_size),
            _ => 1,
        },
        "bytes" | "string" => match values.first() {
            Some(Value::String(_) | Value::Bytes(_)) => tenths(first(), 1),
            _ => 1,
        },
        "@in" => {
            if matches!(values.get(1), Some(Value::List(_))) {
                size(values, 1)
            } else {
                1
            }
        }
        "_==_" | "_!=_" => match values.first() {
            Some(
                Value::Quantity(_)
                | Value::Ip(_)
                | Value::Cidr(_)
                | Value::Url(_)
                | Value::Format(_)
                | Value::Semver(_)
                | Value::Check(_)
                | Value::Decision(_),
            ) => 1,
            _ => tenths(first().min(size(values, 1)), 1),
        },
        "_<_" | "_<=_" | "_>_" | "_>=_" => tenths(first().min(size(values, 1)), 1).max(1),
        "_+_" => match values.first() {
            Some(Value::String(_) | Value::Bytes(_)) => {
                tenths(first().saturating_add(size(values, 1)), 1)
            }
            _ => 1,
        },
        "contains" => tenths(first(), 1).saturating_mul(tenths(size(values, 1), 1)),
        "sets.contains" | "sets.intersects" => {
            first().saturating_mul(size(values, 1)).saturating_add(1)
        }
        "sets.equivalent" => first()
            .saturating_mul(size(values, 1))
            .saturating_mul(2)
            .saturating_add(1),
        "sort" | "distinct" => values.first().map_or(1, pairs),
        "@sortByAssociatedKeys" => values.get(1).map_or(1, pairs),
        "slice" | "reverse" | "flatten" | "lists.range" => 1 + CREATE_LIST,
        // What it costs is known when it is done.
        "join" => 0,
        _ => 1,
    }
}

/// What a call costs by its result.
pub(crate) fn of_result(function: &str, result: &Value<'_>) -> u64 {
    match function {
        "join" => tenths(result.size(), 2),
        "slice" | "reverse" => result.size(),
        _ => 0,
    }
}
