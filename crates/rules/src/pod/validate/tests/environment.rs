//! Variables and where their values come from.

use serde_json::{Value, json};

use super::{c, check};

#[test]
fn environment() {
    let from = |source: Value| c(json!({"env": [{"name": "A", "valueFrom": source}]}));
    let field = |path: &str| from(json!({"fieldRef": {"fieldPath": path}}));
    check(&[
        (
            c(json!({"env": [{"name": "A", "value": "x"}, {"name": "A B.c", "value": "x"}]})),
            &[],
        ),
        (
            c(json!({"env": [{"name": ""}]})),
            &["FieldValueRequired spec.containers[0].env[0].name"],
        ),
        (
            c(json!({"env": [{"name": "bad=name"}]})),
            &["FieldValueInvalid spec.containers[0].env[0].name"],
        ),
        (
            c(
                json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            ),
            &["FieldValueInvalid spec.containers[0].env[0].valueFrom"],
        ),
        (
            from(json!({})),
            &["FieldValueInvalid spec.containers[0].env[0].valueFrom"],
        ),
        (
            from(
                json!({"fieldRef": {"fieldPath": "metadata.name"}, "secretKeyRef": {"name": "s", "key": "k"}}),
            ),
            &["FieldValueInvalid spec.containers[0].env[0].valueFrom"],
        ),
        (field("metadata.labels['a']"), &[]),
        (field("status.podIPs"), &[]),
        (
            field("spec.frob"),
            &["FieldValueInvalid spec.containers[0].env[0].valueFrom.fieldRef.fieldPath"],
        ),
        (
            field("metadata.labels"),
            &["FieldValueNotSupported spec.containers[0].env[0].valueFrom.fieldRef.fieldPath"],
        ),
        (
            field("spec.restartPolicy"),
            &["FieldValueNotSupported spec.containers[0].env[0].valueFrom.fieldRef.fieldPath"],
        ),
        (
            field("metadata.labels['bad key']"),
            &["FieldValueInvalid spec.containers[0].env[0].valueFrom.fieldRef"],
        ),
        (
            field(""),
            &["FieldValueRequired spec.containers[0].env[0].valueFrom.fieldRef.fieldPath"],
        ),
        (
            from(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}})),
            &[],
        ),
        (
            from(json!({"resourceFieldRef": {"resource": "limits.frob"}})),
            &[
                "FieldValueNotSupported spec.containers[0].env[0].valueFrom.resourceFieldRef.resource",
            ],
        ),
        (
            from(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}})),
            &["FieldValueInvalid spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor"],
        ),
        (
            from(json!({"configMapKeyRef": {"name": "m", "key": ""}})),
            &["FieldValueRequired spec.containers[0].env[0].valueFrom.configMapKeyRef.key"],
        ),
        (
            from(json!({"secretKeyRef": {"name": "", "key": "a/b"}})),
            &[
                "FieldValueInvalid spec.containers[0].env[0].valueFrom.secretKeyRef.key",
                "FieldValueInvalid spec.containers[0].env[0].valueFrom.secretKeyRef.name",
            ],
        ),
        (
            c(json!({"envFrom": [{"configMapRef": {"name": "m"}, "prefix": "P_"}]})),
            &[],
        ),
        (
            c(json!({"envFrom": [{}]})),
            &["FieldValueInvalid spec.containers[0].envFrom"],
        ),
        (
            c(json!({"envFrom": [{"configMapRef": {"name": ""}}]})),
            &["FieldValueRequired spec.containers[0].envFrom[0].configMapRef.name"],
        ),
        (
            c(json!({"envFrom": [{"secretRef": {"name": "s"}, "configMapRef": {"name": "m"}}]})),
            &["FieldValueInvalid spec.containers[0].envFrom"],
        ),
    ]);
}
