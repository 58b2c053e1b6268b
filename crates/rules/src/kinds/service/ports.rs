//! The ports of a service.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;

use super::{EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT, is_headless};
use crate::values::{is_full, one_of, text};
use berth_core::meta;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
/// The port of a node's own server.
const KUBELET: i32 = 10_250;

pub(super) fn validate(spec: &ServiceSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let kind = text(&spec.type_);
    let at = at.child("ports");
    if ports.is_empty() && !is_headless(spec) && kind != EXTERNAL_NAME {
        errors.push(FieldError::required(&at, ""));
    }
    let mut names_before = HashSet::new();
    let mut before = HashSet::new();
    let mut node_ports = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        if is_full(&errors) {
            break;
        }
        let at = at.index(i);
        validate_port(&mut errors, port, ports.len() > 1, &at);
        let name = text(&port.name);
        if !name.is_empty() && !names_before.insert(name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        let protocol = text(&port.protocol);
        if !before.insert((protocol, port.port)) {
            let value = json!({"protocol": protocol, "port": port.port});
            errors.push(FieldError::duplicate(&at, value));
        }
        if kind == LOAD_BALANCER && port.port == KUBELET {
            let why = "may not expose port 10250 externally since it is used by kubelet";
            errors.push(FieldError::invalid(&at.child("port"), port.port, why));
        }
        let Some(node_port) = port.node_port.filter(|p| *p != 0) else {
            continue;
        };
        let at = at.child("nodePort");
        if !matches!(kind, NODE_PORT | LOAD_BALANCER) {
            let why = format!("may not be used when `type` is '{kind}'");
            errors.push(FieldError::forbidden(&at, why));
        } else {
            // Which are given out is up to the server's settings.
            let wrong = names::port_number(i64::from(node_port)).into_iter();
            errors.extend(wrong.map(|why| FieldError::invalid(&at, node_port, why)));
        }
        if !node_ports.insert((protocol, node_port)) {
            errors.push(FieldError::duplicate(&at, node_port));
        }
    }
    errors
}

fn validate_port(errors: &mut Vec<FieldError>, port: &ServicePort, named: bool, at: &FieldPath) {
    let (name, name_at) = (text(&port.name), at.child("name"));
    if named && name.is_empty() {
        errors.push(FieldError::required(&name_at, ""));
    } else if !name.is_empty() {
        meta::extend_invalid(errors, &name_at, name, names::dns1123_label(name));
    }
    let port_at = at.child("port");
    let wrong = names::port_number(i64::from(port.port)).into_iter();
    errors.extend(wrong.map(|why| FieldError::invalid(&port_at, port.port, why)));
    one_of(
        errors,
        &at.child("protocol"),
        text(&port.protocol),
        &PROTOCOLS,
    );
    let target_at = at.child("targetPort");
    match &port.target_port {
        Some(IntOrString::Int(number)) => {
            let wrong = names::port_number(i64::from(*number)).into_iter();
            errors.extend(wrong.map(|why| FieldError::invalid(&target_at, number, why)));
        }
        Some(IntOrString::String(name)) => {
            meta::extend_invalid(errors, &target_at, name, names::port_name(name));
        }
        None => {}
    }
    if let Some(protocol) = &port.app_protocol {
        let at = at.child("appProtocol");
        meta::extend_invalid(errors, &at, protocol, names::qualified_name(protocol));
    }
}
