//! `format`: values as text.

use std::fmt::Write as _;

use crate::budget::EvalError;
use crate::context::Context;
use crate::time;
use crate::value::{List, Value};

/// The most digits behind a point.
const MAX_PRECISION: usize = 1_000;

/// A double as Go's `%g`-like shortest form without exponent shows it.
pub(crate) fn show_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        return exponent(&format!("{value:e}"));
    }
    format!("{value}")
}

/// An exponent with a sign and two digits, as C and Go write it.
fn exponent(text: &str) -> String {
    let Some((mantissa, power)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, digits) = power
        .strip_prefix('-')
        .map_or(('+', power), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `template.format(args)`
pub(super) fn format<'a>(
    context: &mut Context<'_>,
    template: &str,
    args: &List<'a>,
) -> Result<Value<'a>, EvalError> {
    let mut out = String::new();
    let mut rest = template;
    let mut next = 0;
    while let Some((plain, behind)) = rest.split_once('%') {
        append(context, &mut out, plain)?;
        if let Some(behind) = behind.strip_prefix('%') {
            append(context, &mut out, "%")?;
            rest = behind;
            continue;
        }
        let (precision, behind) = precision(behind)?;
        let Some(verb) = behind.chars().next() else {
            return Err(EvalError::new("unexpected end of string"));
        };
        rest = &behind[verb.len_utf8()..];
        let Some(arg) = args.get(next) else {
            return Err(EvalError::new(format!("index {next} out of range")));
        };
        next += 1;
        clause(context, &mut out, verb, precision, &arg?).map_err(|error| {
            if error.is_cost_limit() {
                error
            } else {
                EvalError::new(format!("error during formatting: {error}"))
            }
        })?;
    }
    append(context, &mut out, rest)?;
    Ok(Value::made(out))
}

fn append(context: &mut Context<'_>, out: &mut String, text: &str) -> Result<(), EvalError> {
    context.allocate(text.len())?;
    context.work(text.len().saturating_mul(10))?;
    out.push_str(text);
    Ok(())
}

fn precision(text: &str) -> Result<(Option<usize>, &str), EvalError> {
    let Some(behind) = text.strip_prefix('.') else {
        return Ok((None, text));
    };
    let end = behind
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(behind.len());
    let digits: usize = behind[..end]
        .parse()
        .map_err(|_| EvalError::new("error while parsing precision"))?;
    if digits > MAX_PRECISION {
        return Err(EvalError::new(format!(
            "error while parsing precision: precision of {digits} exceeds maximum {MAX_PRECISION}"
        )));
    }
    Ok((Some(digits), &behind[end..]))
}

fn clause<'a>(
    context: &mut Context<'_>,
    out: &mut String,
    verb: char,
    precision: Option<usize>,
    value: &Value<'a>,
) -> Result<(), EvalError> {
    let given = |what: &str| EvalError::new(format!("{what}, was given {}", &*value.type_name()));
    let text = match (verb, value) {
        ('s', value) => return show(context, out, value, false, 0),
        ('d', Value::Int(value)) => value.to_string(),
        ('d', Value::Uint(value)) => value.to_string(),
        ('d', Value::Double(value)) if !value.is_finite() => infinite(*value),
        ('d', _) => return Err(given("decimal clause can only be used on integers")),
        ('f' | 'e', value) => {
            let number = match value {
                Value::Double(value) => *value,
                Value::String(text) if matches!(&**text, "NaN" | "Infinity" | "-Infinity") => {
                    text.parse().unwrap_or(f64::NAN)
                }
                _ if verb == 'f' => {
                    return Err(given("fixed-point clause can only be used on doubles"));
                }
                _ => return Err(given("scientific clause can only be used on doubles")),
            };
            let digits = precision.unwrap_or(6);
            if !number.is_finite() {
                infinite(number)
            } else if verb == 'f' {
                format!("{number:.digits$}")
            } else {
                exponent(&format!("{number:.digits$e}"))
            }
        }
        ('b', Value::Int(value)) => signed(*value, |magnitude| format!("{magnitude:b}")),
        ('b', Value::Uint(value)) => format!("{value:b}"),
        ('b', Value::Bool(value)) => if *value { "1" } else { "0" }.to_owned(),
        ('b', _) => return Err(given("only integers and bools can be formatted as binary")),
        ('o', Value::Int(value)) => signed(*value, |magnitude| format!("{magnitude:o}")),
        ('o', Value::Uint(value)) => format!("{value:o}"),
        ('o', _) => return Err(given("octal clause can only be used on integers")),
        ('x' | 'X', value) => {
            let text = match value {
                Value::Int(value) => signed(*value, |magnitude| format!("{magnitude:x}")),
                Value::Uint(value) => format!("{value:x}"),
                Value::String(text) => hexadecimal(context, text.as_bytes())?,
                Value::Bytes(bytes) => hexadecimal(context, bytes)?,
                _ => {
                    return Err(given(
                        "only integers, byte buffers, and strings can be formatted as hex",
                    ));
                }
            };
            if verb == 'X' {
                text.to_uppercase()
            } else {
                text
            }
        }
        (other, _) => {
            return Err(EvalError::new(format!(
                "could not parse formatting clause: unrecognized formatting clause {other:?}"
            )));
        }
    };
    append(context, out, &text)
}

fn infinite(value: f64) -> String {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
    .to_owned()
}

fn signed(value: i64, show: impl Fn(u64) -> String) -> String {
    format!(
        "{}{}",
        if value < 0 { "-" } else { "" },
        show(value.unsigned_abs())
    )
}

fn hexadecimal(context: &mut Context<'_>, bytes: &[u8]) -> Result<String, EvalError> {
    context.allocate(bytes.len() * 2)?;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// A value as `%s` shows it; inside of lists and maps strings are quoted.
fn show<'a>(
    context: &mut Context<'_>,
    out: &mut String,
    value: &Value<'a>,
    quoted: bool,
    depth: u32,
) -> Result<(), EvalError> {
    if depth > 250 {
        return Err(EvalError::too_expensive());
    }
    let text = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) if !value.is_finite() && quoted => format!("{:?}", infinite(*value)),
        Value::Double(value) if !value.is_finite() => infinite(*value),
        Value::Double(value) if quoted => format!("{value:.6}"),
        Value::Double(value) => show_double(*value),
        Value::String(text) if quoted => {
            append(context, out, "\"")?;
            append(context, out, text)?;
            "\"".to_owned()
        }
        Value::String(text) => return append(context, out, text),
        Value::Bytes(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            if quoted {
                format!("b\"{text}\"")
            } else {
                text.into_owned()
            }
        }
        Value::Duration(nanos) if quoted => {
            format!("duration(\"{}\")", time::show_duration(*nanos))
        }
        Value::Duration(nanos) => time::show_duration(*nanos),
        Value::Timestamp(at) if quoted => format!("timestamp(\"{}\")", time::show_timestamp(*at)),
        Value::Timestamp(at) => time::show_timestamp(*at),
        Value::Type(name) => name.to_string(),
        Value::List(list) => {
            append(context, out, "[")?;
            for (index, element) in list.iter().enumerate() {
                append(context, out, if index == 0 { "" } else { ", " })?;
                show(context, out, &element?, true, depth + 1)?;
            }
            "]".to_owned()
        }
        Value::Map(map) => {
            let keys = map.keys();
            let mut entries = Vec::new();
            for index in 0..map.len() {
                let Some((key, value)) = map.entry(index, &keys) else {
                    break;
                };
                let mut shown = String::new();
                show(context, &mut shown, &key, true, depth + 1)?;
                entries.push((shown, value?));
            }
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            append(context, out, "{")?;
            for (index, (key, value)) in entries.iter().enumerate() {
                append(context, out, if index == 0 { "" } else { ", " })?;
                append(context, out, key)?;
                append(context, out, ": ")?;
                show(context, out, value, true, depth + 1)?;
            }
            "}".to_owned()
        }
        other => {
            return Err(EvalError::new(format!(
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, \
                 and timestamps, was given {}",
                &*other.type_name()
            )));
        }
    };
    append(context, out, &text)
}
