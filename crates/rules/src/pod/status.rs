//! What an update of a pod's status may say.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};

use berth_core::container::is_sidecar;
use berth_core::meta;

pub(super) fn validate(pod: &Pod, old: &Pod) -> Vec<FieldError> {
    let mut errors = meta::validate_update(&pod.metadata, &old.metadata);
    let at = FieldPath::new("status");
    let none = PodStatus::default();
    let (new, before) = (
        pod.status.as_ref().unwrap_or(&none),
        old.status.as_ref().unwrap_or(&none),
    );
    let empty = PodSpec::default();
    let spec = old.spec.as_ref().unwrap_or(&empty);
    let containers = by_name(&spec.containers);
    let init = by_name(spec.init_containers.as_deref().unwrap_or_default());
    for (i, condition) in new.conditions.iter().flatten().enumerate() {
        if condition.observed_generation.is_some_and(|g| g < 0) {
            errors.push(FieldError::invalid(
                &at.child("conditions").index(i).child("observedGeneration"),
                condition.observed_generation,
                "must be a non-negative integer",
            ));
        }
        if condition.type_.contains('/') || condition.type_.is_empty() {
            let path = at.child("conditions").index(i).child("Type");
            let complaints = names::qualified_name(&condition.type_);
            meta::extend_invalid(&mut errors, &path, &condition.type_, complaints);
        }
    }
    let node = |p: &Pod| {
        p.spec
            .as_ref()
            .and_then(|s| s.node_name.clone())
            .unwrap_or_default()
    };
    if node(pod) != node(old) {
        errors.push(FieldError::forbidden(
            &at.child("nodeName"),
            "may not be changed directly",
        ));
    }
    let nominated = new.nominated_node_name.as_deref().unwrap_or_default();
    if !nominated.is_empty() && new.nominated_node_name != before.nominated_node_name {
        let path = at.child("nominatedNodeName");
        meta::extend_invalid(
            &mut errors,
            &path,
            nominated,
            names::dns1123_subdomain(nominated),
        );
    }
    if let Some(generation) = new.observed_generation.filter(|g| *g < 0) {
        errors.push(FieldError::invalid(
            &at.child("observedGeneration"),
            generation,
            "must be a non-negative integer",
        ));
    }
    meta::immutable(
        &mut errors,
        &at.child("qosClass"),
        &new.qos_class,
        &before.qos_class,
    );
    errors.extend(transitions(
        new.container_statuses.as_deref(),
        before.container_statuses.as_deref(),
        &at.child("containerStatuses"),
        |name, code| may_restart(spec, containers.get(name).copied(), code),
    ));
    errors.extend(transitions(
        new.init_container_statuses.as_deref(),
        before.init_container_statuses.as_deref(),
        &at.child("initContainerStatuses"),
        |name, code| {
            may_restart(spec, containers.get(name).copied(), code)
                || init.get(name).is_some_and(|c| is_sidecar(c))
        },
    ));
    errors.extend(transitions(
        new.ephemeral_container_statuses.as_deref(),
        before.ephemeral_container_statuses.as_deref(),
        &at.child("ephemeralContainerStatuses"),
        |_, _| false,
    ));
    errors.extend(addresses(new, &at));
    errors
}

fn by_name(containers: &[Container]) -> HashMap<&str, &Container> {
    containers.iter().map(|c| (c.name.as_str(), c)).collect()
}

/// Whether a container that ended with a code may run again.
fn may_restart(spec: &PodSpec, container: Option<&Container>, code: i32) -> bool {
    for rule in container
        .iter()
        .flat_map(|c| c.restart_policy_rules.iter().flatten())
    {
        if let Some(codes) = &rule.exit_codes {
            let listed = codes.values.as_ref().is_some_and(|v| v.contains(&code));
            if (codes.operator == "In") == listed {
                return true;
            }
        }
    }
    let own = container.and_then(|c| c.restart_policy.as_deref());
    match own.or(spec.restart_policy.as_deref()) {
        Some("OnFailure") => code != 0,
        Some("Never") => false,
        _ => true,
    }
}

/// What has ended does not run again unless it may.
fn transitions(
    new: Option<&[ContainerStatus]>,
    old: Option<&[ContainerStatus]>,
    at: &FieldPath,
    may_restart: impl Fn(&str, i32) -> bool,
) -> Vec<FieldError> {
    let ended = |s: &ContainerStatus| {
        s.state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .map(|t| t.exit_code)
    };
    let mut errors = Vec::new();
    let mut states: HashMap<&str, &ContainerStatus> = HashMap::new();
    for status in new.unwrap_or_default() {
        states.entry(&status.name).or_insert(status);
    }
    for (i, before) in old.unwrap_or_default().iter().enumerate() {
        let Some(code) = ended(before) else {
            continue;
        };
        let now = states.get(before.name.as_str());
        if now.is_some_and(|s| ended(s).is_none()) && !may_restart(&before.name, code) {
            errors.push(FieldError::forbidden(
                &at.index(i).child("state"),
                "may not be transitioned to non-terminated state",
            ));
        }
    }
    errors
}

fn addresses(status: &PodStatus, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let pod: Vec<&str> = status
        .pod_ips
        .iter()
        .flatten()
        .map(|p| p.ip.as_str())
        .collect();
    let host: Vec<&str> = status
        .host_ips
        .iter()
        .flatten()
        .map(|h| h.ip.as_str())
        .collect();
    for (name, list) in [("podIPs", pod), ("hostIPs", host)] {
        let at = at.child(name);
        let mut parsed = Vec::new();
        let mut texts = HashSet::new();
        for (i, text) in list.iter().enumerate() {
            match text.parse::<IpAddr>() {
                Ok(ip) => parsed.push(ip),
                Err(_) => errors.push(FieldError::invalid(
                    &at.index(i),
                    text,
                    "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                )),
            }
            if !texts.insert(*text) {
                errors.push(FieldError::duplicate(&at, text));
            }
        }
        let per_family = |v4: bool| parsed.iter().filter(|ip| ip.is_ipv4() == v4).count();
        if per_family(true) > 1 || per_family(false) > 1 {
            errors.push(FieldError::invalid(
                &at,
                list,
                "may specify no more than one IP for each IP family",
            ));
        }
    }
    errors
}
