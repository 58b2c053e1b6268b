//! What a pod asks of its node: requests and limits over all its containers, with overhead.
//!
//! As `k8s.io/component-helpers/resource`: containers add up, an init container only counts where it needs more
//! than they do at its time, a sidecar (an init container that is always restarted) counts from its start on,
//! what the pod asks for as a whole goes before its containers' sums, and overhead comes on top.

use std::collections::BTreeMap;

use berth_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, Pod, PodSpec, PodStatus, ResourceRequirements,
};

use crate::container::is_sidecar;
use crate::resource_list::{self, WireList};

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Whether overhead counts: the gate PodOverhead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overhead {
    /// It comes on top.
    Counted,
    /// It is left out.
    Ignored,
}

/// A list as objects hold it, as amounts. What can't be read (validation refuses it) counts nothing.
#[must_use]
pub fn amounts(list: Option<&WireList>) -> Amounts {
    list.into_iter()
        .flatten()
        .filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?)))
        .collect()
}

/// The first amount of a list that cannot be read. [`amounts`] leaves it out, so that whoever bounds sums has to ask.
#[must_use]
pub fn unreadable(list: Option<&WireList>) -> Option<(&str, &str)> {
    list.into_iter()
        .flatten()
        .find(|(_, amount)| amount.0.parse::<Quantity>().is_err())
        .map(|(name, amount)| (name.as_str(), amount.0.as_str()))
}

/// The first amount of a pod that cannot be read, and whose it is.
#[must_use]
pub fn unreadable_in(spec: &PodSpec) -> Option<String> {
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|c| (format!("container {:?}", c.name), c.resources.as_ref()));
    let of_pod = ("the pod".to_owned(), spec.resources.as_ref());
    let lists = containers
        .chain([of_pod])
        .flat_map(|(whose, resources)| {
            resources.into_iter().flat_map(move |r| {
                [
                    (format!("requests of {whose}"), r.requests.as_ref()),
                    (format!("limits of {whose}"), r.limits.as_ref()),
                ]
            })
        })
        .chain([("overhead of the pod".to_owned(), spec.overhead.as_ref())]);
    lists.into_iter().find_map(|(what, list)| {
        let (name, amount) = unreadable(list)?;
        Some(format!("{what}: {name}={amount:?} is no quantity"))
    })
}

/// Adds up.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let slot = sum.entry(name.clone()).or_default();
        *slot += amount;
    }
}

/// Keeps the larger of each.
pub fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        match most.get_mut(name) {
            Some(slot) if *slot >= *amount => {}
            Some(slot) => *slot = amount.clone(),
            None => {
                most.insert(name.clone(), amount.clone());
            }
        }
    }
}

/// The requests of the containers alone.
#[must_use]
pub fn containers_requests(spec: &PodSpec) -> Amounts {
    over_containers(spec, |container| {
        amounts(
            container
                .resources
                .as_ref()
                .and_then(|all| all.requests.as_ref()),
        )
    })
}

/// The limits of the containers alone.
#[must_use]
pub fn containers_limits(spec: &PodSpec) -> Amounts {
    over_containers(spec, |container| {
        amounts(
            container
                .resources
                .as_ref()
                .and_then(|all| all.limits.as_ref()),
        )
    })
}

/// The requests of a pod. A container's limit stands for a request that is missing (defaulting has
/// made that so already for objects from the server).
#[must_use]
pub fn pod_requests(spec: &PodSpec, overhead: Overhead) -> Amounts {
    let mut total = containers_requests(spec);
    let pod_level = spec
        .resources
        .as_ref()
        .and_then(|all| all.requests.as_ref());
    replace_by_pod_level(&mut total, pod_level);
    if overhead == Overhead::Counted {
        add(&mut total, &amounts(spec.overhead.as_ref()));
    }
    total
}

/// What a pod counts for while it may be resized (KEP-1287, KEP-5419): of each container's requests, and of those of the
/// pod as a whole, the largest of what its spec asks for, what its node has granted and what is in effect; without the
/// spec's when the node could never grant them (the condition `PodResizePending` with reason `Infeasible`).
#[must_use]
pub fn requests_of(pod: &Pod, overhead: Overhead) -> Amounts {
    let Some(spec) = &pod.spec else {
        return Amounts::new();
    };
    match resized(spec, pod.status.as_ref()) {
        Some(spec) => pod_requests(&spec, overhead),
        None => pod_requests(spec, overhead),
    }
}

/// The spec with the requests that count; none where those are the spec's own.
fn resized(spec: &PodSpec, status: Option<&PodStatus>) -> Option<PodSpec> {
    let status = status?;
    let statuses = |list: &'_ Option<Vec<ContainerStatus>>| list.clone().unwrap_or_default();
    let differs = |c: &Container, s: &ContainerStatus| {
        let own = requests(c.resources.as_ref());
        [requests_in_effect(s), s.allocated_resources.as_ref()]
            .into_iter()
            .flatten()
            .any(|list| own.is_none_or(|own| !resource_list::equal(own, list)))
    };
    let of = |list: &'_ [Container], statuses: &Option<Vec<ContainerStatus>>| {
        list.iter().any(|c| {
            let mut all = statuses.iter().flatten();
            all.find(|s| s.name == c.name)
                .is_some_and(|s| differs(c, s))
        })
    };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    // Only what the spec names counts for a pod as a whole.
    let of_pod = requests(spec.resources.as_ref());
    let known = [
        requests(status.resources.as_ref()),
        status.allocated_resources.as_ref(),
    ];
    let pod_differs = of_pod.is_some_and(|own| {
        let mut known = known.into_iter().flatten();
        known.any(|list| !resource_list::equal(own, list))
    });
    if !of(&spec.containers, &status.container_statuses)
        && !of(init, &status.init_container_statuses)
        && !pod_differs
    {
        return None;
    }
    let infeasible = status.conditions.iter().flatten().any(|c| {
        c.type_ == "PodResizePending"
            && c.status == "True"
            && c.reason.as_deref() == Some("Infeasible")
    });
    let largest = |own: Option<&WireList>,
                   in_effect: Option<&WireList>,
                   granted: Option<&WireList>|
     -> WireList {
        let mut most = amounts(in_effect);
        raise(&mut most, &amounts(granted));
        if !infeasible || most.is_empty() {
            raise(&mut most, &amounts(own));
        }
        let most = most.into_iter();
        most.map(|(name, amount)| (name, amount.into())).collect()
    };
    let own = of_pod.cloned();
    let mut spec = spec.clone();
    let raise_all = |list: &mut [Container], statuses: &[ContainerStatus]| {
        for c in list {
            let Some(s) = statuses.iter().find(|s| s.name == c.name) else {
                continue;
            };
            let most = largest(
                requests(c.resources.as_ref()),
                requests_in_effect(s),
                s.allocated_resources.as_ref(),
            );
            c.resources.get_or_insert_default().requests = Some(most);
        }
    };
    if let (Some(own), Some(resources)) = (own, &mut spec.resources) {
        let mut most = largest(Some(&own), known[0], known[1]);
        most.retain(|name, _| own.contains_key(name));
        resources.requests = Some(most);
    }
    raise_all(&mut spec.containers, &statuses(&status.container_statuses));
    if let Some(init) = &mut spec.init_containers {
        raise_all(init, &statuses(&status.init_container_statuses));
    }
    Some(spec)
}

fn requests(resources: Option<&ResourceRequirements>) -> Option<&WireList> {
    resources.and_then(|all| all.requests.as_ref())
}

fn requests_in_effect(status: &ContainerStatus) -> Option<&WireList> {
    requests(status.resources.as_ref())
}

/// The limits of a pod. Overhead is only added to resources that have a limit.
#[must_use]
pub fn pod_limits(spec: &PodSpec, overhead: Overhead) -> Amounts {
    let mut total = containers_limits(spec);
    let pod_level = spec.resources.as_ref().and_then(|all| all.limits.as_ref());
    replace_by_pod_level(&mut total, pod_level);
    if overhead == Overhead::Counted {
        for (name, amount) in amounts(spec.overhead.as_ref()) {
            if let Some(slot) = total.get_mut(&name).filter(|slot| !slot.is_zero()) {
                *slot += &amount;
            }
        }
    }
    total
}

/// Of a pod as a whole only cpu, memory and huge pages can be asked for.
fn replace_by_pod_level(total: &mut Amounts, pod_level: Option<&WireList>) {
    let counts = |name: &String| {
        matches!(name.as_str(), "cpu" | "memory") || resource_list::is_huge_page(name)
    };
    total.extend(
        amounts(pod_level)
            .into_iter()
            .filter(|(name, _)| counts(name)),
    );
}

/// Sums over containers as the kubelet runs them.
fn over_containers(spec: &PodSpec, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &of(container));
    }
    let mut sidecars = Amounts::new();
    let mut starting = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut wanted = of(container);
        if is_sidecar(container) {
            add(&mut total, &wanted);
            add(&mut sidecars, &wanted);
            wanted = sidecars.clone();
        } else {
            add(&mut wanted, &sidecars);
        }
        raise(&mut starting, &wanted);
    }
    raise(&mut total, &starting);
    total
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodCondition;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

    use super::*;

    fn list(pairs: &[(&str, &str)]) -> WireList {
        pairs
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), WireQuantity((*amount).to_owned())))
            .collect()
    }

    fn container(cpu: &str, restart: Option<&str>) -> Container {
        Container {
            resources: Some(ResourceRequirements {
                requests: Some(list(&[("cpu", cpu)])),
                limits: Some(list(&[("cpu", cpu)])),
                ..ResourceRequirements::default()
            }),
            restart_policy: restart.map(str::to_owned),
            ..Container::default()
        }
    }

    fn cpu(found: &Amounts) -> String {
        found["cpu"].to_string()
    }

    #[test]
    fn a_pod_counts_for_the_most_that_it_asks_for_was_granted_or_has() {
        let pod = |spec: &str, granted: &str, has: &str, reason: &str| {
            let status = ContainerStatus {
                allocated_resources: Some(list(&[("cpu", granted)])),
                resources: container(has, None).resources,
                ..ContainerStatus::default()
            };
            let pending = PodCondition {
                type_: "PodResizePending".to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                ..PodCondition::default()
            };
            let pod = Pod {
                spec: Some(PodSpec {
                    containers: vec![container(spec, None)],
                    ..PodSpec::default()
                }),
                status: Some(PodStatus {
                    container_statuses: Some(vec![status]),
                    conditions: Some(vec![pending]),
                    ..PodStatus::default()
                }),
                ..Pod::default()
            };
            cpu(&requests_of(&pod, Overhead::Counted))
        };
        assert_eq!(pod("1", "1", "1", ""), "1");
        assert_eq!(pod("1000m", "1", "1", "Deferred"), "1");
        assert_eq!(pod("2", "1", "1", "Deferred"), "2");
        assert_eq!(pod("2", "1", "1", "Infeasible"), "1");
        assert_eq!(pod("1", "2", "1", ""), "2");
        assert_eq!(pod("1", "1", "3", ""), "3");
        let whole = |spec: &str, granted: &str, has: &str, reason: &str| {
            let resources = container("1", None).resources;
            let of_pod = |cpu: &str| {
                Some(ResourceRequirements {
                    requests: Some(list(&[("cpu", cpu)])),
                    ..ResourceRequirements::default()
                })
            };
            let pending = PodCondition {
                type_: "PodResizePending".to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                ..PodCondition::default()
            };
            let pod = Pod {
                spec: Some(PodSpec {
                    containers: vec![Container {
                        resources,
                        ..Container::default()
                    }],
                    resources: of_pod(spec),
                    ..PodSpec::default()
                }),
                status: Some(PodStatus {
                    allocated_resources: Some(list(&[("cpu", granted), ("memory", "1Gi")])),
                    resources: of_pod(has),
                    conditions: Some(vec![pending]),
                    ..PodStatus::default()
                }),
                ..Pod::default()
            };
            let all = requests_of(&pod, Overhead::Counted);
            assert!(!all.contains_key("memory"), "{all:?}");
            cpu(&all)
        };
        assert_eq!(whole("4", "2", "2", "Deferred"), "4");
        assert_eq!(whole("4", "2", "2", "Infeasible"), "2");
        assert_eq!(whole("2", "3", "2", ""), "3");
        assert_eq!(whole("2", "2", "3", ""), "3");
        let new = Pod {
            spec: Some(PodSpec {
                containers: vec![container("2", None)],
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        assert_eq!(cpu(&requests_of(&new, Overhead::Counted)), "2");
    }

    #[test]
    fn containers_add_up_and_overhead_comes_on_top() {
        let spec = PodSpec {
            containers: vec![container("100m", None), container("1", None)],
            overhead: Some(list(&[("cpu", "50m"), ("memory", "64Mi")])),
            ..PodSpec::default()
        };
        assert_eq!(cpu(&pod_requests(&spec, Overhead::Counted)), "1150m");
        assert_eq!(cpu(&pod_requests(&spec, Overhead::Ignored)), "1100m");
        let limits = pod_limits(&spec, Overhead::Counted);
        assert_eq!(cpu(&limits), "1150m");
        assert!(
            !limits.contains_key("memory"),
            "no limit, so no overhead on it"
        );
    }

    #[test]
    fn an_init_container_counts_where_it_needs_more() {
        let mut spec = PodSpec {
            containers: vec![container("1", None)],
            init_containers: Some(vec![container("500m", None), container("3", None)]),
            ..PodSpec::default()
        };
        assert_eq!(cpu(&pod_requests(&spec, Overhead::Counted)), "3");
        spec.init_containers = Some(vec![container("500m", None)]);
        assert_eq!(cpu(&pod_requests(&spec, Overhead::Counted)), "1");
    }

    #[test]
    fn a_sidecar_counts_with_what_starts_after_it() {
        let spec = PodSpec {
            containers: vec![container("1", None)],
            init_containers: Some(vec![
                container("4", None),
                container("2", Some("Always")),
                container("3", None),
            ]),
            ..PodSpec::default()
        };
        // Before the sidecar: 4. After it: 3 + 2. While running: 1 + 2.
        assert_eq!(cpu(&pod_requests(&spec, Overhead::Counted)), "5");
    }

    #[test]
    fn what_the_pod_asks_as_a_whole_goes_first() {
        let spec = PodSpec {
            containers: vec![container("1", None)],
            resources: Some(ResourceRequirements {
                requests: Some(list(&[("cpu", "7")])),
                ..ResourceRequirements::default()
            }),
            ..PodSpec::default()
        };
        assert_eq!(cpu(&pod_requests(&spec, Overhead::Counted)), "7");
    }
}
