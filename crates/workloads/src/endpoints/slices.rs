//! The endpoints of a Service, as the stock endpointslice controller says it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::hints::Distribution;
use super::reconcile::{self, Changes, Group, Template};
use super::{
    MANAGED_BY, SERVICE_NAME, SLICE_CONTROLLER, has_place, hostname_of, ips, labels_of, port_in,
    publishes_not_ready, reference, trigger_time,
};
use crate::owner::controller_reference;
use crate::pod::is_ready;

/// Most endpoints in one slice (stock: `--max-endpoints-per-slice`).
pub const MAX_ENDPOINTS: usize = 100;

/// What has to be written for a Service with a selector. `pods` are those that it selects, `existing` its slices of this
/// controller, `zone_of` tells the zone of a node.
#[must_use]
pub fn changes(
    service: &Service,
    pods: &[&Pod],
    existing: &[&EndpointSlice],
    zone_of: impl Fn(&str) -> Option<String>,
) -> Changes {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let families = families(service, pods);
    let distribution = Distribution::of(service);
    for pod in pods.iter().filter(|pod| has_place(pod, true)) {
        let ports = ports(service, pod);
        for family in &families {
            let is_v4 = *family == "IPv4";
            let Some(ip) = ips(pod).into_iter().find(|ip| ip.is_ipv4() == is_v4) else {
                continue;
            };
            let group = Group::new(family, ports.clone());
            let group = groups.entry(group.key()).or_insert(group);
            let mut endpoint = endpoint(service, pod, ip.to_string(), &zone_of);
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready);
            if ready == Some(true) {
                let (zone, node) = (endpoint.zone.as_deref(), endpoint.node_name.as_deref());
                endpoint.hints = distribution.hints(zone, node);
            }
            group.endpoints.push(endpoint);
        }
    }
    let (namespace, name) = (&service.metadata.namespace, &service.metadata.name);
    let mut labels = labels_of(service);
    labels.insert(SERVICE_NAME.to_owned(), name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), SLICE_CONTROLLER.to_owned());
    let template = Template {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", name.as_deref().unwrap_or_default())),
            namespace: namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference::<Service>(&service.metadata)]),
            ..ObjectMeta::default()
        },
        annotations: BTreeMap::new(),
        trigger_time: trigger_time(service, pods),
        max_endpoints: MAX_ENDPOINTS,
        placeholders: families,
    };
    reconcile::changes(&template, groups.into_values().collect(), existing)
}

/// The IP families for which it has slices.
fn families(service: &Service, pods: &[&Pod]) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let named = spec
        .and_then(|s| s.ip_families.as_deref())
        .unwrap_or_default();
    let both = ["IPv4", "IPv6"];
    let mut all: Vec<&str> = both
        .into_iter()
        .filter(|family| named.iter().any(|n| n == family))
        .collect();
    if all.is_empty() {
        // Of an older server, or not yet defaulted: by what its pods have.
        let addresses: Vec<_> = pods.iter().flat_map(|pod| ips(pod)).collect();
        let has = |v4: bool| addresses.iter().any(|ip| ip.is_ipv4() == v4);
        all = both
            .into_iter()
            .filter(|family| has(*family == "IPv4"))
            .collect();
    }
    if all.is_empty() {
        all.push("IPv4");
    }
    all
}

/// The Service's ports as they are in a pod; what the pod doesn't name is left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let found = ports.iter().filter_map(|port| {
        Some(EndpointPort {
            app_protocol: port.app_protocol.clone(),
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port_in(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        })
    });
    found.collect()
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    ip: String,
    zone_of: &impl Fn(&str) -> Option<String>,
) -> Endpoint {
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let serving = is_ready(pod);
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    Endpoint {
        addresses: vec![ip],
        conditions: Some(EndpointConditions {
            ready: Some(publishes_not_ready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname_of(pod, service),
        zone: node.as_deref().and_then(zone_of),
        node_name: node,
        target_ref: Some(reference(pod)),
        ..Endpoint::default()
    }
}
