//! DefaultTolerationSeconds: pods stay five minutes on nodes that are not ready or unreachable.

use k8s_openapi::api::core::v1::{Pod, Toleration};

const SECONDS: i64 = 300;
const KEYS: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

/// Adds each toleration unless the pod tolerates that taint already.
pub(super) fn admit(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    for key in KEYS {
        let tolerations = spec.tolerations.get_or_insert_default();
        let tolerated = tolerations.iter().any(|t| {
            let key_fits =
                t.key.as_deref().unwrap_or("").is_empty() || t.key.as_deref() == Some(key);
            let effect = t.effect.as_deref().unwrap_or("");
            key_fits && (effect.is_empty() || effect == "NoExecute")
        });
        if !tolerated {
            tolerations.push(Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(SECONDS),
                value: None,
            });
        }
    }
}
