//! Whether rules compile, and what they can cost.

use std::sync::Arc;

use berth_api::field::{FieldError, FieldPath};
use berth_cel::Decl;
use serde_json::Value as Json;

use super::{list, map, says, sub, text};
use crate::rules::{Environments, Wrong};

/// The most that one rule can cost by its estimate, over all the data of an object.
const RULE_LIMIT: u64 = 10_000_000;
/// The most that all rules of a schema can cost together.
const SCHEMA_LIMIT: u64 = 100_000_000;
/// How many of the most expensive rules are named.
const NAMED: usize = 4;
/// The most rules of a schema: each is compiled for each node that serves it.
const MAX_RULES: usize = 2_000;

struct Checking {
    errors: Vec<FieldError>,
    total: u64,
    expensive: Vec<(u64, FieldPath)>,
    rules: usize,
}

/// Where a part is: how often it can occur, and whether it can be told apart from one update to the next.
#[derive(Clone)]
struct Above {
    root: bool,
    /// None: no bound is declared.
    cardinality: Option<u64>,
    uncorrelatable: Option<FieldPath>,
}

pub(super) fn check(schema: &Json, at: &FieldPath) -> Vec<FieldError> {
    let mut checking = Checking {
        errors: Vec::new(),
        total: 0,
        expensive: Vec::new(),
        rules: 0,
    };
    checking.part(
        schema,
        at,
        &Above {
            root: true,
            cardinality: Some(1),
            uncorrelatable: None,
        },
    );
    if checking.total > SCHEMA_LIMIT {
        for (_, path) in &checking.expensive {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            checking.errors.push(FieldError::forbidden(path, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        checking.errors.push(FieldError::forbidden(
            at,
            exceeds(what, checking.total, SCHEMA_LIMIT),
        ));
    }
    checking.errors
}

#[allow(clippy::cast_precision_loss)]
fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    // For people: a rounded ratio.
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        _ if factor > 100.0 => "more than 100x".to_owned(),
        _ if factor < 1.5 => format!("{factor:.6}x"),
        _ => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

/// By how much a part multiplies what is in it; None without a bound.
fn elements(schema: &Json) -> Option<u64> {
    let bound = |name: &str| {
        schema
            .get(name)
            .and_then(Json::as_i64)
            .map(|max| u64::try_from(max).unwrap_or(0))
    };
    match text(schema, "type") {
        "object"
            if schema
                .get("additionalProperties")
                .is_some_and(|value| !value.is_null()) =>
        {
            bound("maxProperties")
        }
        "array" => bound("maxItems"),
        _ => Some(1),
    }
}

impl Checking {
    fn part(&mut self, schema: &Json, at: &FieldPath, above: &Above) {
        let factor = elements(schema);
        let inside = Above {
            root: false,
            cardinality: above
                .cardinality
                .zip(factor)
                .map(|(a, b)| a.saturating_mul(b)),
            uncorrelatable: above.uncorrelatable.clone(),
        };
        if let Some(inner) = sub(schema, "additionalProperties") {
            self.part(inner, &at.child("additionalProperties"), &inside);
        }
        let atomic = text(schema, "x-kubernetes-map-type") == "atomic";
        for (name, property) in map(schema, "properties") {
            let mut inside = inside.clone();
            if atomic {
                inside.uncorrelatable.get_or_insert_with(|| at.clone());
            }
            self.part(property, &at.child("properties").key(name), &inside);
        }
        if let Some(items) = sub(schema, "items") {
            let mut inside = inside.clone();
            if text(schema, "x-kubernetes-list-type") != "map" {
                inside.uncorrelatable.get_or_insert_with(|| at.clone());
            }
            self.part(items, &at.child("items"), &inside);
        }
        if says(schema, "x-kubernetes-validations") {
            self.rules(schema, &at.child("x-kubernetes-validations"), above);
        }
    }

    fn rules(&mut self, schema: &Json, at: &FieldPath, above: &Above) {
        let root = above.root || says(schema, "x-kubernetes-embedded-resource");
        let Some(decl) = Decl::from_schema(schema, root) else {
            let why = "failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
            self.errors.push(FieldError::internal(at, why));
            return;
        };
        let decl = Arc::new(decl);
        let environments = Environments::new(&decl);
        for (index, rule) in list(schema, "x-kubernetes-validations").enumerate() {
            let at = at.index(index);
            self.rules += 1;
            if self.rules > MAX_RULES {
                if self.rules == MAX_RULES + 1 {
                    self.errors.push(FieldError::forbidden(
                        &at,
                        format!("a schema has at most {MAX_RULES} validation rules"),
                    ));
                }
                return;
            }
            let times = |cost: u64| {
                cost.saturating_mul(above.cardinality.unwrap_or_else(|| decl.max_cardinality()))
            };
            let compiled = match environments.compile(rule) {
                Ok(compiled) => compiled,
                Err(Wrong::Rule(why)) => {
                    self.errors
                        .push(FieldError::invalid(&at.child("rule"), rule, why));
                    continue;
                }
                Err(Wrong::Message(why)) => {
                    self.errors.push(FieldError::invalid(
                        &at.child("messageExpression"),
                        rule,
                        why,
                    ));
                    continue;
                }
            };
            self.cost(
                &at.child("rule"),
                "estimated rule cost",
                times(compiled.program.cost().max),
            );
            if let Some(message) = &compiled.message_expression {
                self.cost(
                    &at.child("messageExpression"),
                    "estimated messageExpression cost",
                    message.cost().max,
                );
            }
            if compiled.uses_old {
                if let Some(path) = &above.uncorrelatable {
                    let why = format!(
                        "oldSelf cannot be used on the uncorrelatable portion of the schema within {path}"
                    );
                    self.errors.push(FieldError::invalid(
                        &at.child("rule"),
                        text(rule, "rule"),
                        why,
                    ));
                }
            } else if let Some(optional) =
                rule.get("optionalOldSelf").filter(|value| !value.is_null())
            {
                let why = "may not be set if oldSelf is not used in rule";
                self.errors.push(FieldError::invalid(
                    &at.child("optionalOldSelf"),
                    optional,
                    why,
                ));
            }
        }
    }

    fn cost(&mut self, at: &FieldPath, what: &str, cost: u64) {
        if cost > RULE_LIMIT {
            self.errors
                .push(FieldError::forbidden(at, exceeds(what, cost, RULE_LIMIT)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_LIMIT / 100 {
            self.expensive.push((cost, at.clone()));
            self.expensive.sort_by(|(a, _), (b, _)| b.cmp(a));
            self.expensive.truncate(NAMED);
        }
    }
}
