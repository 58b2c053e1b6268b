//! The quality-of-service class of a pod.

use std::collections::BTreeMap;

use berth_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

use crate::resource_list::WireList;

/// How a pod is treated when its node runs short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QosClass {
    /// Every container has equal requests and limits of cpu and memory.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// The name in `status.qosClass`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

type Sums = BTreeMap<String, Quantity>;

/// Adds the positive amounts of cpu and memory; tells how many of the two there were.
fn add(sums: &mut Sums, list: Option<&WireList>) -> usize {
    let mut found = 0;
    for (name, wire) in list.into_iter().flatten() {
        if !matches!(name.as_str(), "cpu" | "memory") {
            continue;
        }
        let Ok(amount) = Quantity::try_from(wire) else {
            continue;
        };
        if amount > Quantity::ZERO {
            *sums.entry(name.clone()).or_default() += &amount;
            found += 1;
        }
    }
    found
}

/// The class of a pod, from its own resources when it has some, else from those of its (init) containers.
/// Overhead has no part in it.
#[must_use]
pub fn class(spec: &PodSpec) -> QosClass {
    let (mut requests, mut limits) = (Sums::new(), Sums::new());
    let mut guaranteed = true;
    if let Some(own) = &spec.resources {
        add(&mut requests, own.requests.as_ref());
        if own.limits.as_ref().is_some_and(|l| !l.is_empty()) {
            guaranteed = add(&mut limits, own.limits.as_ref()) == 2;
        }
    } else {
        let none = ResourceRequirements::default();
        for container in spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
        {
            let resources = container.resources.as_ref().unwrap_or(&none);
            add(&mut requests, resources.requests.as_ref());
            guaranteed &= add(&mut limits, resources.limits.as_ref()) == 2;
        }
    }
    if requests.is_empty() && limits.is_empty() {
        QosClass::BestEffort
    } else if guaranteed && requests == limits {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let c = |resources: serde_json::Value| json!({"name": "c", "resources": resources});
        for (spec, want) in [
            (json!({"containers": [c(json!({}))]}), QosClass::BestEffort),
            (
                json!({"containers": [c(json!({"requests": {"cpu": "0"}}))]}),
                QosClass::BestEffort,
            ),
            (
                json!({"containers": [c(json!({"requests": {"example.com/gpu": "1"}}))]}),
                QosClass::BestEffort,
            ),
            (
                json!({"containers": [c(json!({"requests": {"cpu": "100m"}}))]}),
                QosClass::Burstable,
            ),
            (
                json!({"containers": [c(json!({"requests": both, "limits": both}))]}),
                QosClass::Guaranteed,
            ),
            (
                json!({"containers": [c(json!({"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": both}))]}),
                QosClass::Guaranteed,
            ),
            (
                json!({"containers": [c(json!({"requests": both, "limits": both})), c(json!({}))]}),
                QosClass::Burstable,
            ),
            (
                json!({"containers": [c(json!({"requests": both, "limits": both}))], "initContainers": [c(json!({}))]}),
                QosClass::Burstable,
            ),
            (
                json!({"containers": [c(json!({"limits": {"cpu": "1"}}))]}),
                QosClass::Burstable,
            ),
            (
                json!({"containers": [c(json!({}))], "resources": {"requests": both, "limits": both}}),
                QosClass::Guaranteed,
            ),
            (
                json!({"containers": [c(json!({}))], "overhead": both}),
                QosClass::BestEffort,
            ),
        ] {
            let parsed: PodSpec = serde_json::from_value(spec.clone()).unwrap();
            assert_eq!(class(&parsed), want, "{spec}");
        }
    }
}
