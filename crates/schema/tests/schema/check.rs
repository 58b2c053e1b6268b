//! What a definition's schema is refused for.

use berth_api::field::FieldPath;
use berth_schema::{Options, check, check_scale_path, check_selectable_fields};
use serde_json::{Value, json};

/// The errors of a schema, as a Status shows them, without the path to the schema.
fn errors(schema: &Value) -> Vec<String> {
    let errors = check(schema, &FieldPath::new("s"), Options::default());
    errors
        .iter()
        .map(|error| format!("{}: {}", error.field, error.body()))
        .collect()
}

fn of_spec(spec: Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

#[test]
fn good_schemas_are_taken() {
    for spec in [
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        json!({"x-kubernetes-preserve-unknown-fields": true}),
        json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "^a"}),
        json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"minimum": 1}]}),
        json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}),
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}], "not": {"properties": {"a": {"enum": ["x"]}}}}),
        json!({"type": "object", "additionalProperties": {"type": "integer", "nullable": true}, "maxProperties": 3}),
        json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
        json!({"type": "string", "default": "a", "enum": ["a", "b"], "x-kubernetes-validations": [{"rule": "self != 'c'"}]}),
        json!({"type": "object", "properties": {"n": {"type": "integer", "default": 3}}, "default": {}}),
    ] {
        assert_eq!(
            errors(&of_spec(spec.clone())),
            Vec::<String>::new(),
            "{spec}"
        );
    }
}

#[test]
fn what_is_not_structural_is_refused() {
    let spec = "s.properties[spec]";
    for (schema, expected) in [
        (json!({}), "s.type: Required value: must not be empty at the root".to_owned()),
        (json!({"type": "array", "items": {"type": "string"}}), "s.type: Invalid value: \"array\": must be object at the root".to_owned()),
        (of_spec(json!({})), format!("{spec}.type: Required value: must not be empty for specified object fields")),
        (of_spec(json!({"type": "array"})), format!("{spec}.items: Required value: must be specified")),
        (of_spec(json!({"type": "array", "items": {}})), format!("{spec}.items.type: Required value: must not be empty for specified array items")),
        (of_spec(json!({"type": "frob"})), format!("{spec}.type: Unsupported value: \"frob\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"")),
        (of_spec(json!({"type": "object", "anyOf": [{"type": "object"}]})), format!("{spec}.anyOf[0].type: Forbidden: must be empty to be structural")),
        (of_spec(json!({"type": "string", "pattern": "("})), format!("{spec}.pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`")),
        (of_spec(json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true})), format!("{spec}.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic")),
        (of_spec(json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"a": {"type": "string"}}})), format!("{spec}.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive")),
        (of_spec(json!({"type": "object", "$ref": "#/x"})), format!("{spec}.$ref: Forbidden: $ref is not supported")),
        (of_spec(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false})), format!("{spec}.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined")),
        (of_spec(json!({"type": "object", "x-kubernetes-embedded-resource": true})), format!("{spec}.properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields")),
        (of_spec(json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map"})), format!("{spec}.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map")),
        (of_spec(json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "bag"})), format!("{spec}.x-kubernetes-list-type: Unsupported value: \"bag\": supported values: \"atomic\", \"set\", \"map\"")),
        (of_spec(json!({"type": "integer", "default": "a"})), format!("{spec}.default: Invalid value: \"string\": {spec}.default in body must be of type integer: \"string\"")),
        (of_spec(json!({"type": "object", "properties": {}, "default": {"x": 1}})), format!("{spec}.default: Invalid value: {{\"x\":1}}: must not have unknown fields")),
        (json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}), "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified".to_owned()),
        (json!({"type": "object", "nullable": true}), "s.nullable: Forbidden: nullable cannot be true at the root".to_owned()),
        (json!({"type": "object", "additionalProperties": {"type": "string"}}), "s.additionalProperties: Forbidden: must not be used at the root".to_owned()),
        (json!({"type": "object", "oneOf": [{"properties": {"x": {"minimum": 1}}}]}), "s.properties[x]: Required value: because it is defined in s.oneOf[0].properties[x]".to_owned()),
    ] {
        let found = errors(&schema);
        assert!(found.contains(&expected), "{schema}\nwanted {expected}\nfound {found:#?}");
    }
}

#[test]
fn rules_are_compiled_and_estimated() {
    let at = "s.properties[spec].x-kubernetes-validations[0]";
    let with = |schema: Value, rule: Value| {
        let mut schema = schema;
        schema["x-kubernetes-validations"] = json!([rule]);
        of_spec(schema)
    };
    let text = json!({"type": "string"});
    for (schema, field, detail) in [
        (
            with(text.clone(), json!({"rule": " "})),
            ".rule",
            "rule is not specified",
        ),
        (
            with(text.clone(), json!({"rule": "self.x"})),
            ".rule",
            "type 'string' does not support field selection",
        ),
        (
            with(text.clone(), json!({"rule": "self"})),
            ".rule",
            "cel expression must evaluate to a bool",
        ),
        (
            with(
                text.clone(),
                json!({"rule": "true", "messageExpression": "1"}),
            ),
            ".messageExpression",
            "messageExpression must evaluate to a string",
        ),
        (
            with(text.clone(), json!({"rule": "true", "message": "a\nb"})),
            ".message",
            "must not contain line breaks",
        ),
        (
            with(text.clone(), json!({"rule": "true", "reason": "Because"})),
            ".reason",
            "supported values: \"FieldValueDuplicate\"",
        ),
        (
            with(text.clone(), json!({"rule": "true", "fieldPath": ".x"})),
            ".fieldPath",
            "must be a valid path",
        ),
        (
            with(text, json!({"rule": "true", "optionalOldSelf": true})),
            ".optionalOldSelf",
            "may not be set if oldSelf is not used in rule",
        ),
        (
            with(
                json!({"type": "array", "items": {"type": "string"}}),
                json!({"rule": "self.all(x, self.all(y, x == y))"}),
            ),
            ".rule",
            "estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
        ),
    ] {
        let found = errors(&schema);
        let wanted = format!("{at}{field}: ");
        assert!(
            found
                .iter()
                .any(|error| error.starts_with(&wanted) && error.contains(detail)),
            "{schema}\n{found:#?}"
        );
    }
    let list = json!({"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}});
    let found = errors(&of_spec(list));
    let uncorrelatable = "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec]";
    assert!(
        found.iter().any(|error| error.contains(uncorrelatable)),
        "{found:#?}"
    );
    // What is bounded is cheap enough.
    let bounded = with(
        json!({"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}}),
        json!({"rule": "self.all(x, self.all(y, x == y))"}),
    );
    assert_eq!(errors(&bounded), Vec::<String>::new());
}

#[test]
fn paths_are_checked() {
    let schema = of_spec(
        json!({"type": "object", "properties": {"a": {"type": "string"}, "o": {"type": "object"}}}),
    );
    let at = FieldPath::new("f");
    let paths = |list: &[&str]| {
        list.iter()
            .map(|path| (*path).to_owned())
            .collect::<Vec<_>>()
    };
    assert!(check_selectable_fields(&paths(&[".spec.a"]), &schema, &at).is_empty());
    for (list, detail) in [
        (
            vec![".spec.b"],
            "is an invalid path: does not refer to a valid field",
        ),
        (
            vec![".spec.o"],
            "must point to a field of type string, boolean or integer",
        ),
        (vec![".spec['a']"], "array notation is not allowed"),
        (vec![""], "Required value"),
        (vec![".spec.a", ".spec.a"], "Duplicate value"),
    ] {
        let errors = check_selectable_fields(&paths(&list), &schema, &at);
        assert!(
            errors.iter().any(|error| error.body().contains(detail)),
            "{list:?}: {errors:?}"
        );
    }
    assert!(check_scale_path(".spec.replicas", true, &[".spec."], &at).is_empty());
    assert_eq!(
        check_scale_path(".status.x", true, &[".spec."], &at)[0].detail,
        "should be a json path under .spec"
    );
    assert_eq!(check_scale_path("", true, &[".spec."], &at).len(), 1);
    assert!(check_scale_path("", false, &[".spec."], &at).is_empty());
}

#[test]
fn schemas_that_are_chosen_to_take_long_do_not() {
    let begun = std::time::Instant::now();
    let rule = json!({"rule": format!("{}true", "true && ".repeat(2_000)), "message": "m"});
    let deep = (0..60).fold(json!({"type": "string"}), |inner, _| {
        json!({"type": "object", "properties": {"a": inner}, "x-kubernetes-validations": [{"rule": "has(self.a)"}]})
    });
    let many = json!({"type": "string", "x-kubernetes-validations": vec![rule; 20]});
    let patterns: serde_json::Map<String, Value> = (0..200)
        .map(|n| {
            (
                format!("p{n}"),
                json!({"type": "string", "pattern": "((a{1000}){1000}){1000}"}),
            )
        })
        .collect();
    for schema in [
        deep,
        many,
        json!({"type": "object", "properties": patterns}),
    ] {
        let _ = errors(&of_spec(schema));
    }
    let rules = json!({"type": "string", "maxLength": 1, "x-kubernetes-validations": vec![json!({"rule": "true"}); 3_000]});
    assert!(
        errors(&of_spec(rules))
            .iter()
            .any(|error| error.contains("a schema has at most 2000 validation rules"))
    );
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
}
