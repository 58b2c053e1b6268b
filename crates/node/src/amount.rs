//! Resource amounts of pods and containers in the units of the kernel: millicores and bytes.

use std::collections::BTreeMap;

use berth_core::resources::{Amounts, Overhead, pod_limits, pod_requests};
use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

type List = BTreeMap<String, Quantity>;

fn parse(q: &Quantity) -> Option<berth_api::quantity::Quantity> {
    q.0.parse().ok()
}

/// Millicores for cpu, whole units for all else; 0 when absent.
pub(crate) fn units(list: Option<&List>, name: &str) -> i64 {
    let Some(q) = list.and_then(|l| l.get(name)).and_then(parse) else {
        return 0;
    };
    if name == "cpu" {
        q.milli_value()
    } else {
        q.value()
    }
}

/// Bytes of one quantity; 0 when it cannot be parsed.
pub(crate) fn bytes(q: &Quantity) -> i64 {
    parse(q).map_or(0, |q| q.value())
}

/// What a container asks for: its request, else its limit.
pub(crate) fn request(r: Option<&ResourceRequirements>, name: &str) -> i64 {
    let Some(r) = r else { return 0 };
    match units(r.requests.as_ref(), name) {
        0 => units(r.limits.as_ref(), name),
        n => n,
    }
}

/// A container's limit; 0 when it has none.
pub(crate) fn limit(r: Option<&ResourceRequirements>, name: &str) -> i64 {
    units(r.and_then(|r| r.limits.as_ref()), name)
}

fn counted(overhead: bool) -> Overhead {
    if overhead {
        Overhead::Counted
    } else {
        Overhead::Ignored
    }
}

fn of(amounts: &Amounts, name: &str) -> i64 {
    amounts.get(name).map_or(0, |q| {
        if name == "cpu" {
            q.milli_value()
        } else {
            q.value()
        }
    })
}

/// The pod's request of a resource, with overhead where it counts.
pub(crate) fn pod_request(spec: &PodSpec, name: &str, overhead: bool) -> i64 {
    of(&pod_requests(spec, counted(overhead)), name)
}

/// The pod's limit, `None` unless the pod itself or every one of its containers has one.
pub(crate) fn pod_limit(spec: &PodSpec, name: &str, overhead: bool) -> Option<i64> {
    let own = limit(spec.resources.as_ref(), name) > 0;
    let all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .all(|c| limit(c.resources.as_ref(), name) > 0);
    (own || all).then(|| of(&pod_limits(spec, counted(overhead)), name))
}
