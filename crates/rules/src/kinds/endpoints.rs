//! core/v1 Endpoints.

use std::net::IpAddr;

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};

use crate::Rules;
use crate::values::{default_text, ip, is_full, one_of, parse_ip, text};
use berth_core::meta::{self, Scope};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

impl Rules for Endpoints {
    fn default(&mut self) {
        for subset in self.subsets.iter_mut().flatten() {
            for port in subset.ports.iter_mut().flatten() {
                default_text(&mut port.protocol, "TCP");
            }
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        errors.extend(subsets(self));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        // What is there already may stay as bad as it is.
        if self.subsets != old.subsets {
            errors.extend(subsets(self));
        }
        bounded(errors)
    }
}

fn subsets(endpoints: &Endpoints) -> Vec<FieldError> {
    let at = FieldPath::new("subsets");
    let mut errors = Vec::new();
    for (i, subset) in endpoints.subsets.iter().flatten().enumerate() {
        if is_full(&errors) {
            break;
        }
        validate_subset(&mut errors, subset, &at.index(i));
    }
    errors
}

fn validate_subset(errors: &mut Vec<FieldError>, subset: &EndpointSubset, at: &FieldPath) {
    let ready = subset.addresses.as_deref().unwrap_or_default();
    let not_ready = subset.not_ready_addresses.as_deref().unwrap_or_default();
    if ready.is_empty() && not_ready.is_empty() {
        let why = "must specify `addresses` or `notReadyAddresses`";
        errors.push(FieldError::required(at, why));
    }
    for (name, list) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
        for (i, address) in list.iter().enumerate() {
            validate_address(errors, address, &at.child(name).index(i));
        }
    }
    let ports = subset.ports.as_deref().unwrap_or_default();
    for (i, port) in ports.iter().enumerate() {
        validate_port(errors, port, ports.len() > 1, &at.child("ports").index(i));
    }
}

fn validate_address(errors: &mut Vec<FieldError>, address: &EndpointAddress, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    let ip_at = at.child("ip");
    match parse_ip(&address.ip) {
        None => ip(errors, &ip_at, &address.ip),
        Some(parsed) => validate_special(errors, parsed, &ip_at),
    }
    let hostname = text(&address.hostname);
    if !hostname.is_empty() {
        meta::extend_invalid(
            errors,
            &at.child("hostname"),
            hostname,
            names::dns1123_label(hostname),
        );
    }
    if let Some(node) = &address.node_name {
        meta::extend_invalid(
            errors,
            &at.child("nodeName"),
            node,
            names::dns1123_subdomain(node),
        );
    }
}

/// An address that means something else on each machine is not one of a backend.
pub(super) fn validate_special(errors: &mut Vec<FieldError>, address: IpAddr, at: &FieldPath) {
    let (local, local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets().starts_with(&[224, 0, 0])),
        IpAddr::V6(v6) => (
            v6.is_unicast_link_local(),
            v6.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    for (is, why) in [
        (
            address.is_unspecified(),
            "may not be unspecified (0.0.0.0 or ::)",
        ),
        (
            address.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ] {
        if is {
            errors.push(FieldError::invalid(at, address, why));
        }
    }
}

fn validate_port(errors: &mut Vec<FieldError>, port: &EndpointPort, named: bool, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    let name = text(&port.name);
    if named && name.is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    } else if !name.is_empty() {
        meta::extend_invalid(errors, &at.child("name"), name, names::dns1123_label(name));
    }
    let wrong = names::port_number(i64::from(port.port)).into_iter();
    let port_at = at.child("port");
    errors.extend(wrong.map(|why| FieldError::invalid(&port_at, port.port, why)));
    one_of(
        errors,
        &at.child("protocol"),
        text(&port.protocol),
        &PROTOCOLS,
    );
    if let Some(protocol) = &port.app_protocol {
        let at = at.child("appProtocol");
        meta::extend_invalid(errors, &at, protocol, names::qualified_name(protocol));
    }
}
