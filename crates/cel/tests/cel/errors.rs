//! What doesn't compile, in the reference's words.

use std::sync::Arc;

use berth_cel::{Decl, Env};
use serde_json::json;

use crate::harness::messages;

fn env() -> Env {
    let schema = json!({
        "type": "object",
        "properties": {
            "replicas": {"type": "integer"},
            "ratio": {"type": "number"},
            "name": {"type": "string"},
            "when": {"type": "string", "format": "date-time"},
            "blob": {"type": "string", "format": "byte"},
            "port": {"x-kubernetes-int-or-string": true},
            "tags": {"type": "array", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "inner": {"type": "object", "properties": {"x": {"type": "integer"}}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        },
    });
    let decl = Arc::new(Decl::from_schema(&schema, true).unwrap());
    Env::new()
        .data("self", decl.clone())
        .optional("oldSelf", decl)
}

#[test]
fn wrong_expressions_are_named_as_the_reference_names_them() {
    for (source, expected) in [
        ("self.missing > 1", "undefined field 'missing'"),
        (
            "self.replicas == 'a'",
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        (
            "self.replicas + 1.0 == 2.0",
            "found no matching overload for '_+_' applied to '(int, double)'",
        ),
        (
            "self.name.startsWith(1)",
            "found no matching overload for 'startsWith' applied to 'string.(int)'",
        ),
        (
            "self.tags.all(t, t > 1)",
            "found no matching overload for '_>_' applied to '(string, int)'",
        ),
        (
            "unknown(1)",
            "undeclared reference to 'unknown' (in container '')",
        ),
        (
            "other.x",
            "undeclared reference to 'other' (in container '')",
        ),
        (
            "self.replicas.x",
            "type 'int' does not support field selection",
        ),
        (
            "self.replicas.all(x, true)",
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        (
            "self.tags.all(t, t)",
            "expected type 'bool' but found 'string'",
        ),
        ("[1, 'a'] == []", "expected type 'int' but found 'string'"),
        (
            "!self.replicas",
            "found no matching overload for '!_' applied to '(int)'",
        ),
        (
            "self.replicas && true",
            "expected type 'bool' but found 'int'",
        ),
        ("self.tags.map(1, 2) == []", "argument is not an identifier"),
        ("self.tags.all(t.x, true)", "argument must be a simple name"),
        ("has(self)", "invalid argument to has() macro"),
        ("self.tags.all(i, i, true)", "duplicate variable name: i"),
        (
            "oldSelf.replicas == 1",
            "found no matching overload for '_==_' applied to '(optional_type(int), int)'",
        ),
        (
            "self.when == '2026'",
            "found no matching overload for '_==_' applied to '(timestamp, string)'",
        ),
        (
            "self.blob == 'a'",
            "found no matching overload for '_==_' applied to '(bytes, string)'",
        ),
        (
            "self.labels['a'] == 1",
            "found no matching overload for '_==_' applied to '(string, int)'",
        ),
        ("self.open.x == 1", "undefined field 'x'"),
        ("self.embedded.spec == 1", "undefined field 'spec'"),
        ("self.metadata.labels == {}", "undefined field 'labels'"),
        (
            "self.inner == self.metadata",
            "found no matching overload for '_==_' applied to '(object.inner, object.metadata)'",
        ),
        (
            "duration('x') > duration('1s')",
            "invalid duration argument",
        ),
        (
            "timestamp('x') > timestamp('2026-01-01T00:00:00Z')",
            "invalid timestamp argument",
        ),
        ("self.name.matches('(')", "invalid matches argument"),
        ("package == 1", "reserved identifier: package"),
        (
            "self.name == 'a",
            "Syntax error: token recognition error at: ''a'",
        ),
        (
            "self.name == ",
            "Syntax error: mismatched input '<EOF>' expecting an expression",
        ),
        ("self.name.lowerAscii", "undefined field 'lowerAscii'"),
    ] {
        let messages = messages(&env(), source);
        // The name of a string's field selection is another error.
        let expected = if source.ends_with("lowerAscii") {
            "type 'string' does not support field selection"
        } else {
            expected
        };
        assert_eq!(
            messages.first().map(String::as_str),
            Some(expected),
            "{source}: {messages:?}"
        );
    }
}

#[test]
fn what_a_schema_declares_can_be_used() {
    for source in [
        "self.metadata.name.startsWith('a') && self.kind == 'X' && self.apiVersion == 'a/v1'",
        "self.embedded.metadata.generateName == ''",
        "self.when > timestamp('2026-01-01T00:00:00Z')",
        "type(self.port) == int ? self.port > 1 : self.port.endsWith('%')",
        "self.port == 1 || self.port == 'a'",
        "oldSelf.?replicas.orValue(0) <= self.replicas",
        "oldSelf.hasValue() && oldSelf.value().name == self.name",
        "self.labels.all(k, k.size() < 10 && self.labels[k] != '')",
        "self.ratio > 1 && self.replicas < 1.5",
        "self.inner.x in [1, 2] && self.tags.exists_one(t, t == self.name)",
        "self.tags == [] && self.labels == {}",
    ] {
        assert_eq!(messages(&env(), source), Vec::<String>::new(), "{source}");
    }
}

#[test]
fn errors_show_their_place() {
    let error = env()
        .compile("self.replicas > 1\n  && self.tägs == []")
        .unwrap_err();
    assert!(!error.issues().is_empty());
    let error = env()
        .compile("self.replicas > 1\n  && self.missing == 1")
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "ERROR: <input>:2:10: undefined field 'missing'\n |   && self.missing == 1\n | .........^"
    );
}
