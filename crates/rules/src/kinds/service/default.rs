//! Defaults of a service's unset fields.

use k8s_openapi::api::core::v1::ServiceSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{CLUSTER_IP, EXTERNAL_NAME, LOAD_BALANCER, is_external};
use crate::values::{default_text, text};

/// Three hours.
const AFFINITY_SECONDS: i32 = 10_800;

pub(super) fn set(spec: &mut ServiceSpec) {
    spec.ports.take_if(|ports| ports.is_empty());
    spec.selector.take_if(|selector| selector.is_empty());
    default_text(&mut spec.session_affinity, "None");
    match text(&spec.session_affinity) {
        "None" => spec.session_affinity_config = None,
        "ClientIP" => {
            let config = spec.session_affinity_config.get_or_insert_default();
            let client = config.client_ip.get_or_insert_default();
            client.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
        }
        _ => {}
    }
    default_text(&mut spec.type_, CLUSTER_IP);
    for port in spec.ports.iter_mut().flatten() {
        default_text(&mut port.protocol, "TCP");
        let is_unset = match &port.target_port {
            None => true,
            Some(IntOrString::Int(number)) => *number == 0,
            Some(IntOrString::String(name)) => name.is_empty(),
        };
        if is_unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    if is_external(spec) {
        default_text(&mut spec.external_traffic_policy, "Cluster");
    }
    if text(&spec.type_) != EXTERNAL_NAME {
        default_text(&mut spec.internal_traffic_policy, "Cluster");
    }
    if text(&spec.type_) == LOAD_BALANCER {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
}
