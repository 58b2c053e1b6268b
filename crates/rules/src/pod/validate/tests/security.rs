//! Security contexts.

use serde_json::json;

use super::{c, check, spec};

#[test]
fn security_contexts() {
    check(&[
        (
            spec(
                json!({"securityContext": {"runAsUser": -1, "fsGroup": -1, "supplementalGroups": [-1]}}),
            ),
            &[
                "FieldValueInvalid spec.securityContext.fsGroup",
                "FieldValueInvalid spec.securityContext.runAsUser",
                "FieldValueInvalid spec.securityContext.supplementalGroups[0]",
            ],
        ),
        (
            spec(
                json!({"securityContext": {"sysctls": [{"name": "bad name", "value": "1"}, {"name": "net.ipv4.a", "value": ""}, {"name": "net.ipv4.a", "value": ""}]}}),
            ),
            &[
                "FieldValueDuplicate spec.securityContext.sysctls[2].name",
                "FieldValueInvalid spec.securityContext.sysctls[0].name",
            ],
        ),
        (
            spec(
                json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "net/ipv4/a", "value": "1"}]}}),
            ),
            &["FieldValueInvalid spec.securityContext.sysctls[0].name"],
        ),
        (
            spec(json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}})),
            &["FieldValueRequired spec.securityContext.seccompProfile.localhostProfile"],
        ),
        (
            spec(
                json!({"securityContext": {"seccompProfile": {"type": "Odd"}, "appArmorProfile": {"type": ""}}}),
            ),
            &[
                "FieldValueNotSupported spec.securityContext.seccompProfile.type",
                "FieldValueRequired spec.securityContext.appArmorProfile.type",
            ],
        ),
        (
            spec(json!({"securityContext": {"fsGroupChangePolicy": "Odd"}})),
            &["FieldValueNotSupported spec.securityContext.fsGroupChangePolicy"],
        ),
        (
            spec(json!({"shareProcessNamespace": true, "hostPID": true})),
            &["FieldValueInvalid spec.securityContext.shareProcessNamespace"],
        ),
        (
            c(json!({"securityContext": {"runAsGroup": -1}})),
            &["FieldValueInvalid spec.containers[0].securityContext.runAsGroup"],
        ),
        (
            c(json!({"securityContext": {"allowPrivilegeEscalation": false, "privileged": true}})),
            &["FieldValueInvalid spec.containers[0].securityContext"],
        ),
        (
            c(json!({"securityContext": {"procMount": "Unmasked"}})),
            &["FieldValueInvalid spec.containers[0].securityContext.procMount"],
        ),
    ]);
}
