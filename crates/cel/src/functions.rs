//! The functions of signatures.txt: one implementation for each name, which looks at the values it is given. What an
//! overload doesn't take is "no such overload", as it is when `dyn` hid a type from the checker.

mod authorization;
mod conversions;
mod libraries;
mod lists;
mod show;
mod standard;
mod strings;

use crate::budget::EvalError;
use crate::context::Context;
use crate::value::Value;

/// A function: the meters, its own name, and the arguments (a method's target first).
pub(crate) type Run =
    for<'c, 'a> fn(&mut Context<'c>, &str, &[Value<'a>]) -> Result<Value<'a>, EvalError>;

/// What implements a function.
pub(crate) fn implementation(name: &str) -> Option<Run> {
    Some(match name {
        "!_"
        | "@not_strictly_false"
        | "_==_"
        | "_!=_"
        | "_+_"
        | "_-_"
        | "_*_"
        | "_/_"
        | "_%_"
        | "-_"
        | "_<_"
        | "_<=_"
        | "_>_"
        | "_>=_"
        | "_[_]"
        | "_[?_]"
        | "@in"
        | "size"
        | "optional.of"
        | "optional.ofNonZeroValue"
        | "optional.none"
        | "value"
        | "hasValue"
        | "or"
        | "orValue"
        | "optional.unwrap"
        | "unwrapOpt" => standard::run,
        "type" | "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string"
        | "timestamp" | "uint" | "getFullYear" | "getMonth" | "getDayOfYear" | "getDayOfMonth"
        | "getDate" | "getDayOfWeek" | "getHours" | "getMinutes" | "getSeconds"
        | "getMilliseconds" => conversions::run,
        "contains"
        | "endsWith"
        | "startsWith"
        | "matches"
        | "find"
        | "findAll"
        | "charAt"
        | "lowerAscii"
        | "upperAscii"
        | "replace"
        | "split"
        | "substring"
        | "trim"
        | "format"
        | "strings.quote"
        | "join"
        | "jsonpatch.escapeKey" => strings::run,
        "indexOf"
        | "lastIndexOf"
        | "isSorted"
        | "sum"
        | "max"
        | "min"
        | "slice"
        | "flatten"
        | "sort"
        | "@sortByAssociatedKeys"
        | "lists.range"
        | "reverse"
        | "distinct"
        | "first"
        | "last"
        | "sets.contains"
        | "sets.equivalent"
        | "sets.intersects" => lists::run,
        "path" | "group" | "serviceAccount" | "resource" | "subresource" | "namespace" | "name"
        | "fieldSelector" | "labelSelector" | "check" | "errored" | "error" | "allowed"
        | "reason" => authorization::run,
        name if name.starts_with("format.") => libraries::run,
        "url"
        | "isURL"
        | "getScheme"
        | "getHost"
        | "getHostname"
        | "getPort"
        | "getEscapedPath"
        | "getQuery"
        | "quantity"
        | "isQuantity"
        | "sign"
        | "isGreaterThan"
        | "isLessThan"
        | "compareTo"
        | "asApproximateFloat"
        | "asInteger"
        | "isInteger"
        | "add"
        | "sub"
        | "semver"
        | "isSemver"
        | "major"
        | "minor"
        | "patch"
        | "ip"
        | "isIP"
        | "ip.isCanonical"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "cidr"
        | "isCIDR"
        | "containsIP"
        | "containsCIDR"
        | "prefixLength"
        | "masked"
        | "validate" => libraries::run,
        _ => return None,
    })
}
