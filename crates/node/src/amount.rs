//! Resource amounts of pods and containers in the units of the kernel: millicores and bytes.

use std::collections::BTreeMap;

use berth_core::resources::{Amounts, Overhead, pod_limits, pod_requests};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

type List = BTreeMap<String, Quantity>;

fn parse(q: &Quantity) -> Option<berth_api::quantity::Quantity> {
    q.0.parse().ok()
}

/// An amount that cannot be read, or is negative: taken for nothing it would be no limit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field}: {value:?} is not a quantity of 0 or more")]
pub(crate) struct QuantityError {
    field: String,
    value: String,
}

/// The bytes (or pieces) of one quantity.
pub(crate) fn amount(field: &str, q: &Quantity) -> Result<i64, QuantityError> {
    let amount = parse(q).map(|parsed| parsed.value());
    amount.filter(|n| *n >= 0).ok_or_else(|| QuantityError {
        field: field.to_owned(),
        value: q.0.clone(),
    })
}

fn check(field: &str, list: Option<&List>) -> Result<(), QuantityError> {
    list.into_iter()
        .flatten()
        .try_for_each(|(name, q)| amount(&format!("{field}.{name}"), q).map(drop))
}

fn check_resources(field: &str, r: Option<&ResourceRequirements>) -> Result<(), QuantityError> {
    let Some(r) = r else { return Ok(()) };
    check(&format!("{field}.limits"), r.limits.as_ref())?;
    check(&format!("{field}.requests"), r.requests.as_ref())
}

/// Refuses a container whose requests or limits cannot be read.
pub(crate) fn check_container(c: &Container) -> Result<(), QuantityError> {
    let field = format!("spec.containers{{{}}}.resources", c.name);
    check_resources(&field, c.resources.as_ref())
}

/// Refuses a pod whose requests, limits, overhead or sizes of volumes cannot be read.
pub(crate) fn check_pod(spec: &PodSpec) -> Result<(), QuantityError> {
    check_resources("spec.resources", spec.resources.as_ref())?;
    check("spec.overhead", spec.overhead.as_ref())?;
    spec.init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .try_for_each(check_container)?;
    for volume in spec.volumes.iter().flatten() {
        let limit = volume
            .empty_dir
            .as_ref()
            .and_then(|e| e.size_limit.as_ref());
        if let Some(limit) = limit {
            let field = format!("spec.volumes{{{}}}.emptyDir.sizeLimit", volume.name);
            amount(&field, limit)?;
        }
    }
    Ok(())
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

/// The limit that a container's cgroup gets: its own, else of cpu and memory that of the pod as a whole, as under the stock
/// kubelet; 0 when there is none.
pub(crate) fn container_limit(pod: &Pod, c: &Container, name: &str) -> i64 {
    match limit(c.resources.as_ref(), name) {
        0 => limit(pod.spec.as_ref().and_then(|s| s.resources.as_ref()), name),
        own => own,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use berth_testkit::PodBuilder;

    #[test]
    fn a_limit_that_cannot_be_read_is_no_missing_limit() {
        let good = PodBuilder::new("p").build().spec.unwrap();
        assert_eq!(check_pod(&good), Ok(()));
        for value in ["", "1x", "-1", "1 Gi"] {
            let list: List = [("memory".to_owned(), Quantity(value.to_owned()))].into();
            let mut spec = good.clone();
            spec.containers[0].resources = Some(ResourceRequirements {
                limits: Some(list.clone()),
                ..ResourceRequirements::default()
            });
            let error = check_pod(&spec).unwrap_err();
            assert!(error.field.ends_with("resources.limits.memory"), "{error}");
            let mut spec = good.clone();
            spec.overhead = Some(list);
            let error = check_pod(&spec).unwrap_err();
            assert_eq!(error.field, "spec.overhead.memory");
        }
    }
}
