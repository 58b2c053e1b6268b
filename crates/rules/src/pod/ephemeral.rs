//! Updates of the subresource `ephemeralcontainers`: more of them, none changed, none gone.

use std::collections::HashMap;

use berth_api::field::{FieldError, FieldPath, bounded};
use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};

use super::validate;
use berth_core::meta;

/// What is wrong with an update of a pod's ephemeral containers.
#[must_use]
pub fn validate_ephemeral_containers(pod: &Pod, old: &Pod) -> Vec<FieldError> {
    let mut errors = meta::validate_update(&pod.metadata, &old.metadata);
    errors.extend(validate::metadata_and_spec(pod));
    let annotations = old.metadata.annotations.as_ref();
    if annotations.is_some_and(|a| a.contains_key(validate::MIRROR)) {
        let why = "static pods do not support ephemeral containers";
        return vec![FieldError::forbidden(&FieldPath::new("[]"), why)];
    }
    let at = FieldPath::new("spec.ephemeralContainers");
    let new: HashMap<&str, &EphemeralContainer> =
        list(pod).iter().map(|c| (c.name.as_str(), c)).collect();
    for before in list(old) {
        match new.get(before.name.as_str()) {
            None => errors.push(FieldError::forbidden(
                &at,
                format!(
                    "existing ephemeral containers {:?} may not be removed",
                    before.name
                ),
            )),
            Some(now) if **now != *before => errors.push(FieldError::forbidden(
                &at,
                format!(
                    "existing ephemeral containers {:?} may not be changed",
                    before.name
                ),
            )),
            Some(_) => {}
        }
    }
    bounded(errors)
}

fn list(pod: &Pod) -> &[EphemeralContainer] {
    pod.spec
        .as_ref()
        .and_then(|s| s.ephemeral_containers.as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(ephemeral: Value, annotations: Value) -> Pod {
        let body = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1", "annotations": annotations},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}], "ephemeralContainers": ephemeral},
        });
        let mut pod: Pod = berth_api::decode::from_value(&body).unwrap();
        crate::Rules::default(&mut pod);
        pod
    }

    #[test]
    fn more_may_come_none_may_go_or_change() {
        let a = json!({"name": "a", "image": "i"});
        let b = json!({"name": "b", "image": "i", "targetContainerName": "c"});
        let changed = json!({"name": "a", "image": "j"});
        let none = json!({});
        let mirror = json!({"kubernetes.io/config.mirror": "x"});
        for (old, new, annotations, want) in [
            (json!([]), json!([a]), &none, vec![]),
            (json!([a]), json!([b, a]), &none, vec![]),
            (
                json!([a]),
                json!([b]),
                &none,
                vec!["FieldValueForbidden spec.ephemeralContainers"],
            ),
            (
                json!([a]),
                json!([changed]),
                &none,
                vec!["FieldValueForbidden spec.ephemeralContainers"],
            ),
            (
                json!([]),
                json!([{"name": "c", "image": "i"}]),
                &none,
                vec!["FieldValueDuplicate spec.ephemeralContainers[0].name"],
            ),
            (
                json!([]),
                json!([a]),
                &mirror,
                vec!["FieldValueForbidden []"],
            ),
        ] {
            let errors = validate_ephemeral_containers(
                &pod(new.clone(), annotations.clone()),
                &pod(old, annotations.clone()),
            );
            let got: Vec<_> = errors
                .iter()
                .map(|e| format!("{} {}", e.kind.reason(), e.field))
                .collect();
            assert_eq!(got, want, "{new}");
        }
    }

    #[test]
    fn what_ephemeral_containers_may_not_have() {
        let field = |name: &str, value: Value| {
            let mut container = json!({"name": "a", "image": "i"});
            container[name] = value;
            container
        };
        let probe = json!({"exec": {"command": ["x"]}});
        for (name, value, at) in [
            ("ports", json!([{"containerPort": 1}]), "ports"),
            ("resources", json!({"limits": {"cpu": "1"}}), "resources"),
            ("resources", json!({"requests": {"cpu": "1"}}), "resources"),
            (
                "resizePolicy",
                json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]),
                "resizePolicy",
            ),
            ("restartPolicy", json!("Never"), "restartPolicy"),
            ("livenessProbe", probe.clone(), "livenessProbe"),
            ("readinessProbe", probe.clone(), "readinessProbe"),
            ("startupProbe", probe.clone(), "startupProbe"),
            ("lifecycle", json!({"preStop": probe}), "lifecycle"),
            (
                "volumeMounts",
                json!([{"name": "v", "mountPath": "/m", "subPath": "s"}]),
                "volumeMounts[0].subPath",
            ),
            (
                "volumeMounts",
                json!([{"name": "v", "mountPath": "/m", "subPathExpr": "s"}]),
                "volumeMounts[0].subPathExpr",
            ),
        ] {
            let with_volume = |ephemeral: Value| {
                let mut p = pod(ephemeral, json!({}));
                let volumes = json!([{"name": "v", "emptyDir": {}}]);
                p.spec.as_mut().unwrap().volumes = serde_json::from_value(volumes).unwrap();
                p
            };
            let errors = validate_ephemeral_containers(
                &with_volume(json!([field(name, value.clone())])),
                &with_volume(json!([])),
            );
            let got: Vec<_> = errors.iter().map(ToString::to_string).collect();
            let want = format!(
                "spec.ephemeralContainers[0].{at}: Forbidden: cannot be set for an Ephemeral Container"
            );
            assert_eq!(got, [want], "{name} {value}");
        }
        let lone = json!({"name": "a", "image": "i", "targetContainerName": "nope"});
        let twice = json!([{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]);
        for (list, want) in [
            (
                json!([lone]),
                "FieldValueNotFound spec.ephemeralContainers[0].targetContainerName",
            ),
            (
                twice,
                "FieldValueDuplicate spec.ephemeralContainers[1].name",
            ),
        ] {
            let errors =
                validate_ephemeral_containers(&pod(list, json!({})), &pod(json!([]), json!({})));
            let got: Vec<_> = errors
                .iter()
                .map(|e| format!("{} {}", e.kind.reason(), e.field))
                .collect();
            assert_eq!(got, [want]);
        }
    }
}
