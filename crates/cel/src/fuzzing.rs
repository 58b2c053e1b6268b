//! The way in for the fuzz target `cel`, and for the test that runs it on its seeds with some changes.

use std::sync::{Arc, LazyLock};

use serde_json::{Value as Json, json};

use crate::{Bindings, Budget, Decl, DeclKind, Env, Value};

/// What an evaluation may cost here.
const UNITS: u64 = 200_000;

static SCHEMA: LazyLock<Json> = LazyLock::new(|| {
    json!({"type": "object", "properties": {
        "replicas": {"type": "integer"}, "ratio": {"type": "number"}, "on": {"type": "boolean"},
        "name": {"type": "string", "maxLength": 20}, "at": {"type": "string", "format": "date-time"},
        "list": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 5}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        "port": {"x-kubernetes-int-or-string": true},
        "any": {"x-kubernetes-preserve-unknown-fields": true}}})
});

static DATA: LazyLock<Json> = LazyLock::new(|| {
    json!({"replicas": 3, "ratio": 0.5, "on": true, "name": "a name", "at": "2026-01-01T00:00:00Z",
        "list": ["a", "b", "c"], "set": [1, 2], "map": {"a": 1, "b": 2}, "port": "http",
        "any": {"deep": [{"x": [1, "two", null]}]}})
});

/// Compiles any bytes as an expression, estimates what it can cost, and evaluates it within a budget.
///
/// # Panics
/// A refusal without words, or more spent than there was.
pub fn evaluate_anything(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    let Some(decl) = Decl::from_schema(&SCHEMA, false).map(Arc::new) else {
        return;
    };
    let env = Env::new()
        .data("self", Arc::clone(&decl))
        .optional("oldSelf", Arc::clone(&decl))
        .data("object", Arc::new(Decl::of(DeclKind::Dyn)))
        .mutation();
    let program = match env.compile(source) {
        Ok(program) => program,
        Err(error) => {
            assert!(!error.issues().is_empty(), "refused without a reason");
            assert!(error.issues().iter().all(|issue| !issue.message.is_empty()));
            return;
        }
    };
    let cost = program.cost();
    assert!(cost.min <= cost.max, "{} > {}", cost.min, cost.max);
    let _ = (program.uses("oldSelf"), program.output());
    let mut variables = Bindings::new().with("object", Value::json(&DATA));
    if let Ok(this) = Value::typed(&DATA, &decl) {
        variables = variables.with("self", this);
    }
    let mut budget = Budget::new(UNITS);
    match program.evaluate(&variables, &mut budget) {
        // What it makes can be shown or not, but is looked at.
        Ok(value) => drop(value.to_json()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(budget.left() <= UNITS);
}

#[cfg(test)]
mod tests {
    use super::evaluate_anything;

    #[test]
    fn changed_expressions_are_evaluated_or_refused() {
        berth_testkit::each_seed_changed("cel", 60, evaluate_anything);
    }
}
