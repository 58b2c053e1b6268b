//! Tables of what a stock API server says to pods that are wrong in one place.

use serde_json::{Value, json};

use super::*;
use crate::gates::FeatureGates;
use crate::rules::Rules;

fn pod(spec: Value) -> Pod {
    let body = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"}, "spec": spec});
    let mut pod: Pod = berth_api::decode::from_value(&body).unwrap();
    Rules::default(&mut pod);
    pod.prepare_create(&FeatureGates::default());
    pod
}

fn causes(errors: &[FieldError]) -> Vec<String> {
    let mut all: Vec<_> = errors
        .iter()
        .map(|e| format!("{} {}", e.kind.reason(), e.field))
        .collect();
    all.sort();
    all.dedup();
    all
}

fn check(cases: &[(Value, &[&str])]) {
    for (spec, want) in cases {
        assert_eq!(causes(&pod(spec.clone()).validate()), *want, "{spec}");
    }
}

/// A spec of one container with more fields of the spec.
fn spec(more: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
    merge(&mut spec, more);
    spec
}

/// A spec of one container with more fields of the container.
fn c(more: Value) -> Value {
    let mut container = json!({"name": "c", "image": "i"});
    merge(&mut container, more);
    json!({"containers": [container]})
}

fn merge(target: &mut Value, more: Value) {
    if let (Value::Object(target), Value::Object(more)) = (target, more) {
        target.extend(more);
    }
}

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

#[test]
fn volumes_and_mounts() {
    let v = |source: Value| {
        let mut v = json!({"name": "v"});
        merge(&mut v, source);
        spec(json!({"volumes": [v]}))
    };
    let mount = |more: Value| {
        let mut m = json!({"name": "v", "mountPath": "/x"});
        merge(&mut m, more);
        let mut s = c(json!({"volumeMounts": [m]}));
        s["volumes"] = json!([{"name": "v"}]);
        s
    };
    check(&[
        (v(json!({})), &[]),
        (
            v(json!({"emptyDir": {}, "hostPath": {"path": "/"}})),
            &["FieldValueForbidden spec.volumes[0].hostPath"],
        ),
        (
            v(json!({"name": "Bad_Name"})),
            &["FieldValueInvalid spec.volumes[0].name"],
        ),
        (
            spec(json!({"volumes": [{"name": "v"}, {"name": "v"}]})),
            &["FieldValueDuplicate spec.volumes[1].name"],
        ),
        (
            v(json!({"emptyDir": {"sizeLimit": "-1"}})),
            &["FieldValueForbidden spec.volumes[0].emptyDir.sizeLimit"],
        ),
        (
            v(json!({"hostPath": {"path": ""}})),
            &["FieldValueRequired spec.volumes[0].hostPath.path"],
        ),
        (
            v(json!({"hostPath": {"path": "/a/../b"}})),
            &["FieldValueInvalid spec.volumes[0].hostPath.path"],
        ),
        (
            v(json!({"hostPath": {"path": "/a", "type": "Odd"}})),
            &["FieldValueNotSupported spec.volumes[0].hostPath.type"],
        ),
        (
            v(json!({"secret": {}})),
            &["FieldValueRequired spec.volumes[0].secret.secretName"],
        ),
        (
            v(json!({"secret": {"secretName": "s", "defaultMode": 512}})),
            &["FieldValueInvalid spec.volumes[0].secret.defaultMode"],
        ),
        (
            v(json!({"configMap": {"name": "m", "items": [{"key": "k", "path": "../x"}]}})),
            &["FieldValueInvalid spec.volumes[0].configMap.items[0].path"],
        ),
        (
            v(json!({"configMap": {"name": "m", "items": [{"key": "", "path": "/x"}]}})),
            &[
                "FieldValueInvalid spec.volumes[0].configMap.items[0].path",
                "FieldValueRequired spec.volumes[0].configMap.items[0].key",
            ],
        ),
        (
            v(
                json!({"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
            ),
            &[],
        ),
        (
            v(json!({"downwardAPI": {"items": [{"path": "l"}]}})),
            &["FieldValueRequired spec.volumes[0].downwardAPI"],
        ),
        (
            v(
                json!({"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "spec.nodeName"}}]}}),
            ),
            &["FieldValueNotSupported spec.volumes[0].downwardAPI.fieldRef.fieldPath"],
        ),
        (
            v(json!({"persistentVolumeClaim": {"claimName": ""}})),
            &["FieldValueRequired spec.volumes[0].persistentVolumeClaim.claimName"],
        ),
        (
            v(json!({"nfs": {"server": "", "path": "x"}})),
            &[
                "FieldValueInvalid spec.volumes[0].nfs.path",
                "FieldValueRequired spec.volumes[0].nfs.server",
            ],
        ),
        (
            v(
                json!({"projected": {"sources": [{"secret": {"name": "a", "items": [{"key": "k", "path": "p"}]}}, {"configMap": {"name": "b", "items": [{"key": "k", "path": "p"}]}}]}}),
            ),
            &["FieldValueInvalid spec.volumes[0].projected"],
        ),
        (
            v(
                json!({"projected": {"sources": [{"secret": {"name": "a"}, "configMap": {"name": "b"}}]}}),
            ),
            &["FieldValueForbidden spec.volumes[0].projected.sources[0]"],
        ),
        (
            {
                let mut s = v(
                    json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 60}}]}}),
                );
                s["serviceAccountName"] = json!("sa");
                s
            },
            &[
                "FieldValueInvalid spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds",
            ],
        ),
        (
            v(json!({"csi": {"driver": ""}})),
            &[
                "FieldValueInvalid spec.volumes[0].csi.driver",
                "FieldValueRequired spec.volumes[0].csi.driver",
            ],
        ),
        (
            v(json!({"image": {"reference": ""}})),
            &["FieldValueRequired spec.volumes[0].image.reference"],
        ),
        (
            v(json!({"ephemeral": {}})),
            &["FieldValueRequired spec.volumes[0].ephemeral.volumeClaimTemplate"],
        ),
        (mount(json!({})), &[]),
        (
            mount(json!({"name": "nope"})),
            &["FieldValueNotFound spec.containers[0].volumeMounts[0].name"],
        ),
        (
            mount(json!({"mountPath": ""})),
            &["FieldValueRequired spec.containers[0].volumeMounts[0].mountPath"],
        ),
        (
            mount(json!({"subPath": "/a"})),
            &["FieldValueInvalid spec.containers[0].volumeMounts.subPath"],
        ),
        (
            mount(json!({"subPath": "a", "subPathExpr": "b"})),
            &["FieldValueInvalid spec.containers[0].volumeMounts[0].subPathExpr"],
        ),
        (
            mount(json!({"mountPropagation": "Bidirectional"})),
            &["FieldValueForbidden spec.containers[0].volumeMounts.mountPropagation"],
        ),
        (
            mount(json!({"recursiveReadOnly": "Enabled"})),
            &["FieldValueForbidden spec.containers[0].volumeMounts.recursiveReadOnly"],
        ),
        (
            c(
                json!({"volumeMounts": [{"name": "nope", "mountPath": "/x"}, {"name": "nope", "mountPath": "/x"}]}),
            ),
            &[
                "FieldValueInvalid spec.containers[0].volumeMounts[1].mountPath",
                "FieldValueNotFound spec.containers[0].volumeMounts[0].name",
                "FieldValueNotFound spec.containers[0].volumeMounts[1].name",
            ],
        ),
        (
            {
                let mut s = c(json!({"volumeDevices": [{"name": "v", "devicePath": "/d"}]}));
                s["volumes"] = json!([{"name": "v"}]);
                s
            },
            &["FieldValueInvalid spec.containers[0].volumeDevices[0].name"],
        ),
    ]);
}

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

#[test]
fn affinity_and_spread() {
    let node = |term: Value| {
        spec(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}),
        )
    };
    let required = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let got = |spec: Value| causes(&pod(spec).validate());
    assert_eq!(
        got(node(
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]})
        )),
        Vec::<String>::new()
    );
    assert_eq!(
        got(node(
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]})
        )),
        [format!(
            "FieldValueRequired {required}[0].matchExpressions[0].values"
        )]
    );
    assert_eq!(
        got(node(
            json!({"matchFields": [{"key": "metadata.uid", "operator": "In", "values": ["b"]}]})
        )),
        [format!(
            "FieldValueInvalid {required}[0].matchFields[0].key"
        )]
    );
    assert_eq!(
        got(spec(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}})
        )),
        [format!("FieldValueRequired {required}")]
    );
    let anti = "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]";
    assert_eq!(
        got(spec(
            json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 0, "podAffinityTerm": {"topologyKey": "", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Odd"}]}}}]}}})
        )),
        [
            format!(
                "FieldValueInvalid {anti}.podAffinityTerm.labelSelector.matchExpressions[0].operator"
            ),
            format!("FieldValueInvalid {anti}.podAffinityTerm.topologyKey"),
            format!("FieldValueInvalid {anti}.weight"),
            format!("FieldValueRequired {anti}.podAffinityTerm.topologyKey")
        ]
    );
    let spread = |c: Value| spec(json!({"topologySpreadConstraints": [c]}));
    assert_eq!(
        got(spread(
            json!({"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "Odd", "minDomains": 1})
        )),
        [
            "FieldValueInvalid spec.topologySpreadConstraints[0].maxSkew",
            "FieldValueInvalid spec.topologySpreadConstraints[0].minDomains",
            "FieldValueNotSupported spec.topologySpreadConstraints[0].whenUnsatisfiable",
            "FieldValueRequired spec.topologySpreadConstraints[0].topologyKey"
        ]
    );
}

#[test]
fn what_an_update_may_change() {
    let base = || {
        json!({"containers": [{"name": "c", "image": "i"}], "activeDeadlineSeconds": 10, "tolerations": [{"key": "a", "operator": "Exists"}],
        "schedulingGates": [{"name": "g"}], "nodeSelector": {"x": "y"}})
    };
    let with = |more: Value| {
        let mut s = base();
        merge(&mut s, more);
        s
    };
    for (change, want) in [
        (json!({}), vec![]),
        (
            json!({"containers": [{"name": "c", "image": "other", "imagePullPolicy": "Always"}]}),
            vec![],
        ),
        (
            json!({"containers": [{"name": "c", "image": ""}]}),
            vec![
                "FieldValueForbidden spec",
                "FieldValueRequired spec.containers[0].image",
            ],
        ),
        (
            json!({"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]}),
            vec!["FieldValueForbidden spec.containers"],
        ),
        (json!({"activeDeadlineSeconds": 5}), vec![]),
        (
            json!({"activeDeadlineSeconds": 20}),
            vec!["FieldValueInvalid spec.activeDeadlineSeconds"],
        ),
        (
            json!({"activeDeadlineSeconds": null}),
            vec!["FieldValueInvalid spec.activeDeadlineSeconds"],
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]}),
            vec![],
        ),
        (
            json!({"tolerations": []}),
            vec!["FieldValueForbidden spec.tolerations"],
        ),
        (json!({"schedulingGates": []}), vec![]),
        (
            json!({"schedulingGates": [{"name": "h"}]}),
            vec!["FieldValueForbidden spec.schedulingGates[0].name"],
        ),
        (json!({"nodeSelector": {"x": "y", "z": "w"}}), vec![]),
        (
            json!({"nodeSelector": {"x": "z"}}),
            vec!["FieldValueInvalid spec.nodeSelector"],
        ),
        (
            json!({"hostNetwork": true}),
            vec!["FieldValueForbidden spec"],
        ),
        (
            json!({"runtimeClassName": "x"}),
            vec!["FieldValueForbidden spec"],
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            vec!["FieldValueForbidden spec"],
        ),
    ] {
        let old = pod(base());
        let mut new = pod(with(change.clone()));
        new.prepare_update(&old, &FeatureGates::default());
        assert_eq!(causes(&new.validate_update(&old)), want, "{change}");
        let generation = if new.spec == old.spec { 1 } else { 2 };
        assert_eq!(new.metadata.generation, Some(generation));
    }
}

#[test]
fn what_a_status_may_say() {
    let with = |status: Value, restart: &str| {
        let mut p = pod(spec(json!({"restartPolicy": restart})));
        let mut body = json!({"qosClass": "BestEffort"});
        merge(&mut body, status);
        p.status = serde_json::from_value(body).unwrap();
        p
    };
    let ended = |code: i32| json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]});
    let runs = || json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 1, "state": {"running": {}}}]});
    for (restart, old, new, want) in [
        ("Always", ended(0), runs(), vec![]),
        ("OnFailure", ended(1), runs(), vec![]),
        (
            "OnFailure",
            ended(0),
            runs(),
            vec!["FieldValueForbidden status.containerStatuses[0].state"],
        ),
        (
            "Never",
            ended(1),
            runs(),
            vec!["FieldValueForbidden status.containerStatuses[0].state"],
        ),
        (
            "Always",
            json!({}),
            json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "::1"}]}),
            vec![],
        ),
        (
            "Always",
            json!({}),
            json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
            vec!["FieldValueInvalid status.podIPs"],
        ),
        (
            "Always",
            json!({}),
            json!({"podIPs": [{"ip": "x"}]}),
            vec!["FieldValueInvalid status.podIPs[0]"],
        ),
        (
            "Always",
            json!({}),
            json!({"qosClass": "Guaranteed"}),
            vec!["FieldValueInvalid status.qosClass"],
        ),
    ] {
        assert_eq!(
            causes(&with(new.clone(), restart).validate_status(&with(old, restart))),
            want,
            "{restart} {new}"
        );
    }
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
