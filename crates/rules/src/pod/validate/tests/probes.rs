//! Probes and lifecycle hooks.

use serde_json::{Value, json};

use super::{c, check};

#[test]
fn probes_and_hooks() {
    let live = |probe: Value| c(json!({"livenessProbe": probe}));
    check(&[
        (live(json!({"httpGet": {"port": 80}})), &[]),
        (
            live(json!({"httpGet": {"port": 0}})),
            &["FieldValueInvalid spec.containers[0].livenessProbe.httpGet.port"],
        ),
        (
            live(json!({"httpGet": {"port": "Bad_Port"}})),
            &["FieldValueInvalid spec.containers[0].livenessProbe.httpGet.port"],
        ),
        (
            live(json!({"httpGet": {"port": 80, "scheme": "FTP"}})),
            &["FieldValueNotSupported spec.containers[0].livenessProbe.httpGet.scheme"],
        ),
        (
            live(json!({"httpGet": {"port": 80, "httpHeaders": [{"name": "a b", "value": ""}]}})),
            &["FieldValueInvalid spec.containers[0].livenessProbe.httpGet.httpHeaders"],
        ),
        (
            live(json!({})),
            &["FieldValueRequired spec.containers[0].livenessProbe"],
        ),
        (
            live(json!({"exec": {}})),
            &["FieldValueRequired spec.containers[0].livenessProbe.exec.command"],
        ),
        (
            live(json!({"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}})),
            &["FieldValueForbidden spec.containers[0].livenessProbe.tcpSocket"],
        ),
        (
            live(json!({"tcpSocket": {"port": 1}, "successThreshold": 2})),
            &["FieldValueInvalid spec.containers[0].livenessProbe.successThreshold"],
        ),
        (
            live(json!({"grpc": {"port": 0}})),
            &["FieldValueInvalid spec.containers[0].livenessProbe.grpc.port"],
        ),
        (
            live(json!({"tcpSocket": {"port": 1}, "periodSeconds": -1})),
            &["FieldValueInvalid spec.containers[0].livenessProbe.periodSeconds"],
        ),
        (
            c(
                json!({"readinessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 1, "successThreshold": 2}}),
            ),
            &["FieldValueInvalid spec.containers[0].readinessProbe.terminationGracePeriodSeconds"],
        ),
        (
            c(json!({"lifecycle": {"preStop": {}}})),
            &["FieldValueRequired spec.containers[0].lifecycle.preStop"],
        ),
        (
            c(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}})),
            &["FieldValueInvalid spec.containers[0].lifecycle.preStop.sleep"],
        ),
        (
            c(json!({"lifecycle": {"stopSignal": "SIGTERM"}})),
            &["FieldValueForbidden spec.containers[0].lifecycle.stopSignal"],
        ),
    ]);
}
