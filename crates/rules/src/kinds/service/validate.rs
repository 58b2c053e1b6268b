//! What is wrong with the spec of a service, or with a change of it.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::ServiceSpec;

use super::{
    CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT, addresses, has_health_check_port,
    is_external, is_headless, ports,
};
use crate::values::{cidr, one_of, one_of_if_set, text};
use berth_core::meta;

const TYPES: [&str; 4] = [CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER, NODE_PORT];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameNode", "PreferSameZone"];
/// A day.
const MAX_AFFINITY_SECONDS: i32 = 86_400;

pub(super) fn spec(spec: &ServiceSpec) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = ports::validate(spec, &at);
    let kind = text(&spec.type_);
    if matches!(kind, LOAD_BALANCER | NODE_PORT) && is_headless(spec) {
        let why = format!("may not be set to 'None' for {kind} services");
        errors.push(FieldError::invalid(
            &at.child("clusterIPs").index(0),
            "None",
            why,
        ));
    }
    if kind == EXTERNAL_NAME {
        let (name, at) = (text(&spec.external_name), at.child("externalName"));
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else {
            meta::extend_invalid(&mut errors, &at, name, names::dns1123_subdomain(name));
        }
    }
    if let Some(selector) = &spec.selector {
        errors.extend(meta::validate_labels(selector, &at.child("selector")));
    }
    session_affinity(&mut errors, spec, &at);
    errors.extend(addresses::validate(spec, &at));
    one_of(&mut errors, &at.child("type"), kind, &TYPES);
    load_balancer(&mut errors, spec, &at);
    traffic(&mut errors, spec, &at);
    errors
}

fn session_affinity(errors: &mut Vec<FieldError>, spec: &ServiceSpec, at: &FieldPath) {
    let affinity = text(&spec.session_affinity);
    one_of(
        errors,
        &at.child("sessionAffinity"),
        affinity,
        &["ClientIP", "None"],
    );
    let config_at = at.child("sessionAffinityConfig");
    match (affinity, &spec.session_affinity_config) {
        ("ClientIP", Some(config)) => {
            let at = config_at.child("clientIP.timeoutSeconds");
            let client = config.client_ip.as_ref();
            match client.and_then(|client| client.timeout_seconds) {
                None => errors.push(FieldError::required(&at, "")),
                Some(seconds) if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) => {
                    let why =
                        format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
                    errors.push(FieldError::invalid(&at, seconds, why));
                }
                Some(_) => {}
            }
        }
        ("None", Some(_)) => {
            let why = "must not be set when session affinity is None";
            errors.push(FieldError::forbidden(&config_at, why));
        }
        (_, _) => {}
    }
}

fn load_balancer(errors: &mut Vec<FieldError>, spec: &ServiceSpec, at: &FieldPath) {
    let is_balanced = text(&spec.type_) == LOAD_BALANCER;
    let only = "may only be used when `type` is 'LoadBalancer'";
    let ranges = spec
        .load_balancer_source_ranges
        .as_deref()
        .unwrap_or_default();
    for (name, is_set) in [
        ("loadBalancerSourceRanges", !ranges.is_empty()),
        (
            "allocateLoadBalancerNodePorts",
            spec.allocate_load_balancer_node_ports.is_some(),
        ),
        ("loadBalancerClass", spec.load_balancer_class.is_some()),
    ] {
        if is_set && !is_balanced {
            errors.push(FieldError::forbidden(&at.child(name), only));
        }
    }
    for (i, range) in ranges.iter().enumerate() {
        cidr(
            errors,
            &at.child("loadBalancerSourceRanges").index(i),
            range.trim(),
        );
    }
    if let Some(class) = &spec.load_balancer_class {
        let at = at.child("loadBalancerClass");
        meta::extend_invalid(errors, &at, class, names::qualified_name(class));
    }
    if is_balanced && spec.allocate_load_balancer_node_ports.is_none() {
        errors.push(FieldError::required(
            &at.child("allocateLoadBalancerNodePorts"),
            "",
        ));
    }
}

fn traffic(errors: &mut Vec<FieldError>, spec: &ServiceSpec, at: &FieldPath) {
    let policies = ["Cluster", "Local"];
    let (policy, policy_at) = (
        text(&spec.external_traffic_policy),
        at.child("externalTrafficPolicy"),
    );
    if is_external(spec) {
        one_of(errors, &policy_at, policy, &policies);
    } else if !policy.is_empty() {
        let why = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(&policy_at, policy, why));
    }
    let check_at = at.child("healthCheckNodePort");
    if let Some(port) = spec.health_check_node_port.filter(|p| *p != 0) {
        if has_health_check_port(spec) {
            let wrong = names::port_number(i64::from(port)).into_iter();
            errors.extend(wrong.map(|why| FieldError::invalid(&check_at, port, why)));
        } else {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(&check_at, port, why));
        }
    }
    let at_internal = at.child("internalTrafficPolicy");
    match (text(&spec.type_), spec.internal_traffic_policy.as_deref()) {
        (CLUSTER_IP | NODE_PORT | LOAD_BALANCER, None) => {
            errors.push(FieldError::required(&at_internal, ""));
        }
        (_, policy) => one_of_if_set(errors, &at_internal, policy, &policies),
    }
    let distribution = spec.traffic_distribution.as_deref();
    one_of_if_set(
        errors,
        &at.child("trafficDistribution"),
        distribution,
        &DISTRIBUTIONS,
    );
}

/// What never changes once it is there.
pub(super) fn update(new: &ServiceSpec, old: &ServiceSpec) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    errors.extend(addresses::update(new, old, &at));
    let stays_balanced = text(&new.type_) == LOAD_BALANCER && text(&old.type_) == LOAD_BALANCER;
    if stays_balanced && new.load_balancer_class != old.load_balancer_class {
        let why = "may not change once set";
        errors.push(FieldError::invalid(
            &at.child("loadBalancerClass"),
            &new.load_balancer_class,
            why,
        ));
    }
    if has_health_check_port(new)
        && has_health_check_port(old)
        && old.health_check_node_port.unwrap_or(0) != 0
        && new.health_check_node_port != old.health_check_node_port
    {
        let why = "field is immutable";
        let at = at.child("healthCheckNodePort");
        errors.push(FieldError::invalid(&at, new.health_check_node_port, why));
    }
    errors
}
