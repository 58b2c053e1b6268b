//! Endpoints that somebody wrote for a Service without a selector, as slices: what the stock endpointslicemirroring
//! controller makes of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::reconcile::{self, Changes, Group, Template};
use super::{MANAGED_BY, MIRRORING_CONTROLLER, SERVICE_NAME, TRIGGER_TIME, selector_of};
use crate::owner::controller_reference;

/// Most addresses of a subset that are taken over, and most endpoints of a slice.
const MAX_ADDRESSES: usize = 1000;
/// Whose slices are somebody else's business.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// As many sets of ports are taken over: each is a slice of its own, and a single object can name tens of thousands.
const MAX_GROUPS: usize = 100;
/// Endpoints in which somebody only keeps a lock.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// What kubectl writes for itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Whether these Endpoints are taken over: somebody wrote them for a Service that has no selector.
#[must_use]
pub fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    let annotations = endpoints.metadata.annotations.as_ref();
    let skips = labels.is_some_and(|l| l.get(SKIP).is_some_and(|v| v == "true"));
    let locks = annotations.is_some_and(|a| a.contains_key(LEADER));
    !skips && !locks && service.is_some_and(|s| selector_of(s).is_none())
}

/// What has to be written for Endpoints that are taken over. `existing` are their slices of this controller.
#[must_use]
pub fn changes(endpoints: &Endpoints, existing: &[&EndpointSlice]) -> Changes {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        for (is_v4, family) in [(true, "IPv4"), (false, "IPv6")] {
            let group = Group::new(family, ports(subset));
            let group = groups.entry(group.key()).or_insert(group);
            group.endpoints.extend(of_subset(subset, is_v4));
        }
    }
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MIRRORING_CONTROLLER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    let trigger_time = annotations.remove(TRIGGER_TIME);
    let template = Template {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference::<Endpoints>(&endpoints.metadata)]),
            ..ObjectMeta::default()
        },
        annotations,
        trigger_time,
        max_endpoints: MAX_ADDRESSES,
        placeholders: Vec::new(),
    };
    let groups = groups.into_values().take(MAX_GROUPS).collect();
    reconcile::changes(&template, groups, existing)
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let ports = subset.ports.iter().flatten();
    let same = ports.map(|port| EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
    });
    same.collect()
}

fn of_subset(subset: &EndpointSubset, is_v4: bool) -> Vec<Endpoint> {
    let ready = subset.addresses.iter().flatten().map(|a| (a, true));
    let not_ready = subset.not_ready_addresses.iter().flatten();
    let all = ready.chain(not_ready.map(|a| (a, false)));
    let same = all.filter(|(address, _)| {
        let ip = address.ip.parse::<IpAddr>();
        ip.is_ok_and(|ip| ip.is_ipv4() == is_v4)
    });
    same.take(MAX_ADDRESSES)
        .map(|(address, ready)| endpoint(address, ready))
        .collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}
