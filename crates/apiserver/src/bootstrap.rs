//! What every cluster has from its first moment: its namespaces, their default accounts, the
//! stock roles and priority classes.

use berth_api::status::ApiError;
use berth_core::rbac::stock;
use berth_store::Expect;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::Api;
use crate::rest::meta;
use crate::storage::Written;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const RBAC: &str = "rbac.authorization.k8s.io";

/// Makes what is absent; what exists is left as it is.
pub(crate) async fn ensure(api: &Api) -> Result<(), ApiError> {
    for namespace in NAMESPACES {
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {"kubernetes.io/metadata.name": namespace}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        ensure_object(api, "core/namespaces", "", object).await?;
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        });
        ensure_object(api, "core/serviceaccounts", namespace, account).await?;
    }
    for (name, value, what) in [
        ("system-cluster-critical", 2_000_000_000, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
        ("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their current node."),
    ] {
        let object = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": what,
            "preemptionPolicy": "PreemptLowerPriority",
        });
        ensure_object(api, "scheduling.k8s.io/priorityclasses", "", object).await?;
    }
    ensure_all(api, "clusterroles", &stock::cluster_roles()).await?;
    ensure_all(api, "clusterrolebindings", &stock::cluster_role_bindings()).await?;
    ensure_all(api, "roles", &stock::roles()).await?;
    ensure_all(api, "rolebindings", &stock::role_bindings()).await
}

async fn ensure_all<T: Serialize>(api: &Api, plural: &str, objects: &[T]) -> Result<(), ApiError> {
    for object in objects {
        let object = serde_json::to_value(object).map_err(|e| ApiError::Internal(e.to_string()))?;
        let namespace = meta::text(&object, "/metadata/namespace").to_owned();
        ensure_object(api, &format!("{RBAC}/{plural}"), &namespace, object).await?;
    }
    Ok(())
}

async fn ensure_object(
    api: &Api,
    storage: &str,
    namespace: &str,
    mut object: Value,
) -> Result<(), ApiError> {
    let name = meta::name(&object).to_owned();
    if api.storage.get(storage, namespace, &name).is_some() {
        return Ok(());
    }
    let uid = uuid::Uuid::new_v4().to_string();
    meta::set(&mut object, "uid", Some(json!(uid)));
    meta::set(
        &mut object,
        "creationTimestamp",
        Some(meta::time(jiff::Timestamp::now())),
    );
    let written = api
        .storage
        .put(storage, namespace, &name, Expect::Absent, &object)
        .await?;
    match written {
        // Another server made it.
        Written::Done(_) | Written::Changed(_) => Ok(()),
    }
}
