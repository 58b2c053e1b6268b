//! The overhead that nodes have measured, for classes that the server has made.
//!
//! A node's report is its word alone. So the median of several nodes counts, and within bounds around what is published: no node
//! makes pods of a class so large that they fit nowhere, or so small that nodes are overcommitted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth_core::managed_class::{Published, is_managed, published};
use berth_core::pod::is_finished;
use berth_cost::{NodeReport, propose};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::{Overhead, RuntimeClass};
use kube::{Client, ResourceExt as _};

use crate::class_overhead::{ask, declared};

/// A class' overhead is not changed more often.
pub(super) const APART: Duration = Duration::from_secs(3600);
/// At most this many nodes are asked about a class, and this many at a time.
const MAX_NODES: usize = 9;
const AT_A_TIME: usize = 8;
/// A report with fewer measurements than this does not count.
const MIN_SAMPLES: u64 = 30;
/// How many times more or less than what is published is believed.
const FACTOR: u64 = 4;
/// The most that is believed where nothing is published.
const MOST: Published = Published {
    mebibytes: 256,
    milli_cores: 500,
};

/// The classes whose overhead is to be another, and which.
pub(super) async fn proposals(
    client: &Client,
    classes: &[Arc<RuntimeClass>],
    pods: &[Arc<Pod>],
) -> Vec<(Arc<RuntimeClass>, Overhead)> {
    let mut on: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !is_finished(pod)) {
        let spec = pod.spec.as_ref();
        let class = spec.and_then(|spec| spec.runtime_class_name.clone());
        let node = spec.and_then(|spec| spec.node_name.clone());
        if let (Some(class), Some(node)) = (class, node) {
            let nodes = on.entry(class).or_default();
            if nodes.len() < MAX_NODES {
                nodes.insert(node);
            }
        }
    }
    let managed = classes.iter().filter(|class| is_managed(class));
    let managed: Vec<&Arc<RuntimeClass>> = managed
        .filter(|class| on.contains_key(&class.name_any()))
        .collect();
    let asked: BTreeSet<String> = managed
        .iter()
        .filter_map(|class| on.get(&class.name_any()))
        .flatten()
        .cloned()
        .collect();
    let answers = futures::stream::iter(asked).map(|node| async move {
        let answer = ask(client, &node).await;
        (node, answer)
    });
    let answers: Vec<_> = answers.buffer_unordered(AT_A_TIME).collect().await;
    let reports: BTreeMap<String, NodeReport> = answers
        .into_iter()
        .filter_map(|(node, answer)| Some((node, answer.ok()?)))
        .collect();
    let propose = |class: &Arc<RuntimeClass>| {
        let nodes = on.get(&class.name_any())?;
        let of_nodes = reports.iter().filter(|(node, _)| nodes.contains(*node));
        let overhead = agreed(class, of_nodes.map(|(_, report)| report))?;
        Some((Arc::clone(class), overhead))
    };
    managed.into_iter().filter_map(propose).collect()
}

/// What reports of nodes say a class' overhead is, if that is far from what it declares.
fn agreed<'a>(
    class: &RuntimeClass,
    reports: impl Iterator<Item = &'a NodeReport>,
) -> Option<Overhead> {
    let name = class.name_any();
    let proposals = reports.filter_map(|report| {
        let mut of_class = report.classes.iter();
        let found = of_class.find(|c| c.runtime_class == name && c.handler == class.handler)?;
        let samples = found.idle.samples.saturating_add(found.load.samples);
        propose(found).filter(|_| samples >= MIN_SAMPLES)
    });
    let (mut memory, mut cpu): (Vec<u64>, Vec<u64>) = proposals
        .map(|proposal| (proposal.memory_bytes >> 20, proposal.cpu_milli))
        .unzip();
    let published = published(&class.handler);
    let bound = |measured: u64, of: fn(Published) -> u64| match published.map(of) {
        Some(amount) => measured.clamp(amount / FACTOR, amount.saturating_mul(FACTOR)),
        None => measured.clamp(1, of(MOST)),
    };
    let found = Published {
        mebibytes: bound(median(&mut memory)?, |p| p.mebibytes),
        milli_cores: bound(median(&mut cpu)?, |p| p.milli_cores),
    };
    let declared = declared(class).ok()?;
    let memory = (declared.memory >> 20).abs_diff(found.mebibytes);
    let cpu = (declared.cpu / 1000).abs_diff(found.milli_cores);
    let is_far = |difference: u64, of: u64, least: u64| difference >= least && difference > of / 4;
    let is_far = is_far(memory, found.mebibytes, 8) || is_far(cpu, found.milli_cores, 10);
    is_far.then(|| found.overhead())
}

/// The lower one in the middle: of two nodes the one that claims less.
fn median(all: &mut [u64]) -> Option<u64> {
    all.sort_unstable();
    all.get(all.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_core::managed_class::make;
    use berth_cost::{ClassReport, Quantiles, StateReport};

    fn report(handler: &str, samples: u64, mebibytes: u64, milli: u64) -> NodeReport {
        let of = |p99| Quantiles {
            p99,
            ..Quantiles::default()
        };
        let idle = StateReport {
            samples,
            memory_bytes: of(mebibytes << 20),
            cpu_micro_cores: of(milli * 1000),
            ..StateReport::default()
        };
        let class = ClassReport {
            runtime_class: handler.to_owned(),
            handler: handler.to_owned(),
            idle,
            ..ClassReport::default()
        };
        NodeReport {
            classes: vec![class],
            ..NodeReport::default()
        }
    }

    fn found(handler: &str, reports: &[NodeReport]) -> Option<(String, String)> {
        let class = make(handler, published(handler).map(Published::overhead));
        let overhead = agreed(&class, reports.iter())?;
        let fixed = overhead.pod_fixed.unwrap();
        Some((fixed["memory"].0.clone(), fixed["cpu"].0.clone()))
    }

    #[test]
    fn what_nodes_agree_on_counts_within_bounds() {
        let said = |memory: &str, cpu: &str| Some((memory.to_owned(), cpu.to_owned()));
        assert_eq!(
            found("runsc", &[report("runsc", 40, 44, 11)]),
            said("44Mi", "11m")
        );
        assert_eq!(found("runsc", &[report("runsc", 29, 44, 11)]), None);
        assert_eq!(found("runsc", &[report("other", 40, 44, 11)]), None);
        assert_eq!(found("runsc", &[]), None);
        // Near enough.
        assert_eq!(
            found("kata-qemu", &[report("kata-qemu", 40, 170, 240)]),
            None
        );
        // One node of three that lies changes nothing, and of one alone no more than the bounds.
        let honest = || report("kata-qemu", 40, 300, 250);
        let liar = |memory, cpu| report("kata-qemu", 40, memory, cpu);
        assert_eq!(
            found("kata-qemu", &[honest(), liar(1 << 40, 1 << 40), honest()]),
            said("300Mi", "250m")
        );
        assert_eq!(
            found("kata-qemu", &[liar(1 << 40, 1 << 40)]),
            said("640Mi", "1")
        );
        assert_eq!(found("kata-qemu", &[liar(0, 0)]), said("40Mi", "62m"));
        assert_eq!(
            found("runc", &[report("runc", 40, 1 << 40, 1 << 40)]),
            said("256Mi", "500m")
        );
    }
}
