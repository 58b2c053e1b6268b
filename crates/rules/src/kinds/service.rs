//! core/v1 Service. Addresses and node ports are checked here; which of them are free is for who allocates them.

mod addresses;
mod default;
pub mod families;
mod node_ports;
mod ports;
mod prepare;
pub mod range;
mod validate;

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service, ServiceSpec, ServiceStatus};

pub use self::node_ports::{AssignError, Holder, PortError, assign as assign_node_ports};
use super::ingress::load_balancer_point;
use crate::Rules;
use crate::values::text;
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

const CLUSTER_IP: &str = "ClusterIP";
const NODE_PORT: &str = "NodePort";
const LOAD_BALANCER: &str = "LoadBalancer";
const EXTERNAL_NAME: &str = "ExternalName";
/// The cluster IP of a service that has none.
const HEADLESS: &str = "None";

impl Rules for Service {
    fn default(&mut self) {
        default::set(self.spec.get_or_insert_default());
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(ServiceStatus {
            conditions: None,
            load_balancer: Some(LoadBalancerStatus::default()),
        });
        if let Some(spec) = &mut self.spec {
            prepare::normalize_addresses(spec, None);
        }
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.status.clone_from(&old.status);
        if let (Some(new), Some(old)) = (&mut self.spec, &old.spec) {
            prepare::update(new, old);
        }
    }

    fn prepare_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Namespaced, names::dns1035_label);
        errors.extend(validate::spec(spec_of(self)));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(validate::update(spec_of(self), spec_of(old)));
        errors.extend(validate::spec(spec_of(self)));
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let status = self.status.as_ref().and_then(|s| s.load_balancer.as_ref());
        let points = status
            .and_then(|s| s.ingress.as_deref())
            .unwrap_or_default();
        let at = FieldPath::new("status.loadBalancer.ingress");
        if !points.is_empty()
            && text(&spec_of(self).type_) != LOAD_BALANCER
            && self.status != old.status
        {
            let why = "may only be used when `spec.type` is 'LoadBalancer'";
            errors.push(FieldError::forbidden(&at, why));
        }
        for (i, point) in points.iter().enumerate() {
            load_balancer_point(
                &mut errors,
                text(&point.ip),
                text(&point.hostname),
                &at.index(i),
            );
        }
        bounded(errors)
    }
}

fn spec_of(service: &Service) -> &ServiceSpec {
    static NONE: std::sync::LazyLock<ServiceSpec> = std::sync::LazyLock::new(ServiceSpec::default);
    service.spec.as_ref().unwrap_or(&NONE)
}

/// Whether clients outside the cluster reach it: by a node's port, a load balancer or an address of its own.
fn is_external(spec: &ServiceSpec) -> bool {
    match text(&spec.type_) {
        NODE_PORT | LOAD_BALANCER => true,
        CLUSTER_IP => spec
            .external_ips
            .as_ref()
            .is_some_and(|ips| !ips.is_empty()),
        _ => false,
    }
}

/// Whether it has no address of its own though its type could.
fn is_headless(spec: &ServiceSpec) -> bool {
    let first = spec.cluster_ips.as_ref().and_then(|ips| ips.first());
    first
        .or(spec.cluster_ip.as_ref())
        .is_some_and(|ip| ip == HEADLESS)
}

/// Whether it has ports on every node.
fn has_node_ports(spec: &ServiceSpec) -> bool {
    match text(&spec.type_) {
        NODE_PORT => true,
        LOAD_BALANCER => spec.allocate_load_balancer_node_ports.unwrap_or(true),
        _ => false,
    }
}

/// Whether its load balancer asks each node whether it has a backend.
fn has_health_check_port(spec: &ServiceSpec) -> bool {
    text(&spec.type_) == LOAD_BALANCER && text(&spec.external_traffic_policy) == "Local"
}

#[cfg(test)]
mod tests;
