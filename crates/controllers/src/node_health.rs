//! Node health: a node whose Lease isn't renewed becomes Unknown, and its conditions become taints. Those that evict pods are
//! set only while some node is ready: see [`is_disrupted`].
//!
//! The clock of the node is not trusted: what counts is how long *this* process has not seen the
//! Lease's `renewTime` change.

use berth_supervise::{Brief, Tasks};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tracing::{info, warn};

use crate::server::is_code;
use crate::{Reflected, reflect};

/// Namespace of the nodes' Leases.
pub const LEASES: &str = "kube-node-lease";
const PERIOD: Duration = Duration::from_secs(5);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// The label of nodes that don't count when it is asked whether any works.
const NOT_COUNTED: &str = "node.kubernetes.io/exclude-disruption";

/// Conditions that taint a node while they hold.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "node.kubernetes.io/network-unavailable",
    ),
];

/// Runs until the tasks are to stop; its watches are among them.
pub async fn run(client: Client, grace: Duration, mut nodes: Reflected<Node>, tasks: Tasks) {
    let shutdown = tasks.stop_token();
    let leases: Reflected<Lease> = reflect(&tasks, Api::namespaced(client.clone(), LEASES), None);
    let api: Api<Node> = Api::all(client.clone());
    let mut heartbeats = Heartbeats::default();
    let mut was_disrupted = false;
    loop {
        let all = nodes.all();
        heartbeats.keep(|name| all.iter().any(|node| node.name_any() == name));
        let mut silent = Vec::new();
        for node in &all {
            let name = node.name_any();
            let renewed = leases
                .all()
                .iter()
                .find(|lease| lease.name_any() == name)
                .and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
            silent.push(heartbeats.silence(&name, renewed, Instant::now()) > grace);
        }
        let health = || all.iter().map(|node| &**node).zip(silent.iter().copied());
        let disrupted = is_disrupted(health());
        if disrupted != was_disrupted {
            was_disrupted = disrupted;
            if disrupted {
                warn!("no node is ready: no pod is evicted until one is");
            } else {
                info!("a node is ready: pods of those that are not are evicted again");
            }
        }
        for (node, silent) in health() {
            if let Err(error) = assess(&api, node, silent, !disrupted).await {
                warn!(node = node.name_any(), error = %Brief(&error), "cannot write the node's health yet");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = nodes.changed_or(PERIOD) => {}
        }
    }
}

/// Whether there are nodes and not one of them works, by their conditions and whether each is silent. Then it is more likely that
/// nobody can be heard (the API server is overloaded, or cut off), and no pod would run better elsewhere: nothing is evicted.
/// As in kube-controller-manager, where all zones are fully disrupted then.
#[must_use]
pub fn is_disrupted<'a>(nodes: impl Iterator<Item = (&'a Node, bool)>) -> bool {
    let counted = nodes.filter(|(node, _)| !node.labels().contains_key(NOT_COUNTED));
    let mut works = counted
        .map(|(node, silent)| is_ready(node) && !silent)
        .peekable();
    works.peek().is_some() && !works.any(|works| works)
}

/// Brings one node's conditions and taints up to date.
async fn assess(api: &Api<Node>, node: &Node, silent: bool, evicts: bool) -> kube::Result<()> {
    let name = node.name_any();
    let mut node = node.clone();
    if silent && let Some(conditions) = unknown_conditions(&node, Timestamp::now()) {
        info!(node = name, "the node stopped renewing its Lease");
        let patch = json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "status": {"conditions": conditions},
        });
        match api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(written) => node = written,
            Err(error) if is_code(&error, &[404, 409]) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    let Some(taints) = changed_taints(&node, evicts, Timestamp::now()) else {
        return Ok(());
    };
    let patch = json!({
        "metadata": {"resourceVersion": node.metadata.resource_version},
        "spec": {"taints": taints},
    });
    match api
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(()),
        // It changed meanwhile: the change brings us back here.
        Err(error) if is_code(&error, &[404, 409]) => Ok(()),
        Err(error) => Err(error),
    }
}

/// When each node's Lease was last seen to change.
#[derive(Debug, Default)]
pub struct Heartbeats(HashMap<String, (Option<Timestamp>, Instant)>);

impl Heartbeats {
    /// How long the node has been silent at `now`, given its Lease's renew time.
    pub fn silence(&mut self, node: &str, renewed: Option<Timestamp>, now: Instant) -> Duration {
        let entry = self.0.entry(node.to_owned()).or_insert((renewed, now));
        if entry.0 != renewed {
            *entry = (renewed, now);
        }
        now.saturating_duration_since(entry.1)
    }

    /// Forgets nodes that are gone.
    pub fn keep(&mut self, exists: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| exists(name));
    }
}

/// The conditions of a node that fell silent, where they aren't Unknown already.
#[must_use]
pub fn unknown_conditions(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let mut conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let mut changed = false;
    if !conditions
        .iter()
        .any(|condition| condition.type_ == "Ready")
    {
        conditions.push(NodeCondition {
            type_: "Ready".to_owned(),
            ..NodeCondition::default()
        });
    }
    for condition in &mut conditions {
        if condition.status != "Unknown" {
            condition.status = "Unknown".to_owned();
            condition.reason = Some("NodeStatusUnknown".to_owned());
            condition.message = Some("Kubelet stopped posting node status.".to_owned());
            condition.last_transition_time = Some(Time(now));
            changed = true;
        }
    }
    changed.then_some(conditions)
}

/// The node's taints as its conditions and `spec.unschedulable` ask for, where they differ from what
/// it has; those that evict pods only where `evicts`. Taints that others set stay.
#[must_use]
pub fn changed_taints(node: &Node, evicts: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let spec = node.spec.as_ref();
    let have = spec
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let mut want: Vec<(&str, &str)> = Vec::new();
    if spec.and_then(|spec| spec.unschedulable).unwrap_or(false) {
        want.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let health = match condition(node, "Ready") {
        Some("True") => None,
        Some("False") => Some(NOT_READY),
        Some(_) => Some(UNREACHABLE),
        // Just registered: nothing is known yet.
        None => Some(NOT_READY),
    };
    if let Some(key) = health {
        want.push((key, "NoSchedule"));
        if evicts {
            want.push((key, "NoExecute"));
        }
    }
    for (type_, key) in PRESSURES {
        if condition(node, type_) == Some("True") {
            want.push((key, "NoSchedule"));
        }
    }
    let ours = |taint: &Taint| {
        [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
            || PRESSURES.iter().any(|(_, key)| *key == taint.key)
    };
    let wanted = |taint: &Taint| want.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = have
        .iter()
        .filter(|taint| !ours(taint) || wanted(taint))
        .cloned()
        .collect();
    for (key, effect) in want {
        if !taints
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect)
        {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: (effect == "NoExecute").then_some(Time(now)),
                value: None,
            });
        }
    }
    (taints != have).then_some(taints)
}

/// Whether the node's condition Ready is True.
pub(crate) fn is_ready(node: &Node) -> bool {
    condition(node, "Ready") == Some("True")
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|found| found.type_ == type_)
        .map(|found| found.status.as_str())
}

#[cfg(test)]
mod tests {
    use berth_testkit::NodeBuilder;

    use super::*;

    fn keys(taints: &[Taint]) -> Vec<String> {
        taints
            .iter()
            .map(|taint| format!("{}:{}", taint.key, taint.effect))
            .collect()
    }

    fn with_ready(status: &str) -> Node {
        let mut node = NodeBuilder::new("n").build();
        if let Some(conditions) = node.status.as_mut().and_then(|s| s.conditions.as_mut()) {
            conditions[0].status = status.to_owned();
        }
        node
    }

    #[test]
    fn a_lease_counts_from_when_we_saw_it_change() {
        let (mut beats, start) = (Heartbeats::default(), Instant::now());
        let at = |secs| Some(Timestamp::UNIX_EPOCH + Duration::from_secs(secs));
        assert_eq!(beats.silence("n", at(1), start), Duration::ZERO);
        let later = start + Duration::from_secs(30);
        assert_eq!(beats.silence("n", at(1), later), Duration::from_secs(30));
        assert_eq!(beats.silence("n", at(2), later), Duration::ZERO);
        beats.keep(|_| false);
        assert_eq!(beats.silence("n", at(2), later), Duration::ZERO);
    }

    #[test]
    fn taints_follow_the_ready_condition() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(changed_taints(&with_ready("True"), true, now), None);
        let unknown = changed_taints(&with_ready("Unknown"), true, now).unwrap();
        assert_eq!(
            keys(&unknown),
            [
                format!("{UNREACHABLE}:NoSchedule"),
                format!("{UNREACHABLE}:NoExecute")
            ]
        );
        assert!(unknown[1].time_added.is_some() && unknown[0].time_added.is_none());
        let not_ready = changed_taints(&with_ready("False"), true, now).unwrap();
        assert_eq!(not_ready[0].key, NOT_READY);
    }

    #[test]
    fn where_no_node_works_no_pod_is_evicted() {
        let (works, broken) = (with_ready("True"), with_ready("False"));
        let mut apart = with_ready("True");
        apart
            .labels_mut()
            .insert(NOT_COUNTED.to_owned(), String::new());
        for (nodes, expected) in [
            (vec![], false),
            (vec![(&works, false)], false),
            // The only one, as of `berth up`: its pods have nowhere to go.
            (vec![(&works, true)], true),
            (vec![(&broken, false)], true),
            (vec![(&works, true), (&broken, false)], true),
            (vec![(&works, true), (&works, false)], false),
            (vec![(&apart, false), (&works, true)], true),
            (vec![(&apart, true)], false),
        ] {
            assert_eq!(is_disrupted(nodes.iter().copied()), expected, "{nodes:?}");
        }
        // What had been set goes, so that the time of tolerations begins anew.
        let mut node = with_ready("Unknown");
        let now = Timestamp::UNIX_EPOCH;
        node.spec.get_or_insert_default().taints = changed_taints(&node, true, now);
        let left = changed_taints(&node, false, now).unwrap();
        assert_eq!(keys(&left), [format!("{UNREACHABLE}:NoSchedule")]);
    }

    #[test]
    fn a_ready_node_loses_our_taints_and_keeps_others() {
        let node = NodeBuilder::new("n")
            .taint("example.com/gpu", "NoSchedule")
            .taint(UNREACHABLE, "NoExecute")
            .build();
        let left = changed_taints(&node, true, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(keys(&left), ["example.com/gpu:NoSchedule"]);
    }

    #[test]
    fn a_cordoned_node_is_tainted() {
        let mut node = NodeBuilder::new("n").build();
        node.spec.get_or_insert_default().unschedulable = Some(true);
        let taints = changed_taints(&node, true, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(keys(&taints), [format!("{UNSCHEDULABLE}:NoSchedule")]);
    }

    #[test]
    fn a_silent_node_turns_unknown_once() {
        let mut node = with_ready("True");
        let conditions = unknown_conditions(&node, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(conditions[0].status, "Unknown");
        node.status.get_or_insert_default().conditions = Some(conditions);
        assert_eq!(unknown_conditions(&node, Timestamp::UNIX_EPOCH), None);
    }
}
