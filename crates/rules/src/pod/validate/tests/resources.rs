//! Requests, limits and overhead.

use serde_json::{Value, json};

use super::{c, check, spec};

#[test]
fn resources() {
    let r = |resources: Value| c(json!({"resources": resources}));
    check(&[
        (
            r(
                json!({"requests": {"cpu": "100m", "example.com/gpu": 1}, "limits": {"cpu": 1, "example.com/gpu": 1}}),
            ),
            &[],
        ),
        (
            r(json!({"requests": {"cpu": "-1"}})),
            &["FieldValueInvalid spec.containers[0].resources.requests[cpu]"],
        ),
        (
            r(json!({"requests": {"frob": "1"}})),
            &["FieldValueInvalid spec.containers[0].resources.requests[frob]"],
        ),
        (
            r(json!({"requests": {"cpu": 2}, "limits": {"cpu": 1}})),
            &["FieldValueInvalid spec.containers[0].resources.requests"],
        ),
        (
            r(json!({"requests": {"example.com/gpu": 1}})),
            &["FieldValueRequired spec.containers[0].resources.limits"],
        ),
        (
            r(json!({"limits": {"example.com/gpu": "1500m"}})),
            &[
                "FieldValueInvalid spec.containers[0].resources.limits[example.com/gpu]",
                "FieldValueInvalid spec.containers[0].resources.requests[example.com/gpu]",
            ],
        ),
        (
            r(json!({"limits": {"hugepages-2Mi": "2Mi"}})),
            &["FieldValueForbidden spec.containers[0].resources"],
        ),
        (
            r(json!({"claims": [{"name": "x"}]})),
            &["FieldValueNotFound spec.containers[0].resources.claims[0]"],
        ),
        (
            spec(json!({"overhead": {"cpu": "-1"}})),
            &["FieldValueInvalid spec.overhead.limits[cpu]"],
        ),
        (
            spec(json!({"resources": {"requests": {"ephemeral-storage": "1Gi"}}})),
            &["FieldValueNotSupported spec.resources.requests[ephemeral-storage]"],
        ),
        (
            {
                let mut s = r(json!({"requests": {"cpu": 2}}));
                s["resources"] = json!({"requests": {"cpu": 1}});
                s
            },
            &["FieldValueInvalid spec.resources.requests[cpu]"],
        ),
    ]);
}
