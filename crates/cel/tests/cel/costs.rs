//! Estimates and costs, beside figures of the reference's rules.

use std::sync::Arc;

use berth_cel::{Bindings, Budget, Decl, DeclKind, Env, Estimate, Value};
use serde_json::{Value as Json, json};

use crate::harness::spent;

fn estimate(schema: &Json, source: &str) -> Estimate {
    let decl = Arc::new(Decl::from_schema(schema, false).unwrap());
    Env::new()
        .data("self", decl)
        .compile(source)
        .unwrap_or_else(|error| panic!("{error}"))
        .cost()
}

#[test]
fn estimates_follow_the_bounds_of_the_schema() {
    let bounded =
        json!({"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}});
    // 1 for self, 1 for the result, ten times: 3 of the fold and 1 for x, and a comparison of a literal of one character.
    let cost = estimate(&bounded, "self.all(x, x == 'a')");
    assert_eq!(cost.max, 2 + 10 * (3 + 1 + 1));
    let unbounded = json!({"type": "array", "items": {"type": "string"}});
    assert!(estimate(&unbounded, "self.all(x, self.all(y, x == y))").max > 10_000_000);
    assert!(estimate(&unbounded, "self.all(x, x.contains('a'))").max > 10_000_000);
    assert!(estimate(&bounded, "self.all(x, self.all(y, x == y))").max < 10_000);
    let text = json!({"type": "string", "maxLength": 100});
    // 400 bytes at most: a tenth each, and the pattern's quarter.
    assert_eq!(estimate(&text, "self.matches('abcd')").max, 1 + 41);
    assert_eq!(estimate(&text, "self.size() < 5").max, 1 + 1 + 1);
    let object = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string", "enum": ["x", "yyy"]}}});
    assert_eq!(estimate(&object, "self.a == 1 && has(self.b)").max, 3);
    assert_eq!(estimate(&object, "self.b + self.b == 'xx'").max, 4 + 1 + 1);
    assert_eq!(
        estimate(&object, "lists.range(100).size() == 1").max,
        111 + 1 + 1
    );
    assert_eq!(
        estimate(&object, "lists.range(self.a).size() == 1").max,
        u64::MAX
    );
}

#[test]
fn elements_that_no_path_leads_to_are_estimated_as_by_the_reference() {
    // Istio's ServiceEntry: without this the definition, which stock servers take, is refused.
    let entry = json!({"type": "object", "properties": {
        "addresses": {"type": "array", "maxItems": 256, "items": {"type": "string", "maxLength": 64}},
        "resolution": {"type": "string", "enum": ["NONE", "STATIC", "DNS"]}}});
    let rule = r#"!((has(self.addresses) ? self.addresses : []).exists(k, k.contains("/")) &&
        !((has(self.resolution) ? self.resolution : "NONE") in ["STATIC", "NONE"]))"#;
    let cost = estimate(&entry, rule);
    assert!(cost.max < 10_000, "{cost:?}");
    // It is the size of self that counts then, as far as it has one.
    let text = json!({"type": "string", "maxLength": 1_000});
    let split = "self.split(',').exists(x, x.contains('abc'))";
    let (short, long) = (
        estimate(&json!({"type": "string", "maxLength": 10}), split),
        estimate(&text, split),
    );
    assert!(short.max < long.max, "{short:?} {long:?}");
    // What a path leads to keeps its own bound.
    let unbounded = json!({"type": "object", "properties": {
        "addresses": {"type": "array", "items": {"type": "string"}}}});
    let cost = estimate(&unbounded, "self.addresses.exists(k, k.contains('/'))");
    assert!(cost.max > 10_000_000, "{cost:?}");
}

#[test]
fn evaluation_costs_what_the_estimate_says_at_most() {
    let schema =
        json!({"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 4}});
    let data = json!(["abcd", "abcd", "abcd"]);
    for source in [
        "self.all(x, x == 'abcd')",
        "self.exists(x, x == 'nothing')",
        "self.exists_one(x, x == 'abcd')",
        "self.map(x, x + x).size() == 3",
        "self.filter(x, x.startsWith('a')).size() == 3",
        "self.map(x, x.size() > 1, x.upperAscii()).join(',') == ''",
        "self[0].matches('^a.*') && self[1].contains('b')",
        "self.transformMap(i, v, v + string(i)).size() == 3",
        "self.all(i, v, self[i] == v) ? self.sort() == self : self.isSorted()",
        "sets.contains(self, ['a', 'b']) || 'x' in self",
    ] {
        let decl = Arc::new(Decl::from_schema(&schema, false).unwrap());
        let env = Env::new().data("self", decl.clone());
        let estimate = env.compile(source).unwrap().cost();
        let variables = Bindings::new().with("self", Value::typed(&data, &decl).unwrap());
        let (error, used) = spent(&env, &variables, source);
        assert_eq!(error, None, "{source}");
        assert!(used <= estimate.max, "{source}: {used} of {estimate:?}");
    }
}

#[test]
fn a_budget_is_shared() {
    let env = Env::new().data("self", Decl::of(DeclKind::Dyn));
    let data = json!([1, 2, 3]);
    let variables = Bindings::new().with("self", Value::json(&data));
    let program = env.compile("self.all(x, x > 0)").unwrap();
    let mut budget = Budget::new(30);
    assert!(program.evaluate(&variables, &mut budget).is_ok());
    assert!(
        program
            .evaluate(&variables, &mut budget)
            .unwrap_err()
            .is_cost_limit()
    );
    assert_eq!(budget.left(), 0);
    // What was stopped is not absorbed.
    let program = env.compile("true || true").unwrap();
    assert!(program.evaluate(&variables, &mut budget).is_ok());
    let program = env.compile("self.exists(x, x == 9) || true").unwrap();
    assert!(
        program
            .evaluate(&variables, &mut budget)
            .unwrap_err()
            .is_cost_limit()
    );
}
