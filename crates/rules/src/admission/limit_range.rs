//! The LimitRanger plugin: defaults of containers, and the bounds of containers and of whole pods.
//!
//! Overhead counts in the sums of a pod, unless its gate is off.

use berth_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    Container, LimitRange, LimitRangeItem, PersistentVolumeClaim, Pod,
};

use super::Rejection;
use berth_core::gates::{FeatureGates, Gate};
use berth_core::resource_list::WireList;
use berth_core::resources::{self, Amounts, Overhead};

/// Says on the pod what was set.
pub const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn items<'r>(
    ranges: &'r [LimitRange],
    kind: &'static str,
) -> impl Iterator<Item = &'r LimitRangeItem> {
    ranges
        .iter()
        .flat_map(|r| r.spec.iter().flat_map(|s| s.limits.iter()))
        .filter(move |i| i.type_ == kind)
}

/// Gives containers the default requests and limits that they leave open. `ranges` are those of the pod's
/// namespace, in the order of their names.
pub fn admit(pod: &mut Pod, ranges: &[LimitRange]) {
    let Some(spec) = pod.spec.as_mut() else {
        return;
    };
    let mut notes = Vec::new();
    for item in items(ranges, "Container") {
        for (what, list) in [
            ("container", spec.containers.as_mut_slice()),
            (
                "init container",
                spec.init_containers.as_deref_mut().unwrap_or_default(),
            ),
        ] {
            for container in list {
                let name = container.name.clone();
                let resources = container.resources.get_or_insert_default();
                let limits = fill(&mut resources.limits, item.default.as_ref());
                let requests = fill(&mut resources.requests, item.default_request.as_ref());
                for (kind, set) in [("request", requests), ("limit", limits)] {
                    if !set.is_empty() {
                        notes.push(format!("{} {kind} for {what} {name}", set.join(", ")));
                    }
                }
            }
        }
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert(ANNOTATION.to_owned(), text);
    }
}

fn fill(list: &mut Option<WireList>, defaults: Option<&WireList>) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults.into_iter().flatten() {
        let list = list.get_or_insert_default();
        if !list.contains_key(name) {
            list.insert(name.clone(), amount.clone());
            set.push(name.clone());
        }
    }
    set
}

/// Checks containers and sums against minima, maxima and ratios.
///
/// # Errors
/// [`Rejection::Limits`] with everything that is out of bounds.
pub fn check(pod: &Pod, ranges: &[LimitRange], gates: &FeatureGates) -> Result<(), Rejection> {
    let Some(spec) = &pod.spec else {
        return Ok(());
    };
    for range in ranges {
        if let Some(what) = unreadable(range).or_else(|| resources::unreadable_in(spec)) {
            let name = range.metadata.name.as_deref().unwrap_or_default();
            return Err(Rejection::Unreadable {
                with: format!("limit range {name}"),
                what,
            });
        }
    }
    let mut wrong = Vec::new();
    for item in items(ranges, "Container") {
        for container in spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
        {
            let (requests, limits) = of_container(container);
            bounds(item, &requests, &limits, &mut wrong);
        }
    }
    let overhead = if gates.enabled(Gate::PodOverhead) {
        Overhead::Counted
    } else {
        Overhead::Ignored
    };
    for item in items(ranges, "Pod") {
        let requests = resources::pod_requests(spec, overhead);
        let limits = resources::pod_limits(spec, overhead);
        bounds(item, &requests, &limits, &mut wrong);
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Rejection::Limits(wrong))
    }
}

/// Checks the storage that a claim asks for against minima and maxima.
///
/// # Errors
/// [`Rejection::Limits`] with everything that is out of bounds.
pub fn check_claim(claim: &PersistentVolumeClaim, ranges: &[LimitRange]) -> Result<(), Rejection> {
    let spec = claim.spec.as_ref();
    let requests = spec
        .and_then(|s| s.resources.as_ref())
        .and_then(|r| r.requests.as_ref());
    for range in ranges {
        let in_claim = || {
            let (name, amount) = resources::unreadable(requests)?;
            Some(format!("requests: {name}={amount:?} is no quantity"))
        };
        if let Some(what) = unreadable(range).or_else(in_claim) {
            let name = range.metadata.name.as_deref().unwrap_or_default();
            return Err(Rejection::Unreadable {
                with: format!("limit range {name}"),
                what,
            });
        }
    }
    let requests = resources::amounts(requests);
    let mut wrong = Vec::new();
    for item in items(ranges, "PersistentVolumeClaim") {
        let kind = &item.type_;
        let out_of = |name: &str, is_out: &dyn Fn(&Quantity) -> bool| match requests.get(name) {
            None => Some(".  No request is specified".to_owned()),
            Some(request) if is_out(request) => Some(format!(", but request is {request}")),
            Some(_) => None,
        };
        for (name, min) in resources::amounts(item.min.as_ref()) {
            if let Some(why) = out_of(&name, &|request| *request < min) {
                wrong.push(format!("minimum {name} usage per {kind} is {min}{why}"));
            }
        }
        for (name, max) in resources::amounts(item.max.as_ref()) {
            if let Some(why) = out_of(&name, &|request| *request > max) {
                wrong.push(format!("maximum {name} usage per {kind} is {max}{why}"));
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Rejection::Limits(wrong))
    }
}

fn unreadable(range: &LimitRange) -> Option<String> {
    let items = range.spec.iter().flat_map(|s| s.limits.iter());
    items.into_iter().find_map(|item| {
        let lists = [
            ("min", &item.min),
            ("max", &item.max),
            ("maxLimitRequestRatio", &item.max_limit_request_ratio),
        ];
        lists.into_iter().find_map(|(field, list)| {
            let (name, amount) = resources::unreadable(list.as_ref())?;
            Some(format!(
                "{field} per {}: {name}={amount:?} is no quantity",
                item.type_
            ))
        })
    })
}

fn of_container(container: &Container) -> (Amounts, Amounts) {
    let resources = container.resources.as_ref();
    (
        resources::amounts(resources.and_then(|r| r.requests.as_ref())),
        resources::amounts(resources.and_then(|r| r.limits.as_ref())),
    )
}

fn bounds(item: &LimitRangeItem, requests: &Amounts, limits: &Amounts, wrong: &mut Vec<String>) {
    let kind = &item.type_;
    for (name, min) in resources::amounts(item.min.as_ref()) {
        let head = format!("minimum {name} usage per {kind} is {min}");
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => wrong.push(format!("{head}.  No request is specified")),
            (Some(request), _) if *request < min => {
                wrong.push(format!("{head}, but request is {request}"))
            }
            (_, Some(limit)) if *limit < min => wrong.push(format!("{head}, but limit is {limit}")),
            (Some(_), _) => {}
        }
    }
    for (name, max) in resources::amounts(item.max.as_ref()) {
        let head = format!("maximum {name} usage per {kind} is {max}");
        match (requests.get(&name), limits.get(&name)) {
            (_, None) => wrong.push(format!("{head}.  No limit is specified")),
            (_, Some(limit)) if *limit > max => wrong.push(format!("{head}, but limit is {limit}")),
            (Some(request), _) if *request > max => {
                wrong.push(format!("{head}, but request is {request}"))
            }
            (_, Some(_)) => {}
        }
    }
    for (name, ratio) in resources::amounts(item.max_limit_request_ratio.as_ref()) {
        let head = format!("{name} max limit to request ratio per {kind} is {ratio}");
        let positive = |list: &Amounts| list.get(&name).filter(|a| **a > Quantity::ZERO).cloned();
        match (positive(requests), positive(limits)) {
            (None, _) => wrong.push(format!(
                "{head}, but no request is specified or request is 0"
            )),
            (_, None) => wrong.push(format!("{head}, but no limit is specified or limit is 0")),
            // limit > ratio * request, without dividing.
            (Some(request), Some(limit)) if limit.mul(1000) > request.mul(ratio.milli_value()) => {
                wrong.push(format!(
                    "{head}, but provided limit {limit} is more than that times request {request}"
                ));
            }
            (Some(_), Some(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn ranges(items: Value) -> Vec<LimitRange> {
        vec![serde_json::from_value(json!({"spec": {"limits": items}})).unwrap()]
    }

    fn pod(resources: Value, overhead: Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "resources": resources}], "overhead": overhead}})).unwrap()
    }

    #[test]
    fn defaults() {
        let mut p = pod(json!({"requests": {"cpu": "1"}}), json!(null));
        admit(
            &mut p,
            &ranges(
                json!([{"type": "Container", "default": {"cpu": "2", "memory": "1Gi"}, "defaultRequest": {"cpu": "500m"}}]),
            ),
        );
        let resources = serde_json::to_value(&p.spec.unwrap().containers[0].resources).unwrap();
        assert_eq!(
            resources,
            json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1"}})
        );
        assert_eq!(
            p.metadata.annotations.unwrap()[ANNOTATION],
            "LimitRanger plugin set: cpu, memory limit for container c"
        );
    }

    #[test]
    fn bounds_of_containers_and_pods() {
        let both = |n: &str| json!({"requests": {"cpu": n}, "limits": {"cpu": n}});
        for (items, resources, overhead, gates, want) in [
            (
                json!([{"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}}]),
                both("1"),
                json!(null),
                "",
                vec![],
            ),
            (
                json!([{"type": "Container", "min": {"cpu": "1"}}]),
                json!({}),
                json!(null),
                "",
                vec!["minimum cpu usage per Container is 1.  No request is specified"],
            ),
            (
                json!([{"type": "Container", "max": {"cpu": "1"}}]),
                both("2"),
                json!(null),
                "",
                vec!["maximum cpu usage per Container is 1, but limit is 2"],
            ),
            (
                json!([{"type": "Pod", "max": {"cpu": "1"}}]),
                both("1"),
                json!({"cpu": "250m"}),
                "",
                vec!["maximum cpu usage per Pod is 1, but limit is 1250m"],
            ),
            (
                json!([{"type": "Pod", "max": {"cpu": "1"}}]),
                both("1"),
                json!({"cpu": "250m"}),
                "PodOverhead=false",
                vec![],
            ),
            (
                json!([{"type": "Pod", "min": {"cpu": "1200m"}}]),
                both("1"),
                json!({"cpu": "250m"}),
                "",
                vec![],
            ),
            (
                json!([{"type": "Container", "maxLimitRequestRatio": {"cpu": "1.5"}}]),
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}),
                json!(null),
                "",
                vec![],
            ),
            (
                json!([{"type": "Container", "maxLimitRequestRatio": {"cpu": "1.5"}}]),
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "3001m"}}),
                json!(null),
                "",
                vec![
                    "cpu max limit to request ratio per Container is 1500m, but provided limit 3001m is more than that times request 2",
                ],
            ),
        ] {
            let got = check(
                &pod(resources, overhead),
                &ranges(items.clone()),
                &gates.parse().unwrap(),
            );
            let want = if want.is_empty() {
                Ok(())
            } else {
                Err(Rejection::Limits(
                    want.into_iter().map(str::to_owned).collect(),
                ))
            };
            assert_eq!(got, want, "{items} {gates}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let good = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}});
        for (items, resources, want) in [
            (
                json!([{"type": "Container", "max": {"cpu": "two"}}]),
                good,
                "cannot be compared with limit range : max per Container: cpu=\"two\" is no quantity",
            ),
            (
                json!([{"type": "Container", "max": {"cpu": "2"}}]),
                json!({"limits": {"cpu": "1x"}}),
                "cannot be compared with limit range : limits of container \"c\": cpu=\"1x\" is no quantity",
            ),
        ] {
            let got = check(
                &pod(resources, json!(null)),
                &ranges(items),
                &FeatureGates::default(),
            );
            assert_eq!(got.unwrap_err().to_string(), want);
        }
    }
}
