//! Validation rules, evaluated.

use berth_schema::{Schema, validate};
use serde_json::{Value, json};

fn of_spec(spec: Value) -> Schema {
    Schema::compile(&json!({"type": "object", "properties": {"spec": spec}})).unwrap()
}

fn wrong(schema: &Schema, spec: Value, old: Option<Value>) -> Vec<String> {
    let old = old.map(|old| json!({"spec": old}));
    let errors = validate(&json!({"spec": spec}), old.as_ref(), schema);
    errors
        .iter()
        .map(|error| format!("{}: {}", error.field, error.body()))
        .collect()
}

fn ruled(mut schema: Value, rules: Value) -> Schema {
    schema["x-kubernetes-validations"] = rules;
    of_spec(schema)
}

fn replicas() -> Value {
    json!({"type": "object", "properties": {"min": {"type": "integer"}, "max": {"type": "integer"},
        "tags": {"type": "array", "maxItems": 10, "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self.size() < 4", "message": "too long"}]}}}})
}

#[test]
fn a_rule_that_does_not_hold_says_so() {
    for (rule, spec, expected) in [
        (
            json!({"rule": "self.min <= self.max"}),
            json!({"min": 3, "max": 2}),
            "spec: Invalid value: failed rule: self.min <= self.max",
        ),
        (
            json!({"rule": "self.min <= self.max", "message": "min above max"}),
            json!({"min": 3, "max": 2}),
            "spec: Invalid value: min above max",
        ),
        (
            json!({"rule": "self.min <= self.max", "messageExpression": "'%d above %d'.format([self.min, self.max])", "fieldPath": ".min", "reason": "FieldValueForbidden"}),
            json!({"min": 3, "max": 2}),
            "spec.min: Forbidden: 3 above 2",
        ),
        (
            json!({"rule": "self.min <= self.max"}),
            json!({"min": 3}),
            "spec: Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max",
        ),
        // A message that can't be made is no message.
        (
            json!({"rule": "false", "message": "plain", "messageExpression": "string(self.max)"}),
            json!({"min": 3}),
            "spec: Invalid value: plain",
        ),
    ] {
        assert_eq!(
            wrong(&ruled(replicas(), json!([rule])), spec, None),
            [expected],
            "{rule}"
        );
    }
    let schema = of_spec(replicas());
    assert_eq!(
        wrong(&schema, json!({"tags": ["ok", "long one"]}), None),
        ["spec.tags[1]: Invalid value: \"long one\": too long"]
    );
}

#[test]
fn transitions_are_judged_and_unchanged_mistakes_are_not() {
    let schema = ruled(
        replicas(),
        json!([{"rule": "self.min >= oldSelf.min", "message": "min must not shrink"}, {"rule": "self.max < 10"}]),
    );
    assert_eq!(
        wrong(&schema, json!({"min": 1, "max": 1}), None),
        Vec::<String>::new()
    );
    assert_eq!(
        wrong(
            &schema,
            json!({"min": 1, "max": 1}),
            Some(json!({"min": 2, "max": 1}))
        ),
        ["spec: Invalid value: min must not shrink"]
    );
    assert_eq!(
        wrong(
            &schema,
            json!({"min": 3, "max": 20}),
            Some(json!({"min": 2, "max": 20}))
        ),
        ["spec: Invalid value: failed rule: self.max < 10"]
    );
    assert_eq!(
        wrong(
            &schema,
            json!({"min": 3, "max": 20}),
            Some(json!({"min": 3, "max": 20}))
        ),
        Vec::<String>::new()
    );
    let optional = ruled(
        replicas(),
        json!([{"rule": "oldSelf.hasValue() || self.min == 0", "optionalOldSelf": true, "message": "begins with 0"}]),
    );
    assert_eq!(
        wrong(&optional, json!({"min": 1}), None),
        ["spec: Invalid value: begins with 0"]
    );
    assert_eq!(
        wrong(&optional, json!({"min": 1}), Some(json!({"min": 0}))),
        Vec::<String>::new()
    );
    // A set grows and shrinks; its order is nothing.
    let set = ruled(
        json!({"type": "array", "x-kubernetes-list-type": "set", "maxItems": 5, "items": {"type": "string", "maxLength": 5}}),
        json!([{"rule": "self == oldSelf", "message": "immutable"}]),
    );
    assert_eq!(
        wrong(&set, json!(["a", "b"]), Some(json!(["b", "a"]))),
        Vec::<String>::new()
    );
    assert_eq!(
        wrong(&set, json!(["a"]), Some(json!(["b", "a"]))),
        ["spec: Invalid value: immutable"]
    );
}

#[test]
fn rules_wait_for_a_value_that_fits() {
    let schema = ruled(replicas(), json!([{"rule": "self.min > 0"}]));
    let found = wrong(&schema, json!({"min": "a"}), None);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[1].contains("some validation rules were not checked because the object was invalid")
    );
}

#[test]
fn an_object_that_makes_rules_expensive_is_refused_soon() {
    let begun = std::time::Instant::now();
    let schema = ruled(
        json!({"type": "array", "items": {"type": "integer"}}),
        json!([{"rule": "self.all(x, self.all(y, x + y >= 0))"}, {"rule": "true"}]),
    );
    let found = wrong(&schema, json!(vec![1; 20_000]), None);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("no further validation rules will be run due to call cost exceeds limit")
    );
    let each = of_spec(
        json!({"type": "array", "items": {"type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x + y >= 0))"}]}}),
    );
    let found = wrong(&each, json!(vec![vec![1; 200]; 200]), None);
    assert!(found[0].contains("running out of cost budget"), "{found:?}");
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn the_names_of_an_object_are_seen_by_rules_at_the_root() {
    let schema = Schema::compile(&json!({"type": "object", "x-kubernetes-validations": [
        {"rule": "self.metadata.name.startsWith('a') && self.kind == 'K'", "message": "no"}]}))
    .unwrap();
    let of = |name: &str| {
        validate(
            &json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": name}}),
            None,
            &schema,
        )
        .len()
    };
    assert_eq!((of("ab"), of("b")), (0, 1));
}
