//! The Priority plugin: the class of a pod gives its priority.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::Rejection;

/// The classes that every cluster has, and their values.
pub const SYSTEM: [(&str, i32); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

/// Sets priority and preemption policy. `classes` are all priority classes of the cluster.
///
/// # Errors
/// A class that is not there, or numbers of the pod's own that differ.
pub fn admit<'c>(
    pod: &mut Pod,
    classes: impl IntoIterator<Item = &'c PriorityClass>,
) -> Result<(), Rejection> {
    let Some(spec) = pod.spec.as_mut() else {
        return Ok(());
    };
    let name = spec.priority_class_name.clone().unwrap_or_default();
    let of = |c: &PriorityClass| {
        let name = c.metadata.name.clone().unwrap_or_default();
        (name, c.value.unwrap_or(0), c.preemption_policy.clone())
    };
    let found = if name.is_empty() {
        classes
            .into_iter()
            .filter(|c| c.global_default == Some(true))
            .min_by_key(|c| c.value)
            .map(of)
    } else {
        let own = classes
            .into_iter()
            .find(|c| c.metadata.name.as_deref() == Some(&name))
            .map(of);
        let system = || {
            SYSTEM
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(n, v)| ((*n).to_owned(), *v, None))
        };
        let found = own.or_else(system);
        if found.is_none() {
            return Err(Rejection::PriorityClassNotFound(name));
        }
        found
    };
    let (class, value, preemption) = found.unwrap_or_default();
    let preemption = preemption.unwrap_or_else(|| "PreemptLowerPriority".to_owned());
    if let Some(pod) = spec.priority.filter(|p| *p != value) {
        return Err(Rejection::PriorityMismatch {
            pod,
            computed: value,
        });
    }
    if let Some(pod) = spec.preemption_policy.clone().filter(|p| *p != preemption) {
        return Err(Rejection::PreemptionMismatch {
            pod,
            computed: preemption,
        });
    }
    if !class.is_empty() {
        spec.priority_class_name = Some(class);
    }
    spec.priority = Some(value);
    spec.preemption_policy = Some(preemption);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn run(spec: Value, classes: &[Value]) -> Result<(Option<String>, i32, String), Rejection> {
        let classes: Vec<PriorityClass> = classes
            .iter()
            .map(|c| serde_json::from_value(c.clone()).unwrap())
            .collect();
        let mut pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        admit(&mut pod, &classes)?;
        let spec = pod.spec.unwrap();
        Ok((
            spec.priority_class_name,
            spec.priority.unwrap(),
            spec.preemption_policy.unwrap(),
        ))
    }

    #[test]
    fn priorities() {
        let lower = || "PreemptLowerPriority".to_owned();
        let high = json!({"metadata": {"name": "high"}, "value": 7, "preemptionPolicy": "Never"});
        let default = json!({"metadata": {"name": "usual"}, "value": 3, "globalDefault": true});
        for (spec, classes, want) in [
            (json!({}), vec![], Ok((None, 0, lower()))),
            (json!({"priority": 0}), vec![], Ok((None, 0, lower()))),
            (
                json!({}),
                vec![high.clone(), default],
                Ok((Some("usual".into()), 3, lower())),
            ),
            (
                json!({"priorityClassName": "high"}),
                vec![high.clone()],
                Ok((Some("high".into()), 7, "Never".into())),
            ),
            (
                json!({"priorityClassName": "system-node-critical"}),
                vec![],
                Ok((Some("system-node-critical".into()), 2_000_001_000, lower())),
            ),
            (
                json!({"priorityClassName": "nope"}),
                vec![],
                Err(Rejection::PriorityClassNotFound("nope".into())),
            ),
            (
                json!({"priority": 5}),
                vec![],
                Err(Rejection::PriorityMismatch {
                    pod: 5,
                    computed: 0,
                }),
            ),
            (
                json!({"priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority"}),
                vec![high],
                Err(Rejection::PreemptionMismatch {
                    pod: lower(),
                    computed: "Never".into(),
                }),
            ),
        ] {
            assert_eq!(run(spec.clone(), &classes), want, "{spec}");
        }
    }
}
