//! LimitRanger: defaults and bounds of containers' and pods' resources, per namespace.

use std::collections::BTreeMap;

use berth_api::quantity::Quantity as Amount;
use berth_api::status::ApiError;
use k8s_openapi::api::core::v1::{
    Container, LimitRange, LimitRangeItem, Pod, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{forbidden, pod::name};
use crate::rest::Call;

type Amounts = BTreeMap<String, Quantity>;

fn items(call: &Call) -> Vec<LimitRangeItem> {
    call.api
        .storage
        .read_all::<LimitRange>("core/limitranges", Some(call.namespace()))
        .into_iter()
        .filter_map(|range| range.spec)
        .flat_map(|spec| spec.limits)
        .collect()
}

/// Fills in requests and limits that containers leave out.
pub(super) fn default(call: &Call, pod: &mut Pod) {
    let items = items(call);
    let Some(spec) = &mut pod.spec else { return };
    for item in items.iter().filter(|i| i.type_ == "Container") {
        let inits = spec.init_containers.iter_mut().flatten();
        for container in spec.containers.iter_mut().chain(inits) {
            let resources = container.resources.get_or_insert_default();
            fill(&mut resources.limits, item.default.as_ref());
            fill(&mut resources.requests, item.default_request.as_ref());
        }
    }
}

fn fill(into: &mut Option<Amounts>, defaults: Option<&Amounts>) {
    for (resource, amount) in defaults.into_iter().flatten() {
        into.get_or_insert_default()
            .entry(resource.clone())
            .or_insert_with(|| amount.clone());
    }
}

/// Refuses what is out of bounds; all complaints at once.
pub(super) fn check(call: &Call, pod: &Pod) -> Result<(), ApiError> {
    let items = items(call);
    let Some(spec) = &pod.spec else { return Ok(()) };
    let mut complaints = Vec::new();
    for item in &items {
        match item.type_.as_str() {
            "Container" => {
                let inits = spec.init_containers.iter().flatten();
                for container in spec.containers.iter().chain(inits) {
                    bounds(item, "Container", &of(container), &mut complaints);
                }
            }
            "Pod" => {
                let mut total = ResourceRequirements::default();
                for container in &spec.containers {
                    let one = of(container);
                    add(&mut total.requests, one.requests.as_ref());
                    add(&mut total.limits, one.limits.as_ref());
                }
                add(&mut total.requests, spec.overhead.as_ref());
                if total.limits.is_some() {
                    add(&mut total.limits, spec.overhead.as_ref());
                }
                bounds(item, "Pod", &total, &mut complaints);
            }
            _ => {}
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    let message = match complaints.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(forbidden(call, name(pod), message))
}

fn of(container: &Container) -> ResourceRequirements {
    container.resources.clone().unwrap_or_default()
}

fn amount(quantity: Option<&Quantity>) -> Option<Amount> {
    quantity.and_then(|q| q.0.parse().ok())
}

fn add(into: &mut Option<Amounts>, more: Option<&Amounts>) {
    for (resource, quantity) in more.into_iter().flatten() {
        let Some(more) = amount(Some(quantity)) else {
            continue;
        };
        let map = into.get_or_insert_default();
        let sum = match amount(map.get(resource)) {
            Some(have) => have + &more,
            None => more,
        };
        map.insert(resource.clone(), Quantity(sum.to_string()));
    }
}

fn bounds(
    item: &LimitRangeItem,
    kind: &str,
    used: &ResourceRequirements,
    complaints: &mut Vec<String>,
) {
    let request = |r: &str| amount(used.requests.as_ref().and_then(|m| m.get(r)));
    let limit = |r: &str| amount(used.limits.as_ref().and_then(|m| m.get(r)));
    for (resource, bound) in item.min.iter().flatten() {
        let Some(min) = amount(Some(bound)) else {
            continue;
        };
        match request(resource) {
            None => complaints.push(format!(
                "minimum {resource} usage per {kind} is {bound}.  No request is specified",
                bound = bound.0
            )),
            Some(have) if have < min => complaints.push(format!(
                "minimum {resource} usage per {kind} is {}, but request is {have}",
                bound.0
            )),
            Some(_) => {}
        }
        if limit(resource).is_some_and(|have| have < min) {
            complaints.push(format!(
                "minimum {resource} usage per {kind} is {}, but limit is lower",
                bound.0
            ));
        }
    }
    for (resource, bound) in item.max.iter().flatten() {
        let Some(max) = amount(Some(bound)) else {
            continue;
        };
        match limit(resource) {
            None => complaints.push(format!(
                "maximum {resource} usage per {kind} is {}.  No limit is specified",
                bound.0
            )),
            Some(have) if have > max => complaints.push(format!(
                "maximum {resource} usage per {kind} is {}, but limit is {have}",
                bound.0
            )),
            Some(_) => {}
        }
        if request(resource).is_some_and(|have| have > max) {
            complaints.push(format!(
                "maximum {resource} usage per {kind} is {}, but request is higher",
                bound.0
            ));
        }
    }
}
