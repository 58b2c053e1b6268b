//! What a schema does to values.

use berth_schema::{Schema, TooMuch, default, prune, validate};
use serde_json::{Map, Value, json};

fn of_spec(spec: Value) -> Schema {
    Schema::compile(&json!({"type": "object", "properties": {"spec": spec}})).unwrap()
}

fn wrong(schema: &Schema, spec: Value) -> Vec<String> {
    let errors = validate(&json!({"spec": spec}), None, schema);
    errors
        .iter()
        .map(|error| format!("{}: {}", error.field, error.body()))
        .collect()
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let schema = of_spec(json!({"type": "object", "properties": {
        "count": {"type": "integer", "default": 2},
        "deep": {"type": "object", "default": {}, "properties": {"x": {"type": "string", "default": "y"}}},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "null": {"type": "string", "nullable": true, "default": "d"},
        "no-null": {"type": "string"},
        "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer", "default": 1}}}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}}}}));
    let mut object = json!({"apiVersion": "e/v1", "kind": "E", "metadata": {"labels": {}}, "frob": 1, "spec": {
        "any": {"deep": {"er": 1}}, "no": 1, "list": [{"y": 1}, {"x": 2}], "null": null, "no-null": null, "count": null,
        "map": {"a": "b", "c": null}, "inner": {"kind": "K", "metadata": {"name": "n"}, "other": 1}}});
    let mut unknown = prune(&mut object, &schema, 100);
    default(&mut object, &schema).unwrap();
    unknown.sort();
    assert_eq!(
        unknown,
        ["frob", "spec.inner.other", "spec.list[0].y", "spec.no"]
    );
    let spec = &object["spec"];
    assert_eq!(spec["count"], 2);
    assert_eq!(spec["deep"], json!({"x": "y"}));
    assert_eq!(spec["any"]["deep"]["er"], 1);
    assert_eq!(spec["null"], Value::Null);
    assert_eq!(spec.get("no-null"), None);
    assert_eq!(spec["list"], json!([{"x": 1}, {"x": 2}]));
    assert_eq!(spec["map"], json!({"a": "b"}));
    assert_eq!(spec["inner"]["metadata"]["name"], "n");
}

#[test]
fn values_are_checked_in_the_references_words() {
    for (schema, value, expected) in [
        (
            json!({"type": "integer"}),
            json!("a"),
            "spec: Invalid value: \"string\": spec in body must be of type integer: \"string\"",
        ),
        (
            json!({"type": "integer"}),
            json!(1.5),
            "spec: Invalid value: \"number\": spec in body must be of type integer: \"number\"",
        ),
        (
            json!({"type": "string"}),
            Value::Null,
            "spec: Invalid value: \"null\": spec in body must be of type string: \"null\"",
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("äöü"),
            "spec: Too long: may not be more than 2 bytes",
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("ä"),
            "spec: Invalid value: \"ä\": spec in body should be at least 2 chars long",
        ),
        (
            json!({"type": "string", "pattern": "^[a-z]+$"}),
            json!("A"),
            "spec: Invalid value: \"A\": spec in body should match '^[a-z]+$'",
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            json!("x"),
            "spec: Invalid value: \"x\": spec in body must be of type ipv4: \"x\"",
        ),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            "spec: Unsupported value: \"c\": supported values: \"a\", \"b\"",
        ),
        (
            json!({"type": "integer", "minimum": 1}),
            json!(0),
            "spec: Invalid value: 0: spec in body should be greater than or equal to 1",
        ),
        (
            json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            json!(1),
            "spec: Invalid value: 1: spec in body should be greater than 1",
        ),
        (
            json!({"type": "number", "maximum": 1.5}),
            json!(2),
            "spec: Invalid value: 2: spec in body should be less than or equal to 1.5",
        ),
        (
            json!({"type": "number", "multipleOf": 0.5}),
            json!(0.7),
            "spec: Invalid value: 0.7: spec in body should be a multiple of 0.5",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
            json!(["a", "b"]),
            "spec: Too many: 2: must have at most 1 items",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
            json!([]),
            "spec: Invalid value: []: spec in body should have at least 1 items",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1}),
            json!({"a": "", "b": ""}),
            "spec: Too many: 2: must have at most 1 items",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
            json!({}),
            "spec.a: Required value",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
            json!(["a", "b", "a", "a"]),
            "spec[2]: Duplicate value: \"a\"",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"], "items": {"type": "object", "properties": {"n": {"type": "integer"}}}}),
            json!([{"n": 1}, {"n": 2}, {"n": 1}]),
            "spec[2]: Duplicate value: {\"n\":1}",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({"a": "", "b": ""}),
            "spec: Invalid value: {\"a\":\"\",\"b\":\"\"}: \"spec\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ),
        (
            json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]}),
            json!(3),
            "spec: Invalid value: 3: \"spec\" must validate at least one schema (anyOf)",
        ),
        (
            json!({"type": "integer", "not": {"enum": [3]}}),
            json!(3),
            "spec: Invalid value: 3: \"spec\" must not validate the schema (not)",
        ),
        (
            json!({"type": "integer", "allOf": [{"minimum": 5}]}),
            json!(3),
            "spec: Invalid value: 3: spec in body should be greater than or equal to 5",
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            "spec: Invalid value: \"boolean\": spec in body must be of type integer,string: \"boolean\"",
        ),
    ] {
        let schema_of = of_spec(schema.clone());
        assert_eq!(
            wrong(&schema_of, value.clone()),
            [expected],
            "{schema} {value}"
        );
    }
    for (schema, value) in [
        (json!({"type": "integer"}), json!(3.0)),
        (json!({"type": "number"}), json!(3)),
        (json!({"type": "string", "nullable": true}), Value::Null),
        (json!({"x-kubernetes-int-or-string": true}), json!("50%")),
        (json!({"type": "number", "multipleOf": 0.1}), json!(0.3)),
        (json!({"type": "string", "format": "made-up"}), json!("x")),
    ] {
        assert_eq!(
            wrong(&of_spec(schema.clone()), value.clone()),
            Vec::<String>::new(),
            "{schema} {value}"
        );
    }
}

#[test]
fn what_was_wrong_before_may_stay_and_what_changes_is_checked() {
    let schema = of_spec(json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "b": {"type": "string", "maxLength": 1},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
            "items": {"type": "object", "properties": {"n": {"type": "integer"}, "v": {"type": "string", "maxLength": 1}}}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}}}));
    let fields = |old: Value, new: Value| -> Vec<String> {
        validate(&json!({"spec": new}), Some(&json!({"spec": old})), &schema)
            .into_iter()
            .map(|error| error.field)
            .collect()
    };
    assert_eq!(
        fields(
            json!({"a": "long", "b": "x"}),
            json!({"a": "long", "b": "y"})
        ),
        Vec::<String>::new()
    );
    assert_eq!(
        fields(
            json!({"a": "long", "b": "x"}),
            json!({"a": "longer", "b": "x"})
        ),
        ["spec.a"]
    );
    // Items of keyed lists are found by their keys, wherever they are.
    let old = json!({"keyed": [{"n": 1, "v": "long"}, {"n": 2, "v": "x"}]});
    assert_eq!(
        fields(
            old.clone(),
            json!({"keyed": [{"n": 2, "v": "y"}, {"n": 1, "v": "long"}]})
        ),
        Vec::<String>::new()
    );
    assert_eq!(
        fields(
            old,
            json!({"keyed": [{"n": 2, "v": "long"}, {"n": 1, "v": "long"}]})
        ),
        ["spec.keyed[0].v"]
    );
    assert_eq!(
        fields(json!({"set": ["a", "a"]}), json!({"set": ["a", "a", "b"]})),
        Vec::<String>::new()
    );
    assert_eq!(
        fields(json!({"set": ["a"]}), json!({"set": ["a", "a"]})),
        ["spec.set[1]"]
    );
}

#[test]
fn schema_and_object_do_not_multiply() {
    let of = |item: Value| {
        of_spec(json!({"type": "object", "additionalProperties": {"type": "array", "items": item}}))
    };
    let list = |key: &str, item: Value| json!({"spec": {key: vec![item; 100_000]}});
    let schema = of(
        json!({"type": "object", "properties": {"x": {"type": "string", "default": "x".repeat(1000)}}}),
    );
    assert_eq!(
        default(&mut list("a", json!({})), &schema),
        Err(TooMuch::Defaults)
    );
    let properties: Map<String, Value> = (0..1000)
        .map(|n| (n.to_string(), json!({"type": "string"})))
        .collect();
    let schema = of(json!({"type": "object", "properties": properties}));
    assert_eq!(
        default(&mut list("a", json!({})), &schema),
        Err(TooMuch::Steps)
    );
    let values: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let errors = validate(
        &list("a", json!("999")),
        None,
        &of(json!({"type": "string", "enum": values})),
    );
    assert_eq!(errors.len(), 1, "{errors:?}");
    // A long path to each of many mistakes.
    let errors = validate(
        &list(&"k".repeat(100_000), json!(1)),
        None,
        &of(json!({"type": "string"})),
    );
    assert!(errors.len() <= 102, "{}", errors.len());
    assert!(errors.iter().all(|error| error.field.len() <= 1_000));
}
