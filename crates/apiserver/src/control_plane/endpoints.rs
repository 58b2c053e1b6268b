//! The Endpoints and the EndpointSlice of `default/kubernetes`: the addresses of the servers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use berth_api::status::ApiError;
use berth_store::Expect;
use serde_json::{Value, json};

use super::write::fresh;
use crate::allocation::KUBERNETES;
use crate::storage::Storage;

const ENDPOINTS: &str = "core/endpoints";
const SLICES: &str = "discovery.k8s.io/endpointslices";

/// Makes them say so.
///
/// # Errors
/// When the store cannot be written.
pub(super) async fn keep(
    storage: &Storage,
    servers: &BTreeSet<IpAddr>,
    port: u16,
) -> Result<(), ApiError> {
    let (namespace, name) = KUBERNETES;
    // One object has addresses of one family.
    let Some(is_v4) = servers.first().map(IpAddr::is_ipv4) else {
        return Ok(());
    };
    let addresses: Vec<String> = servers
        .iter()
        .filter(|address| address.is_ipv4() == is_v4)
        .map(ToString::to_string)
        .collect();
    let port = json!({"name": "https", "port": port, "protocol": "TCP"});
    let listed: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": name, "namespace": namespace,
            // The slice is kept here, too, and not mirrored by a controller.
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{"addresses": listed, "ports": [port]}],
    });
    bring(storage, ENDPOINTS, endpoints, &["subsets"]).await?;
    let ready = |ip: &String| json!({"addresses": [ip], "conditions": {"ready": true}});
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": namespace, "generation": 1,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": if is_v4 { "IPv4" } else { "IPv6" },
        "endpoints": addresses.iter().map(ready).collect::<Vec<_>>(),
        "ports": [port],
    });
    let fields = ["addressType", "endpoints", "ports"];
    bring(storage, SLICES, slice, &fields).await
}

/// Makes an object, or corrects its labels and some of its fields.
async fn bring(
    storage: &Storage,
    kind: &str,
    wanted: Value,
    fields: &[&str],
) -> Result<(), ApiError> {
    let (namespace, name) = KUBERNETES;
    let (expect, object) = match storage.get(kind, namespace, name) {
        None => (Expect::Absent, fresh(wanted)),
        Some(stored) => {
            let mut object = stored.value()?;
            let labels = &wanted["metadata"]["labels"];
            let same = fields.iter().all(|field| object[*field] == wanted[*field])
                && object["metadata"]["labels"] == *labels;
            if same {
                return Ok(());
            }
            for field in fields {
                object[*field] = wanted[*field].clone();
            }
            object["metadata"]["labels"] = labels.clone();
            if let Some(generation) = object["metadata"]["generation"].as_i64() {
                object["metadata"]["generation"] = json!(generation + 1);
            }
            (Expect::Revision(stored.revision), object)
        }
    };
    // Who was quicker is answered at the next look.
    storage
        .put(kind, namespace, name, expect, object)
        .await
        .map(|_| ())
}
