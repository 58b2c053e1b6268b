//! What a pod asks of its place that this scheduler does not look at. Who creates the pod is told.

use k8s_openapi::api::core::v1::Pod;

/// The scheduler that pods have unless they name another.
const OWN: &str = "default-scheduler";

/// A warning for each part of a pod that would be ignored, when this scheduler places it.
#[must_use]
pub fn of_pod(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let is_placed = spec.node_name.as_deref().is_some_and(|n| !n.is_empty());
    let scheduler = spec.scheduler_name.as_deref().unwrap_or_default();
    if is_placed || !(scheduler.is_empty() || scheduler == OWN) {
        return Vec::new();
    }
    let affinity = spec.affinity.as_ref();
    let spread = spec.topology_spread_constraints.as_ref();
    [
        (
            "spec.affinity.podAffinity",
            affinity.is_some_and(|a| a.pod_affinity.is_some()),
        ),
        (
            "spec.affinity.podAntiAffinity",
            affinity.is_some_and(|a| a.pod_anti_affinity.is_some()),
        ),
        (
            "spec.topologySpreadConstraints",
            spread.is_some_and(|all| !all.is_empty()),
        ),
    ]
    .into_iter()
    .filter(|(_, asked)| *asked)
    .map(|(at, _)| {
        format!(
            "{at}: the scheduler of this server does not look at it, and places the pod as if it were not there; a \
             kube-scheduler does (berth --scheduler=false)"
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::of_pod;

    fn fields(spec: Value) -> Vec<String> {
        let pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        let all = of_pod(&pod).into_iter();
        all.map(|w| w.split(':').next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn each_part_that_is_not_looked_at_is_named() {
        let term = json!([{"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}]);
        let wanted = json!({"requiredDuringSchedulingIgnoredDuringExecution": term});
        let spread =
            json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]);
        let all = json!({"containers": [], "affinity": {"podAffinity": wanted, "podAntiAffinity": wanted},
            "topologySpreadConstraints": spread});
        let named = [
            "spec.affinity.podAffinity",
            "spec.affinity.podAntiAffinity",
            "spec.topologySpreadConstraints",
        ];
        assert_eq!(fields(all.clone()), named);
        for (key, value) in [("schedulerName", "mine"), ("nodeName", "n1")] {
            let mut elsewhere = all.clone();
            elsewhere[key] = json!(value);
            assert_eq!(fields(elsewhere), [""; 0], "{key}");
        }
        let mut own = all;
        own["schedulerName"] = json!("default-scheduler");
        assert_eq!(fields(own), named);
        let nodes =
            json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}});
        let plain = json!({"containers": [], "affinity": nodes, "topologySpreadConstraints": []});
        assert_eq!(fields(plain), [""; 0]);
    }
}
