//! discovery.k8s.io/v1 EndpointSlice.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use crate::Rules;
use crate::values::{default_text, one_of_if_set, parse_ip, text};
use berth_core::meta::{self, Scope};

const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_HINTS: usize = 8;
const MAX_TOPOLOGY: usize = 16;

impl Rules for EndpointSlice {
    fn default(&mut self) {
        self.endpoints.get_or_insert_default();
        for port in self.ports.get_or_insert_default() {
            port.name.get_or_insert_default();
            default_text(&mut port.protocol, "TCP");
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        errors.extend(content(self));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(content(self));
        let at = FieldPath::new("addressType");
        meta::immutable(&mut errors, &at, &self.address_type, &old.address_type);
        bounded(errors)
    }
}

fn content(slice: &EndpointSlice) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = FieldPath::new("addressType");
    let kind = slice.address_type.as_str();
    if kind.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        one_of_if_set(&mut errors, &at, Some(kind), &ADDRESS_TYPES);
    }
    let endpoints = slice.endpoints.as_deref().unwrap_or_default();
    let at = FieldPath::new("endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(FieldError::too_many(&at, endpoints.len(), MAX_ENDPOINTS));
        return errors;
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        errors.extend(validate_endpoint(endpoint, kind, &at.index(i)));
    }
    let ports = slice.ports.as_deref().unwrap_or_default();
    let at = FieldPath::new("ports");
    if ports.len() > MAX_PORTS {
        errors.push(FieldError::too_many(&at, ports.len(), MAX_PORTS));
        return errors;
    }
    errors.extend(validate_ports(ports, &at));
    errors
}

fn validate_endpoint(endpoint: &Endpoint, kind: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let addresses_at = at.child("addresses");
    match endpoint.addresses.len() {
        0 => errors.push(FieldError::required(
            &addresses_at,
            "must contain at least 1 address",
        )),
        count if count > MAX_ADDRESSES => {
            errors.push(FieldError::too_many(&addresses_at, count, MAX_ADDRESSES));
        }
        _ => {
            for (i, address) in endpoint.addresses.iter().enumerate() {
                validate_address(&mut errors, address, kind, &addresses_at.index(i));
            }
        }
    }
    if let Some(node) = &endpoint.node_name {
        let at = at.child("nodeName");
        meta::extend_invalid(&mut errors, &at, node, names::dns1123_subdomain(node));
    }
    let topology = endpoint.deprecated_topology.as_ref();
    let topology_at = at.child("deprecatedTopology");
    if let Some(topology) = topology {
        if topology.len() > MAX_TOPOLOGY {
            errors.push(FieldError::too_many(
                &topology_at,
                topology.len(),
                MAX_TOPOLOGY,
            ));
        }
        errors.extend(meta::validate_labels(topology, &topology_at));
    }
    if let Some(hostname) = &endpoint.hostname {
        let at = at.child("hostname");
        meta::extend_invalid(&mut errors, &at, hostname, names::dns1123_label(hostname));
    }
    let hints = endpoint.hints.as_ref();
    let zones = hints
        .and_then(|h| h.for_zones.as_deref())
        .unwrap_or_default();
    let nodes = hints
        .and_then(|h| h.for_nodes.as_deref())
        .unwrap_or_default();
    let zones: Vec<&str> = zones.iter().map(|z| z.name.as_str()).collect();
    let nodes: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
    for (list, names) in [("forZones", zones), ("forNodes", nodes)] {
        validate_hints(&mut errors, &names, &at.child("hints").child(list));
    }
    errors
}

fn validate_hints(errors: &mut Vec<FieldError>, given: &[&str], at: &FieldPath) {
    if given.len() > MAX_HINTS {
        errors.push(FieldError::too_many(at, given.len(), MAX_HINTS));
        return;
    }
    let mut seen = HashSet::new();
    for (i, name) in given.iter().enumerate() {
        let at = at.index(i).child("name");
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        meta::extend_invalid(errors, &at, name, names::label_value(name));
    }
}

fn validate_address(errors: &mut Vec<FieldError>, address: &str, kind: &str, at: &FieldPath) {
    let parsed = parse_ip(address);
    match kind {
        "IPv4" if !parsed.is_some_and(|ip| ip.is_ipv4()) => {
            errors.push(FieldError::invalid(
                at,
                address,
                "must be a valid IPv4 address",
            ));
        }
        "IPv6" if !parsed.is_some_and(|ip| ip.is_ipv6()) => {
            errors.push(FieldError::invalid(
                at,
                address,
                "must be a valid IPv6 address",
            ));
        }
        "IPv4" | "IPv6" => {
            if let Some(ip) = parsed {
                super::endpoints::validate_special(errors, ip, at);
            }
        }
        "FQDN" => {
            let name = address.strip_suffix('.').unwrap_or(address);
            meta::extend_invalid(errors, at, address, names::dns1123_subdomain(name));
            if !name.contains('.') {
                let why = "should be a domain with at least two segments separated by dots";
                errors.push(FieldError::invalid(at, address, why));
            }
        }
        // Reported at the type.
        _ => {}
    }
}

fn validate_ports(ports: &[EndpointPort], at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = at.index(i);
        let name = text(&port.name);
        if !name.is_empty() {
            meta::extend_invalid(
                &mut errors,
                &at.child("name"),
                name,
                names::dns1123_label(name),
            );
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        let protocol = text(&port.protocol);
        if protocol.is_empty() {
            errors.push(FieldError::required(&at.child("protocol"), ""));
        } else {
            one_of_if_set(
                &mut errors,
                &at.child("protocol"),
                Some(protocol),
                &PROTOCOLS,
            );
        }
        if let Some(number) = port.port {
            let wrong = names::port_number(i64::from(number)).into_iter();
            let at = at.child("port");
            errors.extend(wrong.map(|why| FieldError::invalid(&at, number, why)));
        }
        if let Some(protocol) = &port.app_protocol {
            let at = at.child("appProtocol");
            meta::extend_invalid(&mut errors, &at, protocol, names::qualified_name(protocol));
        }
    }
    errors
}
