//! The estimates of calls, by function and overload.

use super::{CHECK, Estimate, Estimator, element};
use crate::ast::{Expr, Kind, Literal};
use crate::cost::CREATE_LIST;
use crate::types::{Composite, Type};

type Result = (Estimate, Option<Estimate>);

const ONE: Estimate = Estimate::fixed(1);

/// The value of a literal int, as a size.
fn literal(expr: Option<&Expr>) -> Option<u64> {
    match &expr?.kind {
        Kind::Literal(Literal::Int(value)) => Some(u64::try_from(*value).unwrap_or(0)),
        _ => None,
    }
}

/// A list that is made by going through one.
fn made(factor: u64, cost_of: Estimate, size: Estimate) -> Result {
    (
        cost_of
            .hundredths(factor)
            .plus(Estimate::fixed(1 + CREATE_LIST)),
        Some(size),
    )
}

impl Estimator<'_> {
    /// The cost of a call without its arguments, and the size of its result when it is known.
    pub(super) fn overload(
        &self,
        name: &str,
        overload: &str,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Result {
        let arg = |index: usize| {
            args.get(index)
                .map_or(Estimate::ANY, |arg| self.size_or_any(arg))
        };
        let of = target.map_or(Estimate::ANY, |target| self.size_or_any(target));
        let plain = (ONE, None);
        match name {
            "check" => (CHECK, None),
            "fieldSelector" | "labelSelector" => {
                let length = arg(0);
                let cost = Estimate::fixed(CREATE_LIST)
                    .plus(length.scanned())
                    .plus(length.hundredths(50).times(Estimate::fixed(50)));
                (cost, None)
            }
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                self.traversal(target)
            }
            "url" | "jsonpatch.escapeKey" => (arg(0).scanned(), Some(arg(0))),
            "lowerAscii" | "upperAscii" | "substring" | "trim" => (of.scanned(), Some(of)),
            "replace" => (of.hundredths(20), Some(replaced(of, arg(0), arg(1)))),
            "split" => {
                let max = literal(args.get(1)).unwrap_or(of.max);
                (of.hundredths(20), Some(Estimate { min: 0, max }))
            }
            "join" => self.join(target, args),
            "find" | "findAll" => (
                regex(of, arg(0)),
                Some(Estimate {
                    min: 0,
                    max: of.max,
                }),
            ),
            "matches" => {
                let (text, pattern) = if target.is_some() {
                    (of, arg(0))
                } else {
                    (arg(0), arg(1))
                };
                (regex(text, pattern), None)
            }
            "ip" if overload == "cidr_ip" => plain,
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver"
            | "isSemver" => (arg(0).scanned(), None),
            "ip.isCanonical" => (arg(0).hundredths(20), None),
            "containsIP" | "containsCIDR" => {
                let bytes = Estimate { min: 4, max: 16 };
                let mut cost = bytes.plus(bytes).scanned();
                if name == "containsCIDR" {
                    cost = cost.plus(bytes.scanned()).plus(ONE);
                }
                if overload.ends_with("_string") {
                    cost = cost.plus(arg(0).scanned());
                }
                (cost, None)
            }
            // As if the regular expression of the format had 128 characters.
            "validate" => (arg(0).scanned().times(Estimate::fixed(32)), None),
            "format" => (of.scanned(), None),
            "strings.quote" => {
                let size = arg(0);
                let result = Estimate {
                    min: size.min.saturating_add(2),
                    max: size.max.saturating_mul(2).saturating_add(2),
                };
                (size.scanned(), Some(result))
            }
            "startsWith" | "endsWith" => (arg(0).scanned(), None),
            "contains" => (of.scanned().times(arg(0).scanned()), None),
            "sets.contains" | "sets.intersects" => (arg(0).times(arg(1)).plus(ONE), None),
            "sets.equivalent" => (arg(0).times(arg(1)).hundredths(200).plus(ONE), None),
            "slice" => {
                let end = literal(args.get(1)).unwrap_or(of.max);
                let size = Estimate::fixed(end.saturating_sub(literal(args.first()).unwrap_or(0)));
                made(100, size, size)
            }
            "lists.range" => {
                let size = Estimate::fixed(literal(args.first()).unwrap_or(u64::MAX));
                made(100, size, size)
            }
            "reverse" => made(100, of, of),
            "flatten" => {
                let depth = if args.is_empty() {
                    1
                } else {
                    literal(args.first()).unwrap_or(u64::MAX)
                };
                made(100, of.times(Estimate::fixed(depth)), of)
            }
            "distinct" => made(200, of.times(of), of.times(of)),
            "sort" | "@sortByAssociatedKeys" => {
                let size = if name == "sort" { of } else { arg(0) };
                let strings = overload.contains("_string_") || overload.contains("_bytes_");
                made(
                    if strings { 210 } else { 200 },
                    size.times(size),
                    size.times(size),
                )
            }
            _ => self.standard(name, overload, args),
        }
    }

    fn standard(&self, name: &str, overload: &str, args: &[Expr]) -> Result {
        let arg = |index: usize| {
            args.get(index)
                .map_or(Estimate::ANY, |arg| self.size_or_any(arg))
        };
        match overload {
            "string_to_bytes" => {
                let size = arg(0);
                (
                    size.scanned(),
                    Some(Estimate {
                        min: size.min,
                        max: size.max.saturating_mul(4),
                    }),
                )
            }
            "bytes_to_string" => {
                let size = arg(0);
                (
                    size.scanned(),
                    Some(Estimate {
                        min: size.min / 4,
                        max: size.max,
                    }),
                )
            }
            "in_list" => (arg(1), None),
            "add_string" | "add_bytes" => {
                let size = arg(0).plus(arg(1));
                (size.scanned(), Some(size))
            }
            "add_list" => (ONE, Some(arg(0).plus(arg(1)))),
            "equals" | "not_equals" => self.equality(name, args),
            _ => match name {
                "_<_" | "_<=_" | "_>_" | "_>=_"
                    if overload.ends_with("string") || overload.ends_with("bytes") =>
                {
                    (smaller(arg(0), arg(1)), None)
                }
                _ => (ONE, None),
            },
        }
    }

    fn equality(&self, name: &str, args: &[Expr]) -> Result {
        let [a, b] = args else { return (ONE, None) };
        if name == "_==_" && self.ty(a).same(self.ty(b)) && matches!(self.ty(a), Type::Named(_)) {
            return (ONE, None);
        }
        (smaller(self.size_or_any(a), self.size_or_any(b)), None)
    }

    /// Going through a list, with the strings in it; or through a string.
    fn traversal(&self, target: Option<&Expr>) -> Result {
        let Some(target) = target else {
            return (ONE, None);
        };
        let size = self.size_or_any(target);
        let Type::Composite(Composite::List, _) = self.ty(target) else {
            return (size.scanned(), None);
        };
        let element = match self.ty(target).parameters() {
            [Type::String | Type::Bytes] => ONE.plus(self.element_size(target).scanned()),
            _ => ONE,
        };
        (size.times(element), None)
    }

    /// The size of the elements of a list, by its declaration.
    fn element_size(&self, list: &Expr) -> Estimate {
        let declared = self
            .source(list)
            .and_then(|source| element(source, "values"));
        let declared = declared
            .and_then(|decl| decl.max_elements)
            .map(|max| Estimate { min: 0, max });
        declared
            .or_else(|| self.entry_size(list))
            .unwrap_or(Estimate::ANY)
    }

    fn join(&self, target: Option<&Expr>, args: &[Expr]) -> Result {
        let Some(target) = target else {
            return (ONE, None);
        };
        let count = self.size_or_any(target);
        let mut size = count.times(self.element_size(target));
        if let Some(separator) = args.first() {
            let separators = Estimate {
                min: count.min.saturating_sub(1),
                max: count.max.saturating_sub(1),
            };
            size = size.plus(self.size_or_any(separator).times(separators));
        }
        (size.scanned(), Some(size))
    }
}

fn smaller(a: Estimate, b: Estimate) -> Estimate {
    let max = a.max.min(b.max);
    Estimate {
        min: u64::from(max > 0),
        max,
    }
    .scanned()
}

fn regex(text: Estimate, pattern: Estimate) -> Estimate {
    text.plus(ONE).scanned().times(pattern.hundredths(25))
}

/// The size after replacing.
fn replaced(of: Estimate, old: Estimate, new: Estimate) -> Estimate {
    let max = if old.min == 0 {
        of.max
            .saturating_add(1)
            .saturating_mul(new.max)
            .saturating_add(of.max)
    } else if new.max <= old.min {
        of.max
    } else {
        of.max.div_ceil(old.min).saturating_mul(new.max)
    };
    let min = if old.max == 0 {
        of.min
            .saturating_add(1)
            .saturating_mul(new.min)
            .saturating_add(of.min)
    } else if old.max <= new.min {
        of.min
    } else {
        of.min.div_ceil(old.max).saturating_mul(new.min)
    };
    Estimate { min, max }
}
