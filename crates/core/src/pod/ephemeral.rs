//! Updates of the subresource `ephemeralcontainers`: more of them, none changed, none gone.

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::Pod;

use super::validate;
use crate::meta;

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
    let list = |p: &Pod| {
        p.spec
            .as_ref()
            .and_then(|s| s.ephemeral_containers.clone())
            .unwrap_or_default()
    };
    let new = list(pod);
    for before in list(old) {
        match new.iter().find(|c| c.name == before.name) {
            None => errors.push(FieldError::forbidden(
                &at,
                format!(
                    "existing ephemeral containers {:?} may not be removed",
                    before.name
                ),
            )),
            Some(now) if *now != before => errors.push(FieldError::forbidden(
                &at,
                format!(
                    "existing ephemeral containers {:?} may not be changed",
                    before.name
                ),
            )),
            Some(_) => {}
        }
    }
    errors
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
        crate::rules::Rules::default(&mut pod);
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
}
