//! Resource amounts of pods and containers in the units of the kernel: millicores and bytes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
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

fn is_sidecar(c: &Container) -> bool {
    berth_core::lifecycle::is_sidecar(c)
}

/// The pod's request of a resource: the larger of what runs together and each init step, with
/// sidecars counted from their start on (KEP-753), pod-level resources winning, plus overhead.
pub(crate) fn pod_request(spec: &PodSpec, name: &str, overhead: bool) -> i64 {
    let extra = if overhead {
        units(spec.overhead.as_ref(), name)
    } else {
        0
    };
    let pod_level = request(spec.resources.as_ref(), name);
    if pod_level > 0 {
        return pod_level + extra;
    }
    let mut sidecars = 0;
    let mut peak = 0;
    for c in spec.init_containers.iter().flatten() {
        let r = request(c.resources.as_ref(), name);
        if is_sidecar(c) {
            sidecars += r;
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + r);
        }
    }
    let apps: i64 = spec
        .containers
        .iter()
        .map(|c| request(c.resources.as_ref(), name))
        .sum();
    peak.max(apps + sidecars) + extra
}

/// The pod's limit, `None` unless every container that runs for long has one.
pub(crate) fn pod_limit(spec: &PodSpec, name: &str, overhead: bool) -> Option<i64> {
    let extra = if overhead {
        units(spec.overhead.as_ref(), name)
    } else {
        0
    };
    let pod_level = limit(spec.resources.as_ref(), name);
    if pod_level > 0 {
        return Some(pod_level + extra);
    }
    let of = |c: &Container| Some(limit(c.resources.as_ref(), name)).filter(|n| *n > 0);
    let mut sidecars = 0;
    let mut peak = 0;
    for c in spec.init_containers.iter().flatten() {
        let n = of(c)?;
        if is_sidecar(c) {
            sidecars += n;
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + n);
        }
    }
    let mut apps = 0;
    for c in &spec.containers {
        apps += of(c)?;
    }
    Some(peak.max(apps + sidecars) + extra)
}
