//! The Service `default/kubernetes`, by whose address pods find the API server.

use berth_api::status::ApiError;
use berth_rules::Rules;
use berth_store::Expect;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::write::fresh;
use crate::allocation::{self, KUBERNETES, SERVICES};
use crate::storage::{Beside, Committed, Written};
use crate::strategy::Cluster;

/// The Service's port.
const HTTPS: u16 = 443;
/// How often it is tried while others change what it needs.
const TRIES: usize = 5;

/// Makes it when it is not there. One that is there stays as it is, as on the stock server.
///
/// # Errors
/// When its address belongs to another Service, or the store cannot be written.
pub(super) async fn keep(cluster: Cluster<'_>, port: u16) -> Result<(), ApiError> {
    let (namespace, name) = KUBERNETES;
    for _ in 0..TRIES {
        if cluster.storage.get(SERVICES, namespace, name).is_some() {
            return Ok(());
        }
        let mut service = wanted(cluster, port)?;
        let others = allocation::allocate(Some(&mut service), None, cluster)?;
        let errors = service.validate();
        if !errors.is_empty() {
            return Err(ApiError::invalid("", "Service", name, errors));
        }
        let object = serde_json::to_value(&service)
            .map_err(|error| ApiError::Internal(error.to_string()))?;
        let write = Beside::put(SERVICES, namespace, name, Expect::Absent, object)?;
        match cluster.storage.commit(write, others).await? {
            // Another server was quicker, and wanted the same.
            Committed::Written(Written::Done(_) | Written::Changed(_)) => return Ok(()),
            Committed::Overtaken => {}
        }
    }
    Err(ApiError::Internal(
        "other requests keep taking its address".to_owned(),
    ))
}

fn wanted(cluster: Cluster<'_>, port: u16) -> Result<Service, ApiError> {
    let (namespace, name) = KUBERNETES;
    let address = cluster.services.kubernetes_ip().to_string();
    let object: Value = fresh(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name, "namespace": namespace,
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
            "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": HTTPS, "targetPort": port}],
        },
    }));
    let mut service: Service =
        serde_json::from_value(object).map_err(|error| ApiError::Internal(error.to_string()))?;
    Rules::default(&mut service);
    service.prepare_create(cluster.gates);
    Ok(service)
}
