//! How much swap a container may use (KEP-2400, `LimitedSwap`).

use k8s_openapi::api::core::v1::{Container, Pod};

use berth_core::resources::amounts;

use super::qos::{Qos, qos};
use super::resize::{self, Resources};

/// Pods with at least this priority are critical and get none.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// What the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes of memory.
    pub memory: i64,
    /// Bytes of swap.
    pub swap: i64,
}

/// The swap of one container, in bytes: its share of the machine's by its request of memory. Only containers of
/// Burstable pods have some, and of these only those whose request is neither missing nor the limit.
#[must_use]
pub fn limit(pod: &Pod, container: &Container, machine: Capacity) -> i64 {
    if !is_entitled(pod, container) || machine.memory <= 0 {
        return 0;
    }
    let request = memory(container).0;
    if request > machine.memory {
        return 0;
    }
    let share = i128::from(request) * i128::from(machine.swap) / i128::from(machine.memory);
    i64::try_from(share).unwrap_or(0)
}

fn is_entitled(pod: &Pod, container: &Container) -> bool {
    let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    let source = |key| pod.metadata.annotations.as_ref().and_then(|a| a.get(key));
    let of_file = source("kubernetes.io/config.source").is_some_and(|from| from != "api")
        || source("kubernetes.io/config.mirror").is_some();
    let (request, limit) = memory(container);
    !of_file
        && priority < CRITICAL_PRIORITY
        && qos(pod) == Qos::Burstable
        && request > 0
        && request != limit
}

/// Request and limit in bytes; a limit stands for a request that is missing.
fn memory(container: &Container) -> (i64, i64) {
    let resources = container.resources.as_ref();
    let of = |list| amounts(list).get("memory").map_or(0, |q| q.value());
    let limit = of(resources.and_then(|r| r.limits.as_ref()));
    match of(resources.and_then(|r| r.requests.as_ref())) {
        0 => (limit, limit),
        request => (request, limit),
    }
}

/// Whether a resize from what was granted to what the spec asks for would change a running container's swap: there is no
/// way to do that in place.
#[must_use]
pub fn is_resized(wanted: &Pod, granted: &Resources) -> bool {
    let before = resize::with_resources(wanted, granted);
    let mut both = containers(wanted).zip(containers(&before));
    both.any(|(new, old)| {
        let restarts = new.resize_policy.iter().flatten().any(|policy| {
            policy.resource_name == "memory" && policy.restart_policy == "RestartContainer"
        });
        !restarts
            && memory(new).0 != memory(old).0
            && (is_entitled(wanted, new) || is_entitled(&before, old))
    })
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const MACHINE: Capacity = Capacity {
        memory: 8 << 30,
        swap: 4 << 30,
    };

    fn pod(resources: &Value, priority: i32) -> Pod {
        serde_json::from_value(json!({"spec": {"priority": priority,
            "containers": [{"name": "c", "resources": resources}]}}))
        .unwrap()
    }

    fn swap(pod: &Pod) -> i64 {
        limit(pod, &pod.spec.as_ref().unwrap().containers[0], MACHINE)
    }

    #[test]
    fn a_burstable_container_has_its_share() {
        let some = json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}});
        assert_eq!(swap(&pod(&some, 0)), 512 << 20);
        assert_eq!(
            swap(&pod(&json!({"requests": {"memory": "1Gi"}}), 0)),
            512 << 20
        );
        for (resources, priority) in [
            (some.clone(), 2_000_000_000),
            (json!({}), 0),
            (json!({"requests": {"cpu": "1"}}), 0),
            (json!({"limits": {"memory": "1Gi"}}), 0),
            (
                json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}),
                0,
            ),
            (json!({"limits": {"memory": "1Gi", "cpu": "1"}}), 0),
            (json!({"requests": {"memory": "9Gi"}}), 0),
        ] {
            assert_eq!(
                swap(&pod(&resources, priority)),
                0,
                "{resources} {priority}"
            );
        }
        let mut of_file = pod(&some, 0);
        let source = ("kubernetes.io/config.source".to_owned(), "file".to_owned());
        of_file.metadata.annotations = Some([source].into());
        assert_eq!(swap(&of_file), 0);
        assert_eq!(
            limit(
                &of_file,
                &of_file.spec.as_ref().unwrap().containers[0],
                Capacity { memory: 0, swap: 1 }
            ),
            0
        );
    }

    #[test]
    fn what_has_swap_is_not_resized_without_a_restart() {
        let of = |request: &str| {
            pod(
                &json!({"requests": {"memory": request}, "limits": {"memory": "4Gi"}}),
                0,
            )
        };
        let granted = resize::desired(&of("1Gi"));
        assert!(!is_resized(&of("1024Mi"), &granted));
        assert!(is_resized(&of("2Gi"), &granted));
        let mut restarts = of("2Gi");
        restarts.spec.as_mut().unwrap().containers[0].resize_policy = serde_json::from_value(
            json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]),
        )
        .unwrap();
        assert!(!is_resized(&restarts, &granted));
        // One that has none may change.
        let critical =
            |request: &str| pod(&json!({"requests": {"memory": request}}), 2_000_000_000);
        assert!(!is_resized(
            &critical("2Gi"),
            &resize::desired(&critical("1Gi"))
        ));
    }
}
