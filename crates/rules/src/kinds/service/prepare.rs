//! What an update of a service that leaves something out means.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::ServiceSpec;

use super::{EXTERNAL_NAME, has_health_check_port, has_node_ports};
use crate::values::text;

/// `clusterIP` and the first of `clusterIPs` say the same: a client that knows only the first field still decides.
pub(super) fn normalize_addresses(new: &mut ServiceSpec, old: Option<&ServiceSpec>) {
    let Some(old) = old else {
        let one = text(&new.cluster_ip);
        if !one.is_empty() && new.cluster_ips.as_ref().is_none_or(Vec::is_empty) {
            new.cluster_ips = Some(vec![one.to_owned()]);
        }
        return;
    };
    if new.cluster_ip == old.cluster_ip {
        return;
    }
    let same_list = new.cluster_ips == old.cluster_ips;
    let one = text(&new.cluster_ip).to_owned();
    if one.is_empty() && same_list {
        new.cluster_ips = None;
    } else if !one.is_empty() && same_list {
        new.cluster_ips = Some(vec![one]);
    }
}

/// An update of spec.
pub(super) fn update(new: &mut ServiceSpec, old: &ServiceSpec) {
    keep_allocated(new, old);
    normalize_addresses(new, Some(old));
    drop_of_other_type(new, old);
}

/// What the server has allocated stays when the client leaves it out.
fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    let has_address = |spec: &ServiceSpec| text(&spec.type_) != EXTERNAL_NAME;
    if has_address(new) && has_address(old) {
        if text(&new.cluster_ip).is_empty() {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if new.cluster_ips.as_ref().is_none_or(Vec::is_empty) && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
    }
    if has_node_ports(new) && has_node_ports(old) {
        let ports = old.ports.iter().flatten();
        let before: HashMap<(i32, &str), i32> = ports
            .filter_map(|p| Some(((p.port, text(&p.protocol)), p.node_port?)))
            .collect();
        let mut used: HashSet<i32> = new
            .ports
            .iter()
            .flatten()
            .filter_map(|p| p.node_port)
            .collect();
        for port in new.ports.iter_mut().flatten() {
            let same = before.get(&(port.port, text(&port.protocol)));
            if let Some(node_port) = same.filter(|_| port.node_port.unwrap_or(0) == 0)
                && used.insert(*node_port)
            {
                port.node_port = Some(*node_port);
            }
        }
    }
    if has_health_check_port(new)
        && has_health_check_port(old)
        && new.health_check_node_port.unwrap_or(0) == 0
    {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// A change of type drops what only the old type has, unless the client says something else about it.
fn drop_of_other_type(new: &mut ServiceSpec, old: &ServiceSpec) {
    if text(&new.type_) == EXTERNAL_NAME && text(&old.type_) != EXTERNAL_NAME {
        if new.cluster_ip == old.cluster_ip && new.cluster_ips == old.cluster_ips {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        if new.ip_families == old.ip_families {
            new.ip_families = None;
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
        if new.internal_traffic_policy == old.internal_traffic_policy {
            new.internal_traffic_policy = None;
        }
    }
    if has_node_ports(old) && !has_node_ports(new) {
        let before: Vec<Option<i32>> = old.ports.iter().flatten().map(|p| p.node_port).collect();
        let now: Vec<Option<i32>> = new.ports.iter().flatten().map(|p| p.node_port).collect();
        if before == now {
            for port in new.ports.iter_mut().flatten() {
                port.node_port = None;
            }
        }
    }
    if has_health_check_port(old)
        && !has_health_check_port(new)
        && new.health_check_node_port == old.health_check_node_port
    {
        new.health_check_node_port = None;
    }
    if text(&old.type_) == "LoadBalancer" && text(&new.type_) != "LoadBalancer" {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if super::is_external(old)
        && !super::is_external(new)
        && new.external_traffic_policy == old.external_traffic_policy
    {
        new.external_traffic_policy = None;
    }
}
