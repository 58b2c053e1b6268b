//! What a node may do of what its role allows: only what concerns itself and its pods
//! (stock: the Node authorizer and the NodeRestriction admission plugin).

use serde_json::Value;

use crate::{attributes::ResourceAttributes, request::Verb, storage::Storage, user::User};

/// The group of nodes.
pub(super) const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
const LEASES: &str = "kube-node-lease";

/// The node that the user is.
pub(super) fn name(user: &User) -> Option<&str> {
    user.name
        .strip_prefix(PREFIX)
        .filter(|name| !name.is_empty() && user.in_group(GROUP))
}

/// Whether the request concerns the node itself or one of its pods.
///
/// # Errors
/// The reason of the refusal.
pub(super) fn check(
    node: &str,
    info: &ResourceAttributes<'_>,
    storage: &Storage,
) -> Result<(), String> {
    let reads = info.action.reads();
    let unrelated = || format!("no relationship found between node '{node}' and this object");
    match (info.group, info.resource) {
        ("", "nodes") if reads => Ok(()),
        ("", "nodes") | ("storage.k8s.io", "csinodes")
            if info.action.is(Verb::Create) && info.subresource.is_empty() =>
        {
            Ok(())
        }
        ("", "nodes") | ("storage.k8s.io", "csinodes") if reads || info.name == node => Ok(()),
        ("", "nodes") | ("storage.k8s.io", "csinodes") => {
            Err(format!("node '{node}' cannot modify '{}'", info.name))
        }
        ("coordination.k8s.io", "leases") if info.namespace != LEASES => Err(format!(
            "can only access leases in the {LEASES:?} system namespace"
        )),
        ("coordination.k8s.io", "leases") if info.action.is(Verb::Create) || info.name == node => {
            Ok(())
        }
        ("coordination.k8s.io", "leases") => {
            Err("can only access node lease with the same name as the requesting node".to_owned())
        }
        ("", kind @ ("secrets" | "configmaps" | "persistentvolumeclaims")) => {
            if !reads || info.name.is_empty() {
                return Err("can only read namespaced object of this type".to_owned());
            }
            let mut pods = pods_of(node, info.namespace, storage);
            if pods.any(|pod| refers(&pod, kind, info.name)) {
                Ok(())
            } else {
                Err(unrelated())
            }
        }
        ("", "serviceaccounts") if !info.subresource.is_empty() || !reads => {
            let mut pods = pods_of(node, info.namespace, storage);
            let runs = pods.any(|pod| {
                pod.pointer("/spec/serviceAccountName")
                    .and_then(Value::as_str)
                    == Some(info.name)
            });
            if info.subresource == "token" && runs {
                Ok(())
            } else {
                Err(unrelated())
            }
        }
        ("", "pods") if info.name.is_empty() => Ok(()),
        ("", "pods") => {
            let pod: Option<Value> = storage
                .read("core/pods", info.namespace, info.name)
                .map_err(|error| error.to_string())?;
            // that there is no such pod is for the handler to say
            if pod.is_none_or(|pod| runs_on(&pod, node)) {
                Ok(())
            } else {
                Err(unrelated())
            }
        }
        _ => Ok(()),
    }
}

fn runs_on(pod: &Value, node: &str) -> bool {
    pod.pointer("/spec/nodeName").and_then(Value::as_str) == Some(node)
}

/// A pod that cannot be read relates the node to nothing.
fn pods_of(node: &str, namespace: &str, storage: &Storage) -> impl Iterator<Item = Value> {
    let pods: Vec<Value> = storage.readable("core/pods", Some(namespace));
    pods.into_iter().filter(move |pod| runs_on(pod, node))
}

/// Whether a pod's spec names the object anywhere that the kubelet reads it.
fn refers(pod: &Value, kind: &str, name: &str) -> bool {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    match kind {
        "secrets" => has(spec, &|field, value| {
            let inside = |key: &str| value.get(key).and_then(Value::as_str) == Some(name);
            match field {
                "secret" => inside("secretName") || inside("name"),
                "secretRef" | "secretKeyRef" | "imagePullSecrets" | "nodePublishSecretRef" => {
                    inside("name")
                }
                _ => false,
            }
        }),
        "configmaps" => has(spec, &|field, value| {
            matches!(field, "configMap" | "configMapRef" | "configMapKeyRef")
                && value.get("name").and_then(Value::as_str) == Some(name)
        }),
        _ => has(spec, &|field, value| {
            field == "persistentVolumeClaim"
                && value.get("claimName").and_then(Value::as_str) == Some(name)
        }),
    }
}

/// Whether the predicate holds for some field and its value; of a list, for one of its items.
fn has(value: &Value, holds: &dyn Fn(&str, &Value) -> bool) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(field, inner)| match inner {
            Value::Array(items) => items
                .iter()
                .any(|item| holds(field, item) || has(item, holds)),
            inner => holds(field, inner) || has(inner, holds),
        }),
        Value::Array(items) => items.iter().any(|item| has(item, holds)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_nodes_are_nodes() {
        let user = |name: &str, group: &str| User {
            name: name.to_owned(),
            groups: vec![group.to_owned()],
            ..User::default()
        };
        assert_eq!(name(&user("system:node:a", GROUP)), Some("a"));
        assert_eq!(name(&user("system:node:a", "other")), None);
        assert_eq!(name(&user("a", GROUP)), None);
    }

    #[test]
    fn a_pod_refers_to_what_it_mounts_reads_and_pulls_with() {
        let pod = json!({"spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [{"name": "v", "secret": {"secretName": "mounted"}}, {"projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "cm"}}]}},
                {"persistentVolumeClaim": {"claimName": "claim"}}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}], "envFrom": [{"configMapRef": {"name": "all"}}]}]}});
        for (kind, name, wanted) in [
            ("secrets", "pull", true),
            ("secrets", "mounted", true),
            ("secrets", "projected", true),
            ("secrets", "env", true),
            ("secrets", "other", false),
            ("secrets", "v", false),
            ("configmaps", "cm", true),
            ("configmaps", "all", true),
            ("configmaps", "pull", false),
            ("persistentvolumeclaims", "claim", true),
        ] {
            assert_eq!(refers(&pod, kind, name), wanted, "{kind} {name}");
        }
    }
}
