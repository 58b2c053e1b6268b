//! Ports, DNS settings, host aliases.

use std::collections::HashSet;
use std::net::IpAddr;

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{one_of, text};
use berth_core::meta;

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_BYTES: usize = 2048;

pub(super) fn container_ports(c: &Container, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = HashSet::new();
    for (i, port) in c.ports.iter().flatten().enumerate() {
        let at = at.index(i);
        let name = text(&port.name);
        if !name.is_empty() {
            let complaints = names::port_name(name);
            if !taken.insert(name) && complaints.is_empty() {
                errors.push(FieldError::duplicate(&at.child("name"), name));
            }
            meta::extend_invalid(&mut errors, &at.child("name"), name, complaints);
        }
        let mut number = |field: &str, value: i32| {
            for complaint in names::port_number(i64::from(value)) {
                errors.push(FieldError::invalid(&at.child(field), value, complaint));
            }
        };
        if port.container_port != 0 {
            number("containerPort", port.container_port);
        }
        if let Some(host) = port.host_port.filter(|p| *p != 0) {
            number("hostPort", host);
        }
        if port.container_port == 0 {
            errors.push(FieldError::required(&at.child("containerPort"), ""));
        }
        one_of(
            &mut errors,
            &at.child("protocol"),
            text(&port.protocol),
            &["SCTP", "TCP", "UDP"],
        );
    }
    errors
}

fn ip(errors: &mut Vec<FieldError>, at: &FieldPath, value: &str) {
    if value.parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid(
            at,
            value,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ));
    }
}

pub(super) fn dns_config(spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let nameservers = spec
        .dns_config
        .as_ref()
        .and_then(|c| c.nameservers.as_deref())
        .unwrap_or_default();
    if spec.dns_policy.as_deref() == Some("None") {
        if spec.dns_config.is_none() {
            return vec![FieldError::required(
                at,
                "must provide `dnsConfig` when `dnsPolicy` is None",
            )];
        }
        if nameservers.is_empty() {
            return vec![FieldError::required(
                &at.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            )];
        }
    }
    let Some(config) = &spec.dns_config else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    let servers_at = at.child("nameservers");
    if nameservers.len() > MAX_NAMESERVERS {
        errors.push(FieldError::invalid(
            &servers_at,
            nameservers,
            format!("must not have more than {MAX_NAMESERVERS} nameservers"),
        ));
    }
    for (i, server) in nameservers.iter().enumerate() {
        ip(&mut errors, &servers_at.index(i), server);
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    let searches_at = at.child("searches");
    if searches.len() > MAX_SEARCHES {
        errors.push(FieldError::invalid(
            &searches_at,
            searches,
            format!("must not have more than {MAX_SEARCHES} search paths"),
        ));
    }
    if searches.join(" ").len() > MAX_SEARCH_BYTES {
        errors.push(FieldError::invalid(
            &searches_at,
            searches,
            format!("must not have more than {MAX_SEARCH_BYTES} characters (including spaces) in the search list"),
        ));
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, s)| *s != ".") {
        let name = search.strip_suffix('.').unwrap_or(search);
        let complaints = names::dns1123_subdomain_with_underscore(name);
        meta::extend_invalid(&mut errors, &searches_at.index(i), name, complaints);
    }
    for (i, option) in config.options.iter().flatten().enumerate() {
        if text(&option.name).is_empty() {
            errors.push(FieldError::required(
                &at.child("options").index(i),
                "must not be empty",
            ));
        }
    }
    errors
}

pub(super) fn host_aliases(spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let at = at.index(i);
        ip(&mut errors, &at.child("ip"), &alias.ip);
        for (j, name) in alias.hostnames.iter().flatten().enumerate() {
            let at = at.child("hostnames").index(j);
            meta::extend_invalid(&mut errors, &at, name, names::dns1123_subdomain(name));
        }
    }
    errors
}
