//! The RuntimeClass plugin: overhead, node selector and tolerations of a class reach its pods.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;

use super::Rejection;
use berth_core::gates::{FeatureGates, Gate};
use berth_core::{resource_list, toleration};

/// Admits a new pod. `class` is the class that the pod names, `None` if it names none or there is no such class.
///
/// # Errors
/// The [`Rejection`]s of the RuntimeClass plugin.
pub fn admit(
    pod: &mut Pod,
    class: Option<&RuntimeClass>,
    gates: &FeatureGates,
) -> Result<(), Rejection> {
    let Some(spec) = pod.spec.as_mut() else {
        return Ok(());
    };
    if !gates.enabled(Gate::RuntimeClass) {
        return Ok(());
    }
    let class = match (&spec.runtime_class_name, class) {
        (None, _) => None,
        (Some(_), Some(class)) => Some(class),
        (Some(name), None) => {
            return Err(Rejection::ClassNotFound {
                class: name.clone(),
            });
        }
    };
    if gates.enabled(Gate::PodOverhead) {
        let given = class
            .and_then(|c| c.overhead.as_ref())
            .and_then(|o| o.pod_fixed.as_ref());
        match (given, &spec.overhead) {
            (Some(fixed), Some(own)) if !resource_list::equal(fixed, own) => {
                return Err(Rejection::OverheadMismatch);
            }
            (Some(fixed), _) => spec.overhead = Some(fixed.clone()),
            (None, Some(_)) => return Err(Rejection::OverheadWithoutClass),
            (None, None) => {}
        }
    }
    let scheduling = class
        .and_then(|c| c.scheduling.as_ref())
        .filter(|_| gates.enabled(Gate::RuntimeClassScheduling));
    if let Some(scheduling) = scheduling {
        if let Some(wanted) = scheduling.node_selector.as_ref().filter(|s| !s.is_empty()) {
            let selector = spec.node_selector.get_or_insert_default();
            for (key, value) in wanted {
                if let Some(own) = selector.get(key).filter(|own| *own != value) {
                    return Err(Rejection::SelectorConflict {
                        key: key.clone(),
                        class: value.clone(),
                        pod: own.clone(),
                    });
                }
            }
            for (key, value) in wanted {
                selector.insert(key.clone(), value.clone());
            }
        }
        let wanted = scheduling.tolerations.as_deref().unwrap_or_default();
        let own = spec.tolerations.as_deref().unwrap_or_default();
        if !own.is_empty() || !wanted.is_empty() {
            spec.tolerations = Some(toleration::merge(own, wanted));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn class(mut body: Value) -> RuntimeClass {
        body["metadata"] = json!({"name": "c"});
        body["handler"] = json!("h");
        serde_json::from_value(body).unwrap()
    }

    fn admitted(
        spec: Value,
        class: Option<&RuntimeClass>,
        gates: &str,
    ) -> Result<Value, Rejection> {
        let mut pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        admit(&mut pod, class, &gates.parse().unwrap())?;
        let mut spec = serde_json::to_value(pod.spec).unwrap();
        spec.as_object_mut().unwrap().remove("containers");
        Ok(spec)
    }

    fn overhead() -> RuntimeClass {
        class(json!({"overhead": {"podFixed": {"cpu": "250m", "memory": "64Mi"}}}))
    }

    #[test]
    fn classes_and_overhead() {
        let o = json!({"cpu": "250m", "memory": "64Mi"});
        let plain = class(json!({}));
        for (spec, class, want) in [
            (json!({}), None, Ok(json!({}))),
            (
                json!({"runtimeClassName": "nope"}),
                None,
                Err(Rejection::ClassNotFound {
                    class: "nope".into(),
                }),
            ),
            (
                json!({"runtimeClassName": "c"}),
                Some(&plain),
                Ok(json!({"runtimeClassName": "c"})),
            ),
            (
                json!({"runtimeClassName": "c"}),
                Some(&overhead()),
                Ok(json!({"runtimeClassName": "c", "overhead": o})),
            ),
            (
                json!({"runtimeClassName": "c", "overhead": o}),
                Some(&overhead()),
                Ok(json!({"runtimeClassName": "c", "overhead": o})),
            ),
            (
                json!({"runtimeClassName": "c", "overhead": {"cpu": "0.25", "memory": "65536Ki"}}),
                Some(&overhead()),
                Ok(json!({"runtimeClassName": "c", "overhead": o})),
            ),
            (
                json!({"runtimeClassName": "c", "overhead": {"cpu": "250m"}}),
                Some(&overhead()),
                Err(Rejection::OverheadMismatch),
            ),
            (
                json!({"runtimeClassName": "c", "overhead": {"cpu": "1", "memory": "64Mi"}}),
                Some(&overhead()),
                Err(Rejection::OverheadMismatch),
            ),
            (
                json!({"runtimeClassName": "c", "overhead": {"cpu": "1"}}),
                Some(&plain),
                Err(Rejection::OverheadWithoutClass),
            ),
            (
                json!({"overhead": {"cpu": "1"}}),
                None,
                Err(Rejection::OverheadWithoutClass),
            ),
        ] {
            assert_eq!(admitted(spec.clone(), class, ""), want, "{spec}");
        }
    }

    #[test]
    fn selector_and_tolerations() {
        let sel = class(
            json!({"scheduling": {"nodeSelector": {"sandbox": "yes", "zone": "a"},
            "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]}}),
        );
        let t = json!({"key": "a", "operator": "Exists", "effect": "NoSchedule"});
        let narrow = json!({"key": "a", "operator": "Equal", "value": "v", "effect": "NoSchedule"});
        let other = json!({"key": "b", "operator": "Exists"});
        for (selector, tolerations, want) in [
            (
                json!(null),
                json!(null),
                Ok((json!({"sandbox": "yes", "zone": "a"}), json!([t]))),
            ),
            (
                json!({"disk": "ssd", "zone": "a"}),
                json!([other]),
                Ok((
                    json!({"disk": "ssd", "sandbox": "yes", "zone": "a"}),
                    json!([other, t]),
                )),
            ),
            (
                json!({"zone": "a"}),
                json!([narrow]),
                Ok((json!({"sandbox": "yes", "zone": "a"}), json!([t]))),
            ),
            (
                json!({"zone": "b"}),
                json!(null),
                Err(Rejection::SelectorConflict {
                    key: "zone".into(),
                    class: "a".into(),
                    pod: "b".into(),
                }),
            ),
        ] {
            let spec = json!({"runtimeClassName": "c", "nodeSelector": selector, "tolerations": tolerations});
            let got = admitted(spec.clone(), Some(&sel), "")
                .map(|s| (s["nodeSelector"].clone(), s["tolerations"].clone()));
            assert_eq!(got, want, "{spec}");
        }
    }

    #[test]
    fn gates() {
        let both = class(
            json!({"overhead": {"podFixed": {"cpu": "1"}}, "scheduling": {"nodeSelector": {"a": "b"}}}),
        );
        let spec = || json!({"runtimeClassName": "c"});
        for (gates, want) in [
            (
                "",
                json!({"runtimeClassName": "c", "overhead": {"cpu": "1"}, "nodeSelector": {"a": "b"}}),
            ),
            (
                "PodOverhead=false",
                json!({"runtimeClassName": "c", "nodeSelector": {"a": "b"}}),
            ),
            (
                "RuntimeClassScheduling=false",
                json!({"runtimeClassName": "c", "overhead": {"cpu": "1"}}),
            ),
            (
                "PodOverhead=false,RuntimeClassScheduling=false",
                json!({"runtimeClassName": "c"}),
            ),
            ("RuntimeClass=false", json!({"runtimeClassName": "c"})),
        ] {
            assert_eq!(
                admitted(spec(), Some(&both), gates).unwrap(),
                want,
                "{gates}"
            );
        }
        assert_eq!(
            admitted(json!({"overhead": {"cpu": "1"}}), None, "PodOverhead=false"),
            Ok(json!({"overhead": {"cpu": "1"}}))
        );
        assert!(admitted(spec(), None, "PodOverhead=false").is_err());
    }
}
