//! The other fields of a spec, and what is filled in.

use serde_json::json;

use super::{check, pod, spec};

#[test]
fn fields_of_the_spec() {
    check(&[
        (
            spec(json!({"restartPolicy": "Sometimes"})),
            &["FieldValueNotSupported spec.restartPolicy"],
        ),
        (
            spec(json!({"dnsPolicy": "Frob"})),
            &["FieldValueNotSupported spec.dnsPolicy"],
        ),
        (
            spec(json!({"dnsPolicy": "None"})),
            &["FieldValueRequired spec.dnsConfig"],
        ),
        (
            spec(json!({"dnsPolicy": "None", "dnsConfig": {}})),
            &["FieldValueRequired spec.dnsConfig.nameservers"],
        ),
        (
            spec(
                json!({"dnsConfig": {"nameservers": ["x"], "searches": ["a_b.", ".", "-"], "options": [{}]}}),
            ),
            &[
                "FieldValueInvalid spec.dnsConfig.nameservers[0]",
                "FieldValueInvalid spec.dnsConfig.searches[2]",
                "FieldValueRequired spec.dnsConfig.options[0]",
            ],
        ),
        (
            spec(json!({"activeDeadlineSeconds": 0})),
            &["FieldValueInvalid spec.activeDeadlineSeconds"],
        ),
        (
            spec(json!({"nodeName": "Bad_Name!"})),
            &["FieldValueInvalid spec.nodeName"],
        ),
        (
            spec(json!({"hostname": "Bad_Name", "subdomain": "a.b"})),
            &[
                "FieldValueInvalid spec.hostname",
                "FieldValueInvalid spec.subdomain",
            ],
        ),
        (
            spec(json!({"nodeSelector": {"bad key!": "v"}})),
            &["FieldValueInvalid spec.nodeSelector"],
        ),
        (
            spec(json!({"runtimeClassName": "Bad"})),
            &["FieldValueInvalid spec.runtimeClassName"],
        ),
        (
            spec(json!({"runtimeClassName": ""})),
            &["FieldValueInvalid spec.runtimeClassName"],
        ),
        (
            spec(json!({"preemptionPolicy": "Odd"})),
            &["FieldValueNotSupported spec.preemptionPolicy"],
        ),
        (
            spec(json!({"tolerations": [{"operator": "Equal"}]})),
            &["FieldValueInvalid spec.tolerations[0].operator"],
        ),
        (
            spec(json!({"hostAliases": [{"ip": "x", "hostnames": ["A"]}]})),
            &[
                "FieldValueInvalid spec.hostAliases[0].hostnames[0]",
                "FieldValueInvalid spec.hostAliases[0].ip",
            ],
        ),
        (
            spec(json!({"schedulingGates": [{"name": "a"}, {"name": "a"}], "nodeName": "n"})),
            &[
                "FieldValueDuplicate spec.schedulingGates[1]",
                "FieldValueForbidden spec.nodeName",
            ],
        ),
        (
            spec(json!({"readinessGates": [{"conditionType": "bad one"}]})),
            &["FieldValueInvalid spec.readinessGates[0].conditionType"],
        ),
        (
            spec(json!({"os": {"name": "plan9"}})),
            &["FieldValueNotSupported spec.os"],
        ),
        (
            spec(json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}})),
            &["FieldValueForbidden spec.securityContext.windowsOptions"],
        ),
        (
            spec(json!({"hostUsers": false, "hostNetwork": true})),
            &["FieldValueForbidden spec.hostNetwork"],
        ),
        (
            spec(json!({"hostnameOverride": "a.b", "hostNetwork": true})),
            &["FieldValueForbidden spec.hostnameOverride"],
        ),
        (
            spec(
                json!({"resourceClaims": [{"name": "a"}, {"name": "a", "resourceClaimName": "x"}]}),
            ),
            &[
                "FieldValueDuplicate spec.resourceClaims[1].name",
                "FieldValueInvalid spec.resourceClaims[0]",
            ],
        ),
    ]);
}

#[test]
fn defaults_of_a_pod() {
    let p = pod(
        json!({"containers": [{"name": "c", "image": "busybox:1.0", "ports": [{"containerPort": 80}],
        "livenessProbe": {"httpGet": {"port": 80}}, "resources": {"limits": {"cpu": "1"}},
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}],
        "volumes": [{"name": "s", "secret": {"secretName": "x"}}, {"name": "h", "hostPath": {"path": "/x"}}, {"name": "e"}]}),
    );
    let spec = serde_json::to_value(p.spec.as_ref().unwrap()).unwrap();
    assert_eq!(
        spec,
        json!({
            "containers": [{"name": "c", "image": "busybox:1.0", "imagePullPolicy": "IfNotPresent", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "livenessProbe": {"failureThreshold": 3, "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1},
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
            "volumes": [{"name": "s", "secret": {"defaultMode": 420, "secretName": "x"}}, {"name": "h", "hostPath": {"path": "/x", "type": ""}}, {"name": "e", "emptyDir": {}}],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "terminationGracePeriodSeconds": 30,
        })
    );
    assert_eq!(
        serde_json::to_value(&p.status).unwrap(),
        json!({"phase": "Pending", "qosClass": "Burstable"})
    );
    for (image, policy) in [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1.0", "IfNotPresent"),
        ("localhost:5000/busybox", "Always"),
        ("localhost:5000/busybox:1", "IfNotPresent"),
        ("busybox@sha256:aaaa", "IfNotPresent"),
        ("Not/AnImage", "IfNotPresent"),
    ] {
        assert_eq!(crate::pod::image_pull_policy(image), policy, "{image}");
    }
}

#[test]
fn empty_lists_are_not_shown() {
    let p = pod(
        json!({"containers": [{"name": "c", "image": "i", "env": [], "command": [], "resources": {"limits": {}, "requests": {}}}],
        "tolerations": [], "nodeSelector": {}, "volumes": [], "overhead": {}}),
    );
    let spec = serde_json::to_value(p.spec.as_ref().unwrap()).unwrap();
    for absent in [
        "/tolerations",
        "/nodeSelector",
        "/volumes",
        "/containers/0/env",
        "/containers/0/command",
    ] {
        assert_eq!(spec.pointer(absent), None, "{absent}");
    }
    assert_eq!(spec["containers"][0]["resources"], json!({}));
    assert_eq!(spec["overhead"], json!({}), "admission has to see it");
}
