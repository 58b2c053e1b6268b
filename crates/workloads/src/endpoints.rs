//! What is behind a Service: EndpointSlices, the older Endpoints, and slices of Endpoints that somebody wrote by hand.
//!
//! - [`slices`]: from a Service and its pods to endpoints.
//! - [`reconcile`]: from the slices that are there to those, with as few writes as it takes.
//! - [`subsets`]: the same as an Endpoints object.
//! - `hints`: for whom an endpoint is near, as the Service's `trafficDistribution` says it.
//! - [`mirrored`]: from an Endpoints object of a Service without a selector to endpoints.

mod hints;
pub mod mirrored;
pub mod reconcile;
pub mod slices;
pub mod subsets;

use std::collections::BTreeMap;
use std::net::IpAddr;

use berth_core::container::is_sidecar;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::{condition, is_finished, is_ready};

/// Whose endpoints a slice has.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who keeps a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// That of a Service with a selector.
pub const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// That of Endpoints of a Service without one.
pub const MIRRORING_CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
/// Who keeps an Endpoints object.
pub const ENDPOINTS_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// That of a Service with a selector.
pub const ENDPOINTS_CONTROLLER: &str = "endpoint-controller";
/// When what is written here changed for a pod or Service.
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// A Service without an address.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The selector, if there is one.
#[must_use]
pub fn selector_of(service: &Service) -> Option<&BTreeMap<String, String>> {
    let selector = service.spec.as_ref()?.selector.as_ref()?;
    (!selector.is_empty()).then_some(selector)
}

/// Whether its endpoints are the pods that it selects.
#[must_use]
pub fn has_pods(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let is_name = spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName");
    !is_name && selector_of(service).is_some()
}

/// Whether it selects what has these labels, in its namespace.
#[must_use]
pub fn selects(service: &Service, labels: Option<&BTreeMap<String, String>>) -> bool {
    has_pods(service)
        && selector_of(service).is_some_and(|selector| {
            let has = |(key, value)| labels.and_then(|l| l.get(key)) == Some(value);
            selector.iter().all(has)
        })
}

fn is_headless(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_none_or(|s| matches!(s.cluster_ip.as_deref(), None | Some("" | "None")))
}

fn publishes_not_ready(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|s| s.publish_not_ready_addresses) == Some(true)
}

/// The Service's labels and those of the controller's own.
fn labels_of(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn ips(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let listed = status.pod_ips.iter().flatten().map(|one| &one.ip);
    let mut all: Vec<IpAddr> = listed
        .chain(&status.pod_ip)
        .filter_map(|ip| ip.parse().ok())
        .collect();
    let mut seen = Vec::new();
    all.retain(|ip| {
        let is_new = !seen.contains(ip);
        seen.push(*ip);
        is_new
    });
    all
}

/// It has an address and has not ended.
fn has_place(pod: &Pod, also_terminating: bool) -> bool {
    let stays = also_terminating || pod.metadata.deletion_timestamp.is_none();
    stays && !is_finished(pod) && !ips(pod).is_empty()
}

/// The number that a Service's port has in a pod: by name it may be another one in each.
fn port_in(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => return Some(port.port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    let sidecars = init.filter(|container| is_sidecar(container));
    let protocol = |text: &Option<String>| text.clone().unwrap_or_else(|| "TCP".to_owned());
    let containers = spec.containers.iter().chain(sidecars);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let found = ports.find(|one| {
        one.name.as_ref() == Some(name) && protocol(&one.protocol) == protocol(&port.protocol)
    });
    found.map(|one| one.container_port)
}

/// A pod that is known by name in the Service's domain.
fn hostname_of(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let of_service = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    let hostname = spec.hostname.as_ref().filter(|name| !name.is_empty())?;
    of_service.then(|| hostname.clone())
}

fn reference(pod: &Pod) -> ObjectReference {
    let ObjectMeta {
        name,
        namespace,
        uid,
        ..
    } = pod.metadata.clone();
    ObjectReference {
        kind: Some("Pod".to_owned()),
        name,
        namespace,
        uid,
        ..ObjectReference::default()
    }
}

/// The newest of the times at which these pods became what they are, and the Service was made.
fn trigger_time(service: &Service, pods: &[&Pod]) -> Option<String> {
    let of_pods = pods
        .iter()
        .filter_map(|pod| condition(pod, "Ready")?.last_transition_time.as_ref());
    let times = of_pods.chain(&service.metadata.creation_timestamp);
    let newest = times.map(|Time(at)| *at).max()?;
    Some(newest.to_string())
}

/// Ready, or to be told of all the same.
fn counts_as_ready(service: &Service, pod: &Pod) -> bool {
    publishes_not_ready(service) || is_ready(pod)
}

#[cfg(test)]
mod tests;
