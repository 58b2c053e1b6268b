//! A pod of a class, against the nodes.

use std::collections::BTreeSet;

use berth_core::advice::{Advice, pod as wishes};
use berth_core::handlers::{self, NodeFeatures};
use berth_core::isolation::Isolation;
use berth_core::resources::{Amounts, Overhead, amounts, requests_of};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;

use super::labels::selector_hint;
use super::{Counted, Host, NODE_LIMIT};
use crate::placement;

/// What will keep a pod of a class from running, or makes it run otherwise than it says. `pod` is as admitted, with the
/// overhead, selector and tolerations of its class. Without nodes nothing is known.
#[must_use]
pub fn of_pod<'h>(
    pod: &Pod,
    class: &RuntimeClass,
    hosts: impl IntoIterator<Item = &'h Host>,
) -> Vec<Advice> {
    let handler = class.handler.as_str();
    let needs = Needs::of(pod);
    let (mut all, mut able) = (Vec::new(), Vec::new());
    let mut reasons = Counted::default();
    let mut isolation = None;
    for host in hosts {
        all.push(host);
        if all.len() > NODE_LIMIT {
            return inside(pod, handler, isolation);
        }
        let lacks = host.lacks(handler);
        if lacks.is_none() && isolation.is_none() {
            isolation = handlers::isolation(host.info.node(), handler);
        }
        let misplaced = placement(pod, &host.info).filter(|_| !host.is_bare);
        if lacks.is_some() || misplaced.is_some() {
            for reason in lacks.iter().chain(&misplaced) {
                reasons.add(reason);
            }
            continue;
        }
        if needs.are_met(host, handler) {
            return inside(pod, handler, isolation);
        }
        able.push(host);
    }
    let mut advice = Vec::new();
    if able.is_empty() {
        let selector = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_selector.as_ref());
        let is_bare = all.iter().any(|host| host.is_bare);
        advice.push(Advice::PodUnplaceable {
            class: class.metadata.name.clone().unwrap_or_default(),
            handler: handler.to_owned(),
            nodes: all.len(),
            reasons: reasons.to_string(),
            hint: if is_bare || all.is_empty() {
                String::new()
            } else {
                selector_hint(selector, &all, "nodeSelector")
            },
        });
    } else {
        advice.extend(needs.unmet(&able, handler));
    }
    advice.extend(inside(pod, handler, isolation));
    advice
}

/// The same of a pod that brings its node: nobody places it, and taints that only keep new pods away don't count.
#[must_use]
pub fn of_pod_on(pod: &Pod, class: &RuntimeClass, host: &Host) -> Vec<Advice> {
    let handler = class.handler.as_str();
    let isolation = handlers::isolation(host.info.node(), handler);
    let Some(reason) = host.lacks(handler) else {
        let mut advice = Needs::of(pod).unmet(&[host], handler);
        advice.extend(inside(pod, handler, isolation));
        return advice;
    };
    let mut reasons = Counted::default();
    reasons.add(&reason);
    vec![Advice::PodUnplaceable {
        class: class.metadata.name.clone().unwrap_or_default(),
        handler: handler.to_owned(),
        nodes: 1,
        reasons: reasons.to_string(),
        hint: String::new(),
    }]
}

fn inside(pod: &Pod, handler: &str, isolation: Option<Isolation>) -> Vec<Advice> {
    isolation.map_or_else(Vec::new, |isolation| {
        wishes::inside(pod, handler, isolation)
    })
}

/// What a pod needs of a node besides the handler.
struct Needs<'p> {
    requests: Amounts,
    overhead: Amounts,
    users: bool,
    read_only: Vec<String>,
    app_armor: Vec<String>,
    seccomp: Vec<(String, &'p str)>,
}

/// At most this many pieces of advice of one kind are given for a pod.
const LIMIT: usize = 4;

impl<'p> Needs<'p> {
    fn of(pod: &'p Pod) -> Self {
        let spec = pod.spec.as_ref();
        let fields = |spec| wishes::recursive_read_only(spec).take(LIMIT).collect();
        Self {
            requests: requests_of(pod, Overhead::Counted),
            overhead: amounts(spec.and_then(|spec| spec.overhead.as_ref())),
            users: spec.is_some_and(|spec| spec.host_users == Some(false)),
            read_only: spec.map_or_else(Vec::new, fields),
            app_armor: spec
                .into_iter()
                .flat_map(|spec| wishes::app_armor(spec).map(|(field, _)| field))
                .take(LIMIT)
                .collect(),
            seccomp: spec
                .into_iter()
                .flat_map(wishes::seccomp)
                .take(LIMIT)
                .collect(),
        }
    }

    fn are_met(&self, host: &Host, handler: &str) -> bool {
        lacking(&self.requests, host).next().is_none()
            && (!self.users || has(host, handler, Feature::Users))
            && (self.read_only.is_empty() || has(host, handler, Feature::ReadOnly))
            && (self.app_armor.is_empty() || may_confine(host, handler))
            && self.seccomp.iter().all(|(_, name)| has_seccomp(host, name))
    }

    /// What no node has of it.
    fn unmet(&self, able: &[&Host], handler: &str) -> Vec<Advice> {
        let mut advice = too_large(&self.requests, &self.overhead, able, false);
        let no_feature = |field: &str, feature: &str| Advice::NoFeature {
            field: field.to_owned(),
            feature: feature.to_owned(),
            handler: handler.to_owned(),
        };
        let none = |wanted: Feature| !able.iter().any(|host| has(host, handler, wanted));
        if self.users && none(Feature::Users) {
            advice.push(no_feature("spec.hostUsers: false", "user namespaces"));
        }
        if !self.read_only.is_empty() && none(Feature::ReadOnly) {
            let fields = self.read_only.iter();
            advice.extend(fields.map(|field| no_feature(field, "recursive read-only mounts")));
        }
        if !able.iter().any(|host| may_confine(host, handler)) {
            advice.extend(self.app_armor.iter().map(|field| Advice::NoProfile {
                field: field.clone(),
                what: "AppArmor is enabled".to_owned(),
            }));
        }
        for (field, name) in &self.seccomp {
            if !able.iter().any(|host| has_seccomp(host, name)) {
                advice.push(Advice::NoProfile {
                    field: field.clone(),
                    what: format!("seccomp profile {name:?} is"),
                });
            }
        }
        advice
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feature {
    Users,
    ReadOnly,
}

/// Whether a handler of a node has a feature; a node that doesn't say has all.
fn has(host: &Host, handler: &str, feature: Feature) -> bool {
    let status = host.info.node().status.as_ref();
    let listed = status.and_then(|status| status.runtime_handlers.as_deref());
    let found = listed
        .unwrap_or_default()
        .iter()
        .find(|found| found.name.as_deref().unwrap_or_default() == handler);
    let Some(features) = found.and_then(|found| found.features.as_ref()) else {
        return true;
    };
    let told = match feature {
        Feature::Users => features.user_namespaces,
        Feature::ReadOnly => features.recursive_read_only_mounts,
    };
    told != Some(false)
}

/// Whether an AppArmor profile can be given; inside a kernel of its own it means nothing, which is another advice.
fn may_confine(host: &Host, handler: &str) -> bool {
    let node = host.info.node();
    let own_kernel = handlers::isolation(node, handler).is_some_and(|i| i != Isolation::Process);
    own_kernel || handlers::features(node).is_none_or(|features| features.app_armor)
}

fn has_seccomp(host: &Host, name: &str) -> bool {
    let listed =
        handlers::features(host.info.node()).and_then(|f: NodeFeatures| f.seccomp_profiles);
    listed.is_none_or(|listed| listed.iter().any(|known| known == name))
}

/// What a node has for pods; `None` when it doesn't say.
fn allocatable(node: &Node) -> Option<Amounts> {
    let status = node.status.as_ref()?;
    let list = status.allocatable.as_ref().or(status.capacity.as_ref())?;
    Some(amounts(Some(list)))
}

/// The resources of which a node has less, at all.
fn lacking<'r>(requests: &'r Amounts, host: &Host) -> impl Iterator<Item = &'r str> {
    let there = allocatable(host.info.node()).filter(|_| !host.is_bare);
    requests
        .iter()
        .filter(move |(name, asked)| {
            let there = there.as_ref();
            there.is_some_and(|there| {
                let has = there.get(*name).cloned().unwrap_or_default();
                !asked.is_zero() && has < **asked
            })
        })
        .map(|(name, _)| name.as_str())
}

/// The resources of which every node has less than is asked for.
pub(super) fn too_large(
    requests: &Amounts,
    overhead: &Amounts,
    able: &[&Host],
    is_overhead: bool,
) -> Vec<Advice> {
    let mut short: Option<BTreeSet<&str>> = None;
    for host in able {
        let lacks: BTreeSet<&str> = lacking(requests, host).collect();
        short = Some(match short {
            None => lacks,
            Some(before) => before.intersection(&lacks).copied().collect(),
        });
    }
    let short = short.unwrap_or_default();
    short
        .into_iter()
        .take(LIMIT)
        .filter_map(|name| {
            let asked = requests.get(name)?;
            let most = able
                .iter()
                .filter_map(|host| allocatable(host.info.node()))
                .map(|there| there.get(name).cloned().unwrap_or_default())
                .max()?;
            let part = overhead.get(name).filter(|amount| !amount.is_zero());
            Some(Advice::TooLarge {
                is_overhead,
                resource: name.to_owned(),
                asked: asked.to_string(),
                overhead: part.map(ToString::to_string).unwrap_or_default(),
                most: most.to_string(),
            })
        })
        .collect()
}
