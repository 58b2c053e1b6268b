//! A class by itself, against the nodes.

use std::collections::{BTreeMap, BTreeSet};

use berth_core::advice::Advice;
use berth_core::resources::amounts;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::node::v1::RuntimeClass;

use super::labels::selector_hint;
use super::pod::too_large;
use super::{Counted, Host, NODE_LIMIT, REASON_LIMIT};
use crate::{Reason, placement};

/// How many handlers are offered instead of one that isn't there.
const OFFERED_LIMIT: usize = 32;

/// A pod of the class that asks for nothing: it stands for all of them.
pub(crate) fn plain_pod(class: &RuntimeClass) -> Pod {
    let scheduling = class.scheduling.clone().unwrap_or_default();
    Pod {
        spec: Some(PodSpec {
            node_selector: scheduling.node_selector,
            tolerations: scheduling.tolerations,
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

/// What keeps every pod of a class from running. Taints don't: pods may bring tolerations of their own.
#[must_use]
pub fn of_class(class: &RuntimeClass, hosts: &[Host]) -> Vec<Advice> {
    let handler = class.handler.as_str();
    if hosts.is_empty() || hosts.len() > NODE_LIMIT || handler.is_empty() {
        return Vec::new();
    }
    let mut able = Vec::new();
    let mut broken: BTreeMap<String, usize> = BTreeMap::new();
    for host in hosts {
        match host.lacks(handler) {
            None => able.push(host),
            Some(Reason::BrokenHandler(_, reason)) => *broken.entry(reason).or_default() += 1,
            Some(_) => {}
        }
    }
    if able.is_empty() && !broken.is_empty() {
        return vec![Advice::HandlerBroken {
            handler: handler.to_owned(),
            reasons: broken.into_iter().take(REASON_LIMIT).collect(),
            nodes: hosts.len(),
        }];
    }
    if able.is_empty() {
        let offered: BTreeSet<&str> = hosts.iter().flat_map(Host::offered).collect();
        return vec![Advice::HandlerMissing {
            handler: handler.to_owned(),
            nodes: hosts.len(),
            offered: offered
                .into_iter()
                .take(OFFERED_LIMIT)
                .map(str::to_owned)
                .collect(),
        }];
    }
    let mut advice: Vec<Advice> = unplaceable(class, &able).into_iter().collect();
    let overhead = class.overhead.as_ref().and_then(|o| o.pod_fixed.as_ref());
    let overhead = amounts(overhead);
    advice.extend(too_large(&overhead, &overhead, &able, true));
    advice
}

/// Why none of the nodes takes the class's pods, for labels and cordons.
fn unplaceable(class: &RuntimeClass, able: &[&Host]) -> Option<Advice> {
    let pod = plain_pod(class);
    let mut counted = Counted::default();
    for host in able {
        if host.is_bare {
            return None;
        }
        match placement(&pod, &host.info) {
            None | Some(Reason::Tainted(..)) => return None,
            Some(reason) => counted.add(&reason),
        }
    }
    let selector = pod.spec.as_ref().and_then(|s| s.node_selector.as_ref());
    let missing = selector_hint(selector, able, "scheduling.nodeSelector");
    let hint = if missing.is_empty() {
        String::new()
    } else {
        let wanted = selector.into_iter().flatten();
        let labels: Vec<String> = wanted
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        format!(
            "{missing}: correct it, or label a node: kubectl label node NODE {}",
            labels.join(" ")
        )
    };
    Some(Advice::ClassUnplaceable {
        handler: class.handler.clone(),
        able: able.len(),
        reasons: counted.to_string(),
        hint,
    })
}
