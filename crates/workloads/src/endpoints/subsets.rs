//! The endpoints of a Service as an Endpoints object, as the stock endpoint controller says it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    ENDPOINTS_CONTROLLER, ENDPOINTS_MANAGED_BY, TRIGGER_TIME, counts_as_ready, has_place,
    hostname_of, ips, is_headless, labels_of, port_in, publishes_not_ready, reference,
    trigger_time,
};

/// Most addresses that an Endpoints object has.
pub const MAX_ADDRESSES: usize = 1000;
/// Says that there are more.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const TRUNCATED: &str = "truncated";

/// The Endpoints object that has to be written for a Service with a selector; nothing when the one that is there is right.
#[must_use]
pub fn change(service: &Service, pods: &[&Pod], existing: Option<&Endpoints>) -> Option<Endpoints> {
    let (subsets, truncated) = subsets(service, pods);
    let mut labels = labels_of(service);
    labels.insert(
        ENDPOINTS_MANAGED_BY.to_owned(),
        ENDPOINTS_CONTROLLER.to_owned(),
    );
    let metadata = existing.map(|endpoints| endpoints.metadata.clone());
    let mut metadata = metadata.unwrap_or_else(|| ObjectMeta {
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        ..ObjectMeta::default()
    });
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    let was_truncated = annotations
        .get(OVER_CAPACITY)
        .is_some_and(|a| a == TRUNCATED);
    if let Some(existing) = existing {
        let there = existing.subsets.as_deref().unwrap_or_default();
        let same = there == subsets && metadata.labels.as_ref() == Some(&labels);
        if same && truncated == was_truncated {
            return None;
        }
    }
    annotations.remove(OVER_CAPACITY);
    annotations.remove(TRIGGER_TIME);
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), TRUNCATED.to_owned());
    }
    if let Some(time) = trigger_time(service, pods) {
        annotations.insert(TRIGGER_TIME.to_owned(), time);
    }
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    metadata.labels = Some(labels);
    Some(Endpoints {
        metadata,
        subsets: (!subsets.is_empty()).then_some(subsets),
    })
}

/// Addresses with the same ports together, and whether some were left out.
fn subsets(service: &Service, pods: &[&Pod]) -> (Vec<EndpointSubset>, bool) {
    let is_v4 = is_v4(service);
    let mut found: Vec<(bool, Vec<EndpointPort>, EndpointAddress)> = Vec::new();
    for pod in pods {
        if !has_place(pod, publishes_not_ready(service)) {
            continue;
        }
        let address = ips(pod)
            .into_iter()
            .find(|ip| is_v4.is_none_or(|v4| ip.is_ipv4() == v4));
        let (Some(ip), Some(ports)) = (address, ports(service, pod)) else {
            continue;
        };
        found.push((
            counts_as_ready(service, pod),
            ports,
            address_of(service, pod, ip),
        ));
    }
    // Where not all have room those that are ready do.
    found.sort_by(|(a_ready, _, a), (b_ready, _, b)| {
        (!a_ready, order(a)).cmp(&(!b_ready, order(b)))
    });
    let truncated = found.len() > MAX_ADDRESSES;
    found.truncate(MAX_ADDRESSES);
    let mut by_ports: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    for (ready, ports, address) in found {
        let key = serde_json::to_string(&ports).unwrap_or_default();
        let subset = by_ports.entry(key).or_insert_with(|| EndpointSubset {
            ports: (!ports.is_empty()).then_some(ports),
            ..EndpointSubset::default()
        });
        let list = match ready {
            true => &mut subset.addresses,
            false => &mut subset.not_ready_addresses,
        };
        list.get_or_insert_default().push(address);
    }
    (by_ports.into_values().collect(), truncated)
}

fn order(address: &EndpointAddress) -> (Option<IpAddr>, Option<&String>) {
    let uid = address.target_ref.as_ref().and_then(|r| r.uid.as_ref());
    (address.ip.parse().ok(), uid)
}

/// The family of its addresses; nothing when it doesn't matter.
fn is_v4(service: &Service) -> Option<bool> {
    let spec = service.spec.as_ref()?;
    let first = spec.ip_families.as_ref().and_then(|f| f.first());
    if let Some(family) = first {
        return Some(family != "IPv6");
    }
    let ip: IpAddr = spec.cluster_ip.as_ref()?.parse().ok()?;
    Some(ip.is_ipv4())
}

/// Nothing for a pod that has none of the Service's ports.
fn ports(service: &Service, pod: &Pod) -> Option<Vec<EndpointPort>> {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|s| s.ports.as_deref()).unwrap_or_default();
    if ports.is_empty() {
        return is_headless(service).then(Vec::new);
    }
    let found = ports.iter().filter_map(|port| {
        Some(EndpointPort {
            app_protocol: port.app_protocol.clone(),
            name: port.name.clone().filter(|name| !name.is_empty()),
            port: port_in(pod, port)?,
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        })
    });
    let found: Vec<EndpointPort> = found.collect();
    (!found.is_empty()).then_some(found)
}

fn address_of(service: &Service, pod: &Pod, ip: IpAddr) -> EndpointAddress {
    EndpointAddress {
        hostname: hostname_of(pod, service),
        ip: ip.to_string(),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(reference(pod)),
    }
}
