//! Containers, init containers and ephemeral ones, their ports.

use serde_json::json;

use super::{c, check, spec};

#[test]
fn containers() {
    check(&[
        (spec(json!({})), &[]),
        (
            json!({"containers": []}),
            &["FieldValueRequired spec.containers"],
        ),
        (
            json!({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]}),
            &["FieldValueDuplicate spec.containers[1].name"],
        ),
        (
            c(json!({"name": "Bad_Name"})),
            &["FieldValueInvalid spec.containers[0].name"],
        ),
        (
            c(json!({"name": ""})),
            &["FieldValueRequired spec.containers[0].name"],
        ),
        (
            c(json!({"image": ""})),
            &["FieldValueRequired spec.containers[0].image"],
        ),
        (
            c(json!({"image": " i"})),
            &["FieldValueInvalid spec.containers[0].image"],
        ),
        (
            c(json!({"imagePullPolicy": "Often"})),
            &["FieldValueNotSupported spec.containers[0].imagePullPolicy"],
        ),
        (
            c(json!({"terminationMessagePolicy": "Odd"})),
            &["FieldValueNotSupported spec.containers[0].terminationMessagePolicy"],
        ),
        (c(json!({"workingDir": "x", "stdinOnce": true})), &[]),
        (
            c(json!({"restartPolicy": "Sometimes"})),
            &["FieldValueNotSupported spec.containers[0].restartPolicy"],
        ),
        (
            c(
                json!({"restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]}),
            ),
            &["FieldValueRequired spec.containers[0].restartPolicy"],
        ),
        (
            c(
                json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "cpu", "restartPolicy": "Odd"}]}),
            ),
            &[
                "FieldValueDuplicate spec.containers[0].resizePolicy[1]",
                "FieldValueNotSupported spec.containers[0].resizePolicy",
            ],
        ),
    ]);
}

#[test]
fn init_and_ephemeral_containers() {
    let probe = json!({"exec": {"command": ["true"]}});
    check(&[
        (
            spec(
                json!({"initContainers": [{"name": "i", "image": "i"}, {"name": "s", "image": "i", "restartPolicy": "Always", "livenessProbe": probe}]}),
            ),
            &[],
        ),
        (
            spec(json!({"initContainers": [{"name": "c", "image": "i"}]})),
            &["FieldValueDuplicate spec.initContainers[0].name"],
        ),
        (
            spec(
                json!({"initContainers": [{"name": "i", "image": "i", "livenessProbe": probe, "lifecycle": {}}]}),
            ),
            &[
                "FieldValueForbidden spec.initContainers[0].lifecycle",
                "FieldValueForbidden spec.initContainers[0].livenessProbe",
            ],
        ),
        (
            spec(json!({"ephemeralContainers": [{"name": "e", "image": "i"}]})),
            &["FieldValueForbidden spec.ephemeralContainers"],
        ),
        (
            spec(
                json!({"ephemeralContainers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1}], "targetContainerName": "x"}]}),
            ),
            &[
                "FieldValueDuplicate spec.ephemeralContainers[0].name",
                "FieldValueForbidden spec.ephemeralContainers",
                "FieldValueForbidden spec.ephemeralContainers[0].ports",
                "FieldValueNotFound spec.ephemeralContainers[0].targetContainerName",
            ],
        ),
    ]);
}

#[test]
fn ports() {
    check(&[
        (c(json!({"ports": [{"containerPort": 80}]})), &[]),
        (
            c(json!({"ports": [{"containerPort": 70000}]})),
            &["FieldValueInvalid spec.containers[0].ports[0].containerPort"],
        ),
        (
            c(json!({"ports": [{"containerPort": 0}]})),
            &["FieldValueRequired spec.containers[0].ports[0].containerPort"],
        ),
        (
            c(json!({"ports": [{"containerPort": 80, "protocol": "FTP"}]})),
            &["FieldValueNotSupported spec.containers[0].ports[0].protocol"],
        ),
        (
            c(
                json!({"ports": [{"name": "a", "containerPort": 80}, {"name": "a", "containerPort": 81}]}),
            ),
            &["FieldValueDuplicate spec.containers[0].ports[1].name"],
        ),
        (
            c(json!({"ports": [{"name": "8080", "containerPort": 80}]})),
            &["FieldValueInvalid spec.containers[0].ports[0].name"],
        ),
        (
            c(json!({"ports": [{"containerPort": 80, "hostPort": 70000}]})),
            &["FieldValueInvalid spec.containers[0].ports[0].hostPort"],
        ),
        (
            c(
                json!({"ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]}),
            ),
            &["FieldValueDuplicate spec.containers[0].ports[1].hostPort"],
        ),
        (
            {
                let mut s = c(json!({"ports": [{"containerPort": 80, "hostPort": 81}]}));
                s["hostNetwork"] = json!(true);
                s
            },
            &["FieldValueInvalid spec.containers[0].ports[0].hostPort"],
        ),
        (
            {
                let mut s = c(json!({"ports": [{"containerPort": 80}]}));
                s["hostNetwork"] = json!(true);
                s
            },
            &[],
        ),
    ]);
}
