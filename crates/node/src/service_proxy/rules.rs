//! From a Service and its EndpointSlices to what has to be led where.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// Most endpoints of a port that are used.
const MAX_ENDPOINTS: usize = 64;

/// What is sent to an address and port goes to one of the endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) address: SocketAddr,
    /// At least one, of the address's family.
    pub(super) endpoints: Vec<SocketAddr>,
}

/// The rules of a Service's TCP ports.
pub(super) fn of<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
) -> Vec<Rule> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let ips = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let ips: BTreeSet<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
    let mut rules = Vec::new();
    for port in spec.ports.iter().flatten() {
        let Ok(number) = u16::try_from(port.port) else {
            continue;
        };
        if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
            continue;
        }
        let name = port.name.as_deref().unwrap_or_default();
        let mut endpoints = BTreeSet::new();
        for slice in slices.clone() {
            endpoints.extend(ready(slice, name));
        }
        for ip in &ips {
            let same = endpoints.iter().filter(|e| e.is_ipv4() == ip.is_ipv4());
            let same: Vec<SocketAddr> = same.take(MAX_ENDPOINTS).copied().collect();
            if !same.is_empty() {
                rules.push(Rule {
                    address: SocketAddr::new(*ip, number),
                    endpoints: same,
                });
            }
        }
    }
    rules
}

/// The endpoints of a slice that are ready, for the port of that name.
fn ready(slice: &EndpointSlice, name: &str) -> Vec<SocketAddr> {
    let port = slice.ports.iter().flatten().find(|port| {
        port.name.as_deref().unwrap_or_default() == name
            && port.protocol.as_deref().unwrap_or("TCP") == "TCP"
    });
    let number = port.and_then(|port| u16::try_from(port.port?).ok());
    let Some(number) = number else {
        return Vec::new();
    };
    let endpoints = slice.endpoints.iter().flatten();
    endpoints
        .filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.and_then(|c| c.ready) != Some(false)
        })
        .filter_map(|endpoint| endpoint.addresses.first()?.parse().ok())
        // These would be this machine's own, whatever it was for who wrote them.
        .filter(|ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast())
        .map(|ip| SocketAddr::new(ip, number))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service() -> Service {
        serde_json::from_value(json!({"spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"],
            "ports": [{"name": "https", "port": 443}, {"name": "u", "port": 1, "protocol": "UDP"}]}}))
        .unwrap()
    }

    fn slice(addresses: &[(&str, bool)], port: Value) -> EndpointSlice {
        let endpoints: Vec<Value> = addresses
            .iter()
            .map(|(ip, ready)| json!({"addresses": [ip], "conditions": {"ready": ready}}))
            .collect();
        serde_json::from_value(
            json!({"addressType": "IPv4", "endpoints": endpoints, "ports": [port]}),
        )
        .unwrap()
    }

    fn text(rules: &[Rule]) -> Vec<String> {
        rules
            .iter()
            .map(|rule| format!("{} {:?}", rule.address, rule.endpoints))
            .collect()
    }

    #[test]
    fn a_port_goes_to_the_servers_that_are_ready() {
        let port = json!({"name": "https", "port": 6443});
        let one = slice(&[("192.0.2.1", true), ("192.0.2.3", false)], port.clone());
        let two = slice(
            &[("192.0.2.2", true), ("192.0.2.1", true), ("fd00::1", true)],
            port,
        );
        assert_eq!(
            text(&of(&service(), [&one, &two].into_iter())),
            ["10.96.0.1:443 [192.0.2.1:6443, 192.0.2.2:6443]"]
        );
    }

    #[test]
    fn what_would_lead_to_this_machine_or_nowhere_is_left_out() {
        for port in [
            json!({"name": "https", "port": 0x1_0000}),
            json!({"name": "https", "port": null}),
            json!({"name": "other", "port": 6443}),
            json!({"name": "https", "port": 6443, "protocol": "UDP"}),
        ] {
            let one = slice(&[("192.0.2.1", true)], port.clone());
            assert!(of(&service(), [&one].into_iter()).is_empty(), "{port}");
        }
        let port = json!({"name": "https", "port": 6443});
        let own = [
            "127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "localhost",
            "-j ACCEPT",
        ];
        let own = slice(&own.map(|ip| (ip, true)), port);
        assert!(of(&service(), [&own].into_iter()).is_empty());
        assert!(of(&service(), std::iter::empty()).is_empty());
    }
}
