//! Conversions between types, and what calendars and clocks say.

use crate::budget::EvalError;
use crate::context::Context;
use crate::functions::show::show_double;
use crate::time;
use crate::value::{Value, exact_int};

/// What reading a time zone takes, in units.
const ZONE_COST: u64 = 200;

pub(super) fn run<'a>(
    context: &mut Context<'_>,
    name: &str,
    args: &[Value<'a>],
) -> Result<Value<'a>, EvalError> {
    let [value, rest @ ..] = args else {
        return Err(EvalError::no_overload());
    };
    match name {
        "type" => Ok(Value::Type(value.type_name())),
        "dyn" => Ok(value.clone()),
        "bool" => to_bool(value),
        "bytes" => to_bytes(context, value),
        "double" => to_double(value),
        "int" => to_int(value),
        "uint" => to_uint(value),
        "string" => to_string(context, value),
        "duration" => to_duration(value),
        "timestamp" => to_timestamp(value),
        _ => part(context, name, value, rest),
    }
}

/// An error that quotes what couldn't be converted, in part when it is long.
fn cannot(text: &str, into: &str) -> EvalError {
    let shown: String = text.chars().take(64).collect();
    EvalError::new(format!("type conversion error from '{shown}' to '{into}'"))
}

fn to_bool<'a>(value: &Value<'a>) -> Result<Value<'a>, EvalError> {
    match value {
        Value::Bool(_) => Ok(value.clone()),
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            other => Err(cannot(other, "bool")),
        },
        _ => Err(EvalError::no_overload()),
    }
}

fn to_bytes<'a>(context: &mut Context<'_>, value: &Value<'a>) -> Result<Value<'a>, EvalError> {
    match value {
        Value::Bytes(_) => Ok(value.clone()),
        Value::String(text) => {
            context.allocate(text.len())?;
            Ok(Value::Bytes(text.as_bytes().into()))
        }
        _ => Err(EvalError::no_overload()),
    }
}

#[allow(clippy::cast_precision_loss)]
fn to_double<'a>(value: &Value<'a>) -> Result<Value<'a>, EvalError> {
    Ok(Value::Double(match value {
        Value::Double(value) => *value,
        // Both round to the nearest double, as the conversion does everywhere.
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        Value::String(text) => parse_double(text).ok_or_else(|| cannot(text, "double"))?,
        _ => return Err(EvalError::no_overload()),
    }))
}

fn parse_double(text: &str) -> Option<f64> {
    // Go takes no blanks, and `Infinity` in any case; Rust's parser does the same.
    text.parse().ok()
}

fn to_int<'a>(value: &Value<'a>) -> Result<Value<'a>, EvalError> {
    let overflow = || EvalError::new("integer overflow");
    Ok(Value::Int(match value {
        Value::Int(value) => *value,
        Value::Uint(value) => i64::try_from(*value).map_err(|_| overflow())?,
        Value::Double(value) => exact_int(value.trunc())
            .filter(|int| *int != i64::MIN)
            .ok_or_else(overflow)?,
        Value::String(text) => text.parse().map_err(|_| cannot(text, "int"))?,
        Value::Timestamp(at) => at.seconds,
        Value::Duration(nanos) => *nanos,
        _ => return Err(EvalError::no_overload()),
    }))
}

fn to_uint<'a>(value: &Value<'a>) -> Result<Value<'a>, EvalError> {
    let overflow = || EvalError::new("unsigned integer overflow");
    Ok(Value::Uint(match value {
        Value::Uint(value) => *value,
        Value::Int(value) => u64::try_from(*value).map_err(|_| overflow())?,
        Value::Double(value) => {
            // 2^64 as a double; the range check makes the cast exact.
            const LIMIT: f64 = 18_446_744_073_709_551_616.0;
            if !(0.0..LIMIT).contains(value) {
                return Err(overflow());
            }
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let int = *value as u64;
            int
        }
        Value::String(text) => text.parse().map_err(|_| cannot(text, "uint"))?,
        _ => return Err(EvalError::no_overload()),
    }))
}

fn to_string<'a>(context: &mut Context<'_>, value: &Value<'a>) -> Result<Value<'a>, EvalError> {
    Ok(Value::made(match value {
        Value::String(_) => return Ok(value.clone()),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => show_double(*value),
        Value::Bytes(bytes) => {
            context.allocate(bytes.len())?;
            String::from_utf8(bytes.to_vec())
                .map_err(|_| EvalError::new("invalid UTF-8 in bytes, cannot convert to string"))?
        }
        Value::Duration(nanos) => time::show_duration(*nanos),
        Value::Timestamp(at) => time::show_timestamp(*at),
        Value::Ip(address) => address.to_string(),
        Value::Cidr(network) => network.to_string(),
        _ => return Err(EvalError::no_overload()),
    }))
}

fn to_duration<'a>(value: &Value<'a>) -> Result<Value<'a>, EvalError> {
    match value {
        Value::Duration(_) => Ok(value.clone()),
        Value::String(text) => time::duration(text)
            .map(Value::Duration)
            .ok_or_else(|| cannot(text, "google.protobuf.Duration")),
        _ => Err(EvalError::no_overload()),
    }
}

fn to_timestamp<'a>(value: &Value<'a>) -> Result<Value<'a>, EvalError> {
    match value {
        Value::Timestamp(_) => Ok(value.clone()),
        Value::Int(seconds) => time::from_seconds(*seconds)
            .map(Value::Timestamp)
            .ok_or_else(|| EvalError::new("timestamp overflow")),
        Value::String(text) => time::timestamp(text)
            .map(Value::Timestamp)
            .ok_or_else(|| cannot(text, "google.protobuf.Timestamp")),
        _ => Err(EvalError::no_overload()),
    }
}

fn part<'a>(
    context: &mut Context<'_>,
    name: &str,
    value: &Value<'a>,
    rest: &[Value<'a>],
) -> Result<Value<'a>, EvalError> {
    match (value, rest) {
        (Value::Timestamp(at), []) => time::part(*at, name, "UTC")
            .map(Value::Int)
            .ok_or_else(EvalError::no_overload),
        (Value::Timestamp(at), [Value::String(zone)]) => {
            // A zone of the database is read each time.
            context.charge(ZONE_COST)?;
            let unknown = || EvalError::new(format!("unknown time zone {}", &**zone));
            time::part(*at, name, zone)
                .map(Value::Int)
                .ok_or_else(unknown)
        }
        (Value::Duration(nanos), [])
            if matches!(
                name,
                "getHours" | "getMinutes" | "getSeconds" | "getMilliseconds"
            ) =>
        {
            Ok(Value::Int(time::whole(*nanos, name)))
        }
        _ => Err(EvalError::no_overload()),
    }
}
