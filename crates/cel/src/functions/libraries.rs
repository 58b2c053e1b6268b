//! Kubernetes' own libraries: quantities, IP addresses and networks, URLs, semantic versions, named formats.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::rc::Rc;

use berth_api::quantity::{Format as Suffix, Quantity};
use indexmap::IndexMap;

use crate::budget::EvalError;
use crate::cidr::{Cidr, ip};
use crate::context::Context;
use crate::format::Format;
use crate::semver::Semver;
use crate::url::Url;
use crate::value::{Key, Map, Value};

type Result<'a> = std::result::Result<Value<'a>, EvalError>;

pub(super) fn run<'a>(context: &mut Context<'_>, name: &str, args: &[Value<'a>]) -> Result<'a> {
    match args {
        [] => match name.strip_prefix("format.").and_then(Format::named) {
            Some(format) => Ok(Value::Format(format)),
            None => Err(EvalError::no_overload()),
        },
        [Value::String(text), rest @ ..] => of_string(context, name, text, rest),
        [Value::Quantity(quantity), rest @ ..] => of_quantity(name, quantity, rest),
        [Value::Ip(address)] => of_ip(name, *address),
        [Value::Cidr(network), rest @ ..] => of_cidr(name, *network, rest),
        [Value::Url(url)] => of_url(context, name, url),
        [Value::Semver(version), rest @ ..] => of_semver(name, version, rest),
        [Value::Format(format), Value::String(text)] if name == "validate" => {
            let complaints = format.complaints(text);
            if complaints.is_empty() {
                return Ok(Value::Optional(None));
            }
            Ok(Value::some(Value::list(
                complaints.into_iter().map(Value::made).collect(),
            )))
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn parse_quantity(text: &str) -> std::result::Result<Quantity, EvalError> {
    text.parse().map_err(|_| {
        EvalError::new("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    })
}

fn of_string<'a>(
    context: &mut Context<'_>,
    name: &str,
    text: &str,
    rest: &[Value<'a>],
) -> Result<'a> {
    // Each of them copies the text, or goes through it once.
    context.allocate(text.len())?;
    let normalize = match rest {
        [] => false,
        [Value::Bool(normalize)] if matches!(name, "semver" | "isSemver") => *normalize,
        _ => return Err(EvalError::no_overload()),
    };
    Ok(match name {
        "quantity" => Value::Quantity(Rc::new(parse_quantity(text)?)),
        "isQuantity" => Value::Bool(parse_quantity(text).is_ok()),
        "ip" => Value::Ip(ip(text).map_err(EvalError::new)?),
        "isIP" => Value::Bool(ip(text).is_ok()),
        "ip.isCanonical" => Value::Bool(ip(text).map_err(EvalError::new)?.to_string() == text),
        "cidr" => Value::Cidr(Cidr::parse(text).map_err(EvalError::new)?),
        "isCIDR" => Value::Bool(Cidr::parse(text).is_ok()),
        "url" => Value::Url(Rc::new(Url::parse(text).map_err(EvalError::new)?)),
        "isURL" => Value::Bool(Url::parse(text).is_ok()),
        "semver" => Value::Semver(Rc::new(
            Semver::parse(text, normalize).map_err(EvalError::new)?,
        )),
        "isSemver" => Value::Bool(Semver::parse(text, normalize).is_ok()),
        "format.named" => Format::named(text).map_or(Value::Optional(None), |format| {
            Value::some(Value::Format(format))
        }),
        _ => return Err(EvalError::no_overload()),
    })
}

fn sign(order: Ordering) -> i64 {
    match order {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }
}

fn compared<'a>(name: &str, order: Ordering) -> Result<'a> {
    Ok(match name {
        "isGreaterThan" => Value::Bool(order.is_gt()),
        "isLessThan" => Value::Bool(order.is_lt()),
        "compareTo" => Value::Int(sign(order)),
        _ => return Err(EvalError::no_overload()),
    })
}

/// Whether a quantity is a whole number that an int holds: `value()` saturates beyond.
fn whole(quantity: &Quantity) -> Option<i64> {
    let value = quantity.value();
    (quantity.is_integer() && *quantity == Quantity::new(value, Suffix::DecimalSi)).then_some(value)
}

/// A quantity's number, from its text.
fn approximate(quantity: &Quantity) -> f64 {
    let text = quantity.to_string();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().unwrap_or(f64::NAN);
    let power = match suffix {
        "" => return number,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1_024.0,
        "Mi" => 1_024.0_f64.powi(2),
        "Gi" => 1_024.0_f64.powi(3),
        "Ti" => 1_024.0_f64.powi(4),
        "Pi" => 1_024.0_f64.powi(5),
        "Ei" => 1_024.0_f64.powi(6),
        exponent => return format!("{number}{exponent}").parse().unwrap_or(f64::NAN),
    };
    number * power
}

fn of_quantity<'a>(name: &str, quantity: &Quantity, rest: &[Value<'a>]) -> Result<'a> {
    Ok(match (name, rest) {
        ("sign", []) => Value::Int(if quantity.is_zero() {
            0
        } else if quantity.is_negative() {
            -1
        } else {
            1
        }),
        ("isInteger", []) => Value::Bool(whole(quantity).is_some()),
        ("asInteger", []) => Value::Int(
            whole(quantity).ok_or_else(|| EvalError::new("cannot convert value to integer"))?,
        ),
        ("asApproximateFloat", []) => Value::Double(approximate(quantity)),
        ("add" | "sub", [other]) => {
            let other = match other {
                Value::Quantity(other) => (**other).clone(),
                Value::Int(other) => Quantity::new(*other, Suffix::DecimalExponent),
                _ => return Err(EvalError::no_overload()),
            };
            Value::Quantity(Rc::new(if name == "add" {
                quantity.clone() + &other
            } else {
                quantity.clone() - &other
            }))
        }
        (name, [Value::Quantity(other)]) => return compared(name, quantity.cmp(other)),
        _ => return Err(EvalError::no_overload()),
    })
}

fn of_ip<'a>(name: &str, address: IpAddr) -> Result<'a> {
    let link_local = |address: IpAddr| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    };
    let link_local_multicast = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    };
    Ok(match name {
        "family" => Value::Int(if address.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Value::Bool(address.is_unspecified()),
        "isLoopback" => Value::Bool(address.is_loopback()),
        "isLinkLocalUnicast" => Value::Bool(link_local(address)),
        "isLinkLocalMulticast" => Value::Bool(link_local_multicast(address)),
        "isGlobalUnicast" => {
            let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
            let special = broadcast
                || address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast();
            Value::Bool(!special && !link_local(address))
        }
        _ => return Err(EvalError::no_overload()),
    })
}

fn of_cidr<'a>(name: &str, network: Cidr, rest: &[Value<'a>]) -> Result<'a> {
    Ok(match (name, rest) {
        ("ip", []) => Value::Ip(network.address),
        ("prefixLength", []) => Value::Int(i64::from(network.prefix)),
        ("masked", []) => Value::Cidr(network.masked()),
        ("containsIP", [Value::Ip(address)]) => Value::Bool(network.contains(*address)),
        ("containsIP", [Value::String(text)]) => {
            Value::Bool(network.contains(ip(text).map_err(EvalError::new)?))
        }
        ("containsCIDR", [Value::Cidr(other)]) => Value::Bool(network.contains_network(*other)),
        ("containsCIDR", [Value::String(text)]) => {
            Value::Bool(network.contains_network(Cidr::parse(text).map_err(EvalError::new)?))
        }
        _ => return Err(EvalError::no_overload()),
    })
}

fn of_url<'a>(context: &mut Context<'_>, name: &str, url: &Url) -> Result<'a> {
    let text = match name {
        "getScheme" => &url.scheme,
        "getHost" => &url.host,
        "getHostname" => url.hostname(),
        "getPort" => url.port(),
        "getEscapedPath" => &url.escaped_path,
        "getQuery" => {
            let mut query: IndexMap<Key, Vec<Value<'a>>> = IndexMap::new();
            for (key, value) in url.query() {
                context.allocate(key.len() + value.len())?;
                context.allocate_list(4)?;
                context.charge(1)?;
                query
                    .entry(Key::String(key.into()))
                    .or_default()
                    .push(Value::made(value));
            }
            let entries = query
                .into_iter()
                .map(|(key, values)| (key, Value::list(values)))
                .collect::<IndexMap<_, _>>();
            return Ok(Value::Map(Map::Made(entries.into())));
        }
        _ => return Err(EvalError::no_overload()),
    };
    context.allocate(text.len())?;
    Ok(Value::made(text))
}

fn of_semver<'a>(name: &str, version: &Semver, rest: &[Value<'a>]) -> Result<'a> {
    let [major, minor, patch] = version.numbers;
    let number = match (name, rest) {
        ("major", []) => major,
        ("minor", []) => minor,
        ("patch", []) => patch,
        (name, [Value::Semver(other)]) => return compared(name, version.compare(other)),
        _ => return Err(EvalError::no_overload()),
    };
    i64::try_from(number)
        .map(Value::Int)
        .map_err(|_| EvalError::new("integer overflow"))
}
