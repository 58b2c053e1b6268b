//! Volumes and their mounts.

use serde_json::{Value, json};

use super::{c, check, merge, spec};

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
