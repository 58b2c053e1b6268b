//! Cluster IPs: one IPAddress each, out of the ranges of the ServiceCIDRs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use berth_api::field::{FieldError, FieldPath};
use berth_api::status::ApiError;
use berth_rules::kinds::service::families::IpFamily;
use berth_rules::kinds::service::range::ServiceRange;
use berth_store::Expect;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use rand::RngExt;
use serde_json::{Value, json};

use super::{KUBERNETES, invalid};
use crate::storage::{Beside, Storage};
use crate::strategy::Cluster;

/// Where IPAddresses are stored.
pub(crate) const ADDRESSES: &str = "networking.k8s.io/ipaddresses";
/// Where ServiceCIDRs are stored.
pub(crate) const CIDRS: &str = "networking.k8s.io/servicecidrs";
/// The label of an IPAddress that says who made it.
pub(crate) const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// Who makes them, here and on stock servers.
pub(crate) const MANAGER: &str = "ipallocator.k8s.io";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";

/// What of its addresses is written with a Service, whose open addresses are set.
pub(super) fn allocate(
    mut new: Option<&mut Service>,
    old: Option<&Service>,
    cluster: Cluster<'_>,
) -> Result<Vec<Beside>, ApiError> {
    let before: Vec<IpAddr> = old.map(cluster_ips).unwrap_or_default();
    let mut writes = Vec::new();
    if let Some(service) = &mut new {
        for (index, family) in wanted(service).into_iter().enumerate() {
            if index < before.len() {
                // It has that one, and keeps it.
                continue;
            }
            let address = match given(service, index) {
                Some(address) => {
                    check(service, address, cluster)
                        .map_err(|why| refusal(service, address, why))?;
                    address
                }
                None => any(family, cluster)?,
            };
            set(service, index, address);
            let name = address.to_string();
            let object = new_address(address, service);
            writes.push(Beside::put(ADDRESSES, "", &name, Expect::Absent, object)?);
        }
    }
    let after: BTreeSet<IpAddr> = new
        .as_deref()
        .map(cluster_ips)
        .into_iter()
        .flatten()
        .collect();
    if let Some(old) = old {
        for address in before.iter().filter(|address| !after.contains(address)) {
            writes.extend(release(old, *address, cluster.storage)?);
        }
    }
    Ok(writes)
}

/// The addresses of a Service that are the cluster's.
pub(crate) fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let listed = spec.cluster_ips.iter().flatten();
    let first = spec
        .cluster_ip
        .iter()
        .filter(|_| spec.cluster_ips.is_none());
    // `None` is no address.
    listed
        .chain(first)
        .filter_map(|text| text.parse().ok())
        .collect()
}

/// Of which families it is to have an address.
fn wanted(service: &Service) -> Vec<IpFamily> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let headless = spec.cluster_ip.as_deref() == Some("None");
    if headless || spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let families = spec.ip_families.iter().flatten();
    let of = |family: &String| match family.as_str() {
        "IPv6" => IpFamily::V6,
        _ => IpFamily::V4,
    };
    families.map(of).collect()
}

fn given(service: &Service, index: usize) -> Option<IpAddr> {
    let ips = service.spec.as_ref()?.cluster_ips.as_ref()?;
    ips.get(index)?.parse().ok()
}

fn set(service: &mut Service, index: usize, address: IpAddr) {
    let spec = service.spec.get_or_insert_default();
    let ips = spec.cluster_ips.get_or_insert_default();
    if ips.len() <= index {
        // Addresses are set in their order, so there is never more than one missing.
        ips.push(address.to_string());
    }
    if index == 0 {
        spec.cluster_ip = ips.first().cloned();
    }
}

/// Whether a Service may have this very address.
fn check(service: &Service, address: IpAddr, cluster: Cluster<'_>) -> Result<(), String> {
    let ranges = ranges(cluster.storage).map_err(|error| error.to_string())?;
    let mut covering = ranges
        .iter()
        .filter(|range| range.covers(address))
        .peekable();
    let Some(some) = covering.peek() else {
        return Err("the provided network does not match the current range".to_owned());
    };
    let cidr = some.cidr();
    if !covering.any(|range| range.contains(address)) {
        return Err(format!(
            "the provided IP ({address}) is not in the valid range. The range of valid IPs is {cidr}"
        ));
    }
    // Pods and certificates know the API server by it: nobody gets it in a moment in which its Service is not there.
    let metadata = &service.metadata;
    let names = (metadata.namespace.as_deref(), metadata.name.as_deref());
    let is_kubernetes = names == (Some(KUBERNETES.0), Some(KUBERNETES.1));
    let reserved = address == cluster.services.kubernetes_ip() && !is_kubernetes;
    if reserved || is_taken(cluster.storage, address) {
        return Err("provided IP is already allocated".to_owned());
    }
    Ok(())
}

fn refusal(service: &Service, address: IpAddr, why: String) -> ApiError {
    let spec = service.spec.as_ref();
    let ips = spec.and_then(|spec| spec.cluster_ips.as_ref());
    let at = FieldPath::new("spec.clusterIPs");
    let why = format!("failed to allocate IP {address}: {why}");
    invalid(service, vec![FieldError::invalid(&at, ips, why)])
}

/// Any free address of a family.
fn any(family: IpFamily, cluster: Cluster<'_>) -> Result<IpAddr, ApiError> {
    let random: u64 = rand::rng().random();
    let reserved = cluster.services.kubernetes_ip();
    ranges(cluster.storage)?
        .iter()
        .filter(|range| range.family() == family)
        .flat_map(|range| range.candidates(random))
        .find(|address| *address != reserved && !is_taken(cluster.storage, *address))
        .ok_or_else(|| {
            ApiError::Internal("failed to allocate a serviceIP: range is full".to_owned())
        })
}

fn is_taken(storage: &Storage, address: IpAddr) -> bool {
    storage.get(ADDRESSES, "", &address.to_string()).is_some()
}

/// The ranges of all ServiceCIDRs that are ready.
fn ranges(storage: &Storage) -> Result<Vec<ServiceRange>, ApiError> {
    let mut ranges: Vec<ServiceRange> = Vec::new();
    for object in storage.read_all::<ServiceCIDR>(CIDRS, None)? {
        if !is_ready(&object) {
            continue;
        }
        let spec = object.spec.as_ref();
        for cidr in spec
            .and_then(|spec| spec.cidrs.as_ref())
            .into_iter()
            .flatten()
        {
            match ServiceRange::parse(cidr) {
                Ok(range) if !ranges.contains(&range) => ranges.push(range),
                Ok(_) => {}
                // One that has no room, or too much.
                Err(error) => tracing::debug!(error, "a ServiceCIDR gives no addresses"),
            }
        }
    }
    Ok(ranges)
}

/// Whether addresses may be taken from a ServiceCIDR. One about which nobody has said anything yet is ready.
fn is_ready(object: &ServiceCIDR) -> bool {
    let status = object.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready");
    object.metadata.deletion_timestamp.is_none()
        && ready.is_none_or(|condition| condition.status == "True")
}

/// The IPAddress of a Service.
pub(crate) fn new_address(address: IpAddr, service: &Service) -> Value {
    let metadata = &service.metadata;
    let family = IpFamily::of(address).as_str();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(), "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": now.to_string(),
            "labels": {FAMILY: family, MANAGED_BY: MANAGER},
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": metadata.namespace, "name": metadata.name}},
    })
}

/// Namespace and name of the Service that an IPAddress belongs to.
pub(crate) fn parent_service(object: &IPAddress) -> Option<(&str, &str)> {
    let parent = &object.spec.parent_ref;
    let is_service =
        parent.resource == "services" && parent.group.as_deref().unwrap_or_default().is_empty();
    is_service.then(|| {
        (
            parent.namespace.as_deref().unwrap_or_default(),
            &*parent.name,
        )
    })
}

/// Gives an address back, if it is the Service's.
fn release(
    service: &Service,
    address: IpAddr,
    storage: &Storage,
) -> Result<Option<Beside>, ApiError> {
    let name = address.to_string();
    let Some(stored) = storage.get(ADDRESSES, "", &name) else {
        return Ok(None);
    };
    let metadata = &service.metadata;
    let own = (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    );
    // One that cannot be read belongs to nobody; the Service goes all the same.
    let Ok(object) = stored.decode::<IPAddress>() else {
        return Ok(None);
    };
    if parent_service(&object) != Some(own) {
        return Ok(None);
    }
    let expect = Expect::Revision(stored.revision);
    if object.metadata.finalizers.iter().flatten().next().is_none() {
        return Ok(Some(Beside::remove(ADDRESSES, "", &name, expect)));
    }
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    // Somebody keeps it; it ends when he is done.
    let mut value = stored.value()?;
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    value["metadata"]["deletionTimestamp"] = json!(now.to_string());
    value["metadata"]["deletionGracePeriodSeconds"] = json!(0);
    Beside::put(ADDRESSES, "", &name, expect, value).map(Some)
}
