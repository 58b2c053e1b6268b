//! Endpoints that are pods.
//!
//! Where no controller writes down the endpoints of a Service, they are the ready pods that it selects: what the
//! controller would write. And `services/proxy` goes to nothing but pods, as on the stock server: an endpoint that
//! somebody has written by hand leads there only when a pod of the namespace really has that address.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rand::seq::SliceRandom;
use serde_json::Value;

use super::{Backend, Endpoint, MAX_ENDPOINTS, PODS, ServiceError, push};
use crate::proxy::address::canonical;
use crate::storage::Storage;

/// The ready pods that a Service selects.
pub(super) fn selected(
    storage: &Storage,
    namespace: &str,
    selector: Option<BTreeMap<String, String>>,
    port: &ServicePort,
) -> Result<Vec<Endpoint>, ServiceError> {
    let mut found = Vec::new();
    // One without a selector has the endpoints that somebody writes down.
    let Some(selector) = selector.filter(|selector| !selector.is_empty()) else {
        return Ok(found);
    };
    for stored in storage.list(PODS, Some(namespace)) {
        let selects = |(key, value): (&String, &String)| stored.label(key) == Some(value.as_str());
        if found.len() >= MAX_ENDPOINTS || !selector.iter().all(selects) {
            continue;
        }
        let pod = stored.value()?;
        if !is_ready(&pod) {
            continue;
        }
        if let Some(number) = target_port(&pod, port) {
            let name = (namespace.to_owned(), stored.name.to_string());
            let address = pod.pointer("/status/podIP").and_then(Value::as_str);
            push(
                &mut found,
                address.map(str::to_owned).as_ref(),
                number,
                Some(name),
            );
        }
    }
    Ok(found)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True");
    ready && pod.pointer("/metadata/deletionTimestamp").is_none()
}

/// The port of a pod that a port of a Service stands for.
fn target_port(pod: &Value, port: &ServicePort) -> Option<u16> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match &port.target_port {
        None => u16::try_from(port.port).ok(),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => {
            let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
            let ports = containers
                .into_iter()
                .flatten()
                .filter_map(|container| container["ports"].as_array())
                .flatten();
            let mut named = ports.filter(|p| {
                p["name"] == **name && p["protocol"].as_str().unwrap_or("TCP") == protocol
            });
            u16::try_from(named.next()?["containerPort"].as_u64()?).ok()
        }
    }
}

impl Backend {
    /// One of the endpoints that are pods of the cluster, drawn by lot: the pod, and where it is reached.
    ///
    /// # Errors
    /// When none is.
    pub(crate) fn pod(&self, storage: &Storage) -> Result<(Value, SocketAddr), ServiceError> {
        let mut order: Vec<&Endpoint> = self.endpoints.iter().collect();
        order.shuffle(&mut rand::rng());
        for endpoint in order {
            let Some((namespace, name)) = &endpoint.pod else {
                continue;
            };
            let pod: Option<Value> = storage.read(PODS, namespace, name)?;
            if let Some(pod) = pod.filter(|pod| has_address(pod, endpoint.address.ip())) {
                return Ok((pod, endpoint.address));
            }
        }
        Err(ServiceError::NoEndpoints(self.service.clone()))
    }
}

fn has_address(pod: &Value, address: IpAddr) -> bool {
    let listed = pod.pointer("/status/podIPs").and_then(Value::as_array);
    let listed = listed
        .into_iter()
        .flatten()
        .filter_map(|ip| ip["ip"].as_str());
    let first = pod.pointer("/status/podIP").and_then(Value::as_str);
    listed
        .chain(first)
        .filter_map(|ip| ip.parse().ok())
        .any(|ip| canonical(ip) == address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_named_target_port_is_looked_up_in_the_pod() {
        let pod = json!({"spec": {"containers": [{"ports": [
            {"name": "web", "containerPort": 53, "protocol": "UDP"},
            {"name": "web", "containerPort": 8080, "protocol": "TCP"}]}]}});
        let port = |target: Option<IntOrString>| ServicePort {
            port: 80,
            target_port: target,
            ..ServicePort::default()
        };
        let named = |name: &str| Some(IntOrString::String(name.to_owned()));
        assert_eq!(target_port(&pod, &port(None)), Some(80));
        assert_eq!(
            target_port(&pod, &port(Some(IntOrString::Int(81)))),
            Some(81)
        );
        assert_eq!(target_port(&pod, &port(named("web"))), Some(8080));
        assert_eq!(target_port(&pod, &port(named("other"))), None);
        assert_eq!(target_port(&pod, &port(Some(IntOrString::Int(-1)))), None);
    }

    #[test]
    fn an_endpoint_is_a_pod_only_at_the_pods_addresses() {
        let pod = json!({"status": {"podIP": "10.1.0.2", "podIPs": [{"ip": "10.1.0.2"}, {"ip": "fd00::2"}]}});
        for (address, has) in [("10.1.0.2", true), ("fd00::2", true), ("10.1.0.3", false)] {
            assert_eq!(
                has_address(&pod, address.parse().unwrap()),
                has,
                "{address}"
            );
        }
        assert!(!has_address(&json!({}), "10.1.0.2".parse().unwrap()));
    }
}
