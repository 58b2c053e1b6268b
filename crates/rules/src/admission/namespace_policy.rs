//! Policy of a namespace: the class of pods that name none, and the classes that its pods may name.
//!
//! Two annotations of the Namespace. [`DEFAULT`] names the class of pods without one. [`ALLOWED`] is a
//! comma list; the empty name in it stands for no class, which is the node's default handler: `gvisor,kata`
//! demands one of the two, `gvisor,` also takes none. A pod opts out of the default with an explicit
//! empty `runtimeClassName: ""`, and only if the empty name is allowed. Existing pods are not touched.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::Rejection;
use berth_core::gates::{FeatureGates, Gate};

pub use berth_core::annotations::{ALLOWED_CLASSES as ALLOWED, DEFAULT_CLASS as DEFAULT};

/// Whether the policy names a class: as the default, or among those that are allowed.
#[must_use]
pub fn names(annotations: Option<&BTreeMap<String, String>>, class: &str) -> bool {
    let lists = [DEFAULT, ALLOWED].map(|key| annotations?.get(key));
    let mut named = lists.into_iter().flatten().flat_map(|list| list.split(','));
    named.any(|name| name.trim() == class)
}

/// Applies the default and checks the list; before overhead is computed.
///
/// # Errors
/// [`Rejection::ClassNotAllowed`].
pub fn admit(
    pod: &mut Pod,
    annotations: &BTreeMap<String, String>,
    gates: &FeatureGates,
) -> Result<(), Rejection> {
    let default = annotations
        .get(DEFAULT)
        .map(|d| d.trim())
        .filter(|d| !d.is_empty());
    let allowed: Option<Vec<&str>> = annotations
        .get(ALLOWED)
        .map(|list| list.split(',').map(str::trim).collect());
    if !gates.enabled(Gate::RuntimeClass) || (default.is_none() && allowed.is_none()) {
        return Ok(());
    }
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let Some(spec) = pod.spec.as_mut() else {
        return Ok(());
    };
    if spec.runtime_class_name.is_none() {
        spec.runtime_class_name = default.map(str::to_owned);
    }
    let class = spec.runtime_class_name.as_deref().unwrap_or_default();
    let permitted = match &allowed {
        Some(allowed) => allowed.contains(&class),
        // Without a list every class is allowed, but the empty name is not listed either.
        None => !class.is_empty() || default.is_none(),
    };
    if !permitted {
        return Err(not_allowed(class, namespace, allowed.as_deref()));
    }
    if class.is_empty() {
        spec.runtime_class_name = None;
    }
    Ok(())
}

/// Whether the class that a pod has is (still) allowed, for what is added to it later: its class stays as it is.
///
/// # Errors
/// [`Rejection::ClassNotAllowed`].
pub fn check(
    pod: &Pod,
    annotations: &BTreeMap<String, String>,
    gates: &FeatureGates,
) -> Result<(), Rejection> {
    let Some(list) = annotations
        .get(ALLOWED)
        .filter(|_| gates.enabled(Gate::RuntimeClass))
    else {
        return Ok(());
    };
    let allowed: Vec<&str> = list.split(',').map(str::trim).collect();
    let class = pod
        .spec
        .as_ref()
        .and_then(|s| s.runtime_class_name.as_deref())
        .unwrap_or_default();
    if allowed.contains(&class) {
        return Ok(());
    }
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    Err(not_allowed(class, namespace, Some(&allowed)))
}

fn not_allowed(class: &str, namespace: String, allowed: Option<&[&str]>) -> Rejection {
    Rejection::ClassNotAllowed {
        class: if class.is_empty() {
            "a pod without RuntimeClass".to_owned()
        } else {
            format!("RuntimeClass {class:?}")
        },
        namespace,
        allowed: shown(allowed),
    }
}

fn shown(allowed: Option<&[&str]>) -> String {
    match allowed {
        None => "all classes, but not none".to_owned(),
        Some(list) => list
            .iter()
            .map(|c| {
                if c.is_empty() {
                    "none".to_owned()
                } else {
                    format!("{c:?}")
                }
            })
            .collect::<Vec<_>>()
            .join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn default_and_list() {
        const REJECTED: Option<Option<&str>> = None;
        for (default, allowed, class, want) in [
            (None, None, None, Some(None)),
            (None, None, Some("x"), Some(Some("x"))),
            (Some("gvisor"), None, None, Some(Some("gvisor"))),
            (Some("gvisor"), None, Some("kata"), Some(Some("kata"))),
            (Some("gvisor"), None, Some(""), REJECTED),
            (Some("gvisor"), Some("gvisor,"), Some(""), Some(None)),
            (Some("gvisor"), Some("gvisor"), Some(""), REJECTED),
            (Some("gvisor"), Some("kata"), None, REJECTED),
            (None, Some("gvisor, kata"), Some("kata"), Some(Some("kata"))),
            (None, Some("gvisor, kata"), Some("runc"), REJECTED),
            (None, Some("gvisor, kata"), None, REJECTED),
            (None, Some("gvisor,"), None, Some(None)),
            (None, Some(""), None, Some(None)),
            (None, Some(""), Some("runc"), REJECTED),
        ] {
            let mut annotations = BTreeMap::new();
            annotations.extend(default.map(|d| (DEFAULT.to_owned(), d.to_owned())));
            annotations.extend(allowed.map(|a| (ALLOWED.to_owned(), a.to_owned())));
            let mut pod: Pod = serde_json::from_value(
                json!({"metadata": {"namespace": "n"}, "spec": {"containers": [], "runtimeClassName": class}}),
            )
            .unwrap();
            let got = admit(&mut pod, &annotations, &FeatureGates::default());
            let got = got.ok().map(|()| pod.spec.unwrap().runtime_class_name);
            assert_eq!(
                got,
                want.map(|c| c.map(str::to_owned)),
                "{default:?} {allowed:?} {class:?}"
            );
        }
    }

    #[test]
    fn a_pod_is_checked_by_the_class_that_it_has() {
        for (allowed, class, permitted) in [
            (None, Some("x"), true),
            (None, None, true),
            (Some("gvisor"), Some("gvisor"), true),
            (Some("gvisor"), Some("runc"), false),
            (Some("gvisor"), None, false),
            (Some("gvisor,"), None, true),
        ] {
            let annotations = allowed
                .map(|a| (ALLOWED.to_owned(), a.to_owned()))
                .into_iter()
                .chain([(DEFAULT.to_owned(), "gvisor".to_owned())])
                .collect();
            let pod: Pod = serde_json::from_value(
                json!({"metadata": {"namespace": "n"}, "spec": {"containers": [], "runtimeClassName": class}}),
            )
            .unwrap();
            let got = check(&pod, &annotations, &FeatureGates::default());
            assert_eq!(got.is_ok(), permitted, "{allowed:?} {class:?}");
        }
    }

    #[test]
    fn the_message_holds_the_list() {
        let annotations = BTreeMap::from([(ALLOWED.to_owned(), "gvisor,".to_owned())]);
        let mut pod: Pod = serde_json::from_value(
            json!({"metadata": {"namespace": "n"}, "spec": {"containers": [], "runtimeClassName": "runc"}}),
        )
        .unwrap();
        let message = admit(&mut pod, &annotations, &FeatureGates::default())
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "pod rejected: RuntimeClass \"runc\" is not allowed in namespace \"n\"; allowed are \"gvisor\", none \
                             (annotation node.berth.dev/allowed-runtime-classes)"
        );
    }
}
