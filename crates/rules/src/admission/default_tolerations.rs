//! The DefaultTolerationSeconds plugin: a pod stays five minutes on a node that is not ready or unreachable.

use k8s_openapi::api::core::v1::{Pod, Toleration};

const SECONDS: i64 = 300;
const KEYS: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

/// Adds the two tolerations unless the pod says something about the taint itself.
pub fn admit(pod: &mut Pod) {
    let Some(spec) = pod.spec.as_mut() else {
        return;
    };
    let own = spec.tolerations.clone().unwrap_or_default();
    for key in KEYS {
        let says = |field: &Option<String>, value: &str| {
            let text = field.as_deref().unwrap_or_default();
            text.is_empty() || text == value
        };
        if own
            .iter()
            .any(|t| says(&t.key, key) && says(&t.effect, "NoExecute"))
        {
            continue;
        }
        spec.tolerations.get_or_insert_default().push(Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some("NoExecute".to_owned()),
            toleration_seconds: Some(SECONDS),
            value: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn added_unless_spoken_of() {
        for (own, added) in [
            (
                json!([]),
                vec![
                    "node.kubernetes.io/not-ready",
                    "node.kubernetes.io/unreachable",
                ],
            ),
            (
                json!([{"key": "b", "operator": "Exists"}]),
                vec![
                    "node.kubernetes.io/not-ready",
                    "node.kubernetes.io/unreachable",
                ],
            ),
            (json!([{"operator": "Exists"}]), vec![]),
            (
                json!([{"operator": "Exists", "effect": "NoSchedule"}]),
                vec![
                    "node.kubernetes.io/not-ready",
                    "node.kubernetes.io/unreachable",
                ],
            ),
            (
                json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]),
                vec!["node.kubernetes.io/unreachable"],
            ),
        ] {
            let mut pod: Pod =
                serde_json::from_value(json!({"spec": {"containers": [], "tolerations": own}}))
                    .unwrap();
            admit(&mut pod);
            let all = pod.spec.unwrap().tolerations.unwrap();
            let got: Vec<_> = all[own.as_array().unwrap().len()..]
                .iter()
                .map(|t| t.key.clone().unwrap())
                .collect();
            assert_eq!(got, added, "{own}");
        }
    }
}
