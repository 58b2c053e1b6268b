//! What happens to a pod that fits nowhere: others make room for it, or it waits.

use std::sync::Arc;
use std::time::Instant;

use berth_core::event::EventType;
use berth_placement::preempt::{enough_candidates, may_preempt, pick, victims};
use berth_placement::{PodInfo, Reason, summarize_text};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::queue::PodKey;
use crate::write::{Nominated, Occurrence};

use super::ask::Ask;
use super::{Done, SchedulerTask, key};

/// Whether others make room for a pod.
pub(super) enum Preemption {
    /// These leave that node.
    Victims { node: String, pods: Vec<Arc<Pod>> },
    /// They are leaving the node that is promised to it already, or it may not ask.
    Waits(String),
    /// Nobody whose leaving would help; why, for the message.
    Nobody(String),
}

impl SchedulerTask {
    /// Who makes room for the pod, given why each node refuses it.
    pub(super) fn preemption(&self, ask: &Ask<'_>, reasons: &[(&str, Vec<Reason>)]) -> Preemption {
        if !may_preempt(ask.pod) {
            return Preemption::Waits("not eligible due to preemptionPolicy=Never.".to_owned());
        }
        if reasons.is_empty() {
            return Preemption::Nobody(String::new());
        }
        let helps = |reasons: &[Reason]| reasons.iter().all(Reason::is_about_pods);
        if let Some(promised) = self.nominations.node_of(ask.key)
            && reasons
                .iter()
                .any(|(name, reasons)| *name == promised && helps(reasons))
            && self.someone_leaves(promised, ask.pod.priority())
        {
            let why = "not eligible due to a terminating pod on the nominated node.";
            return Preemption::Waits(why.to_owned());
        }
        let possible: Vec<&str> = reasons
            .iter()
            .filter(|(_, reasons)| helps(reasons))
            .map(|(name, _)| *name)
            .collect();
        let enough = enough_candidates(possible.len());
        let budgets: Vec<&PodDisruptionBudget> = self.budgets.all().values().collect();
        let (mut names, mut candidates) = (Vec::new(), Vec::new());
        // From another node each time, as the search for one that fits.
        let first = self.next_node.checked_rem(possible.len()).unwrap_or(0);
        for name in possible[first..].iter().chain(&possible[..first]) {
            let Some(node) = self.cache.node(name) else {
                continue;
            };
            let promised = self.promised(ask, name);
            let found = victims(
                ask.pod,
                node,
                &ask.handler,
                &ask.around,
                &promised,
                &budgets,
            );
            if let Some(found) = found {
                names.push(*name);
                candidates.push(found);
                if names.len() == enough {
                    break;
                }
            }
        }
        let Some(best) = pick(&candidates) else {
            let words = reasons.iter().map(|(_, reasons)| {
                let why = if helps(reasons) {
                    "No preemption victims found for incoming pod"
                } else {
                    "Preemption is not helpful for scheduling"
                };
                why.to_owned()
            });
            return Preemption::Nobody(summarize_text(reasons.len(), words));
        };
        let pods = candidates[best].pods.iter();
        Preemption::Victims {
            node: names[best].to_owned(),
            pods: pods.map(|pod| Arc::clone(pod.pod())).collect(),
        }
    }

    /// Whether a pod of lower priority is being deleted on the node.
    fn someone_leaves(&self, node: &str, priority: i32) -> bool {
        let placed = self.cache.node(node).map(berth_placement::NodeInfo::placed);
        placed.unwrap_or_default().iter().any(|other| {
            let pod = other.pod();
            other.priority() < priority
                && (pod.metadata.deletion_timestamp.is_some() || self.leaving.contains(&key(pod)))
        })
    }

    /// Carries the decision out, and writes the outcome to the pod's status.
    pub(super) fn preempt(
        &mut self,
        key: &str,
        pod: Arc<Pod>,
        info: PodInfo,
        message: String,
        preemption: Preemption,
    ) {
        let told = |why: &str| {
            if why.is_empty() {
                message.clone()
            } else {
                format!("{message} preemption: {why}")
            }
        };
        match preemption {
            Preemption::Waits(why) => {
                self.tell_unschedulable(pod, told(&why), Nominated::Unchanged);
            }
            Preemption::Nobody(why) => {
                self.nominations.remove(key);
                self.tell_unschedulable(pod, told(&why), Nominated::Nowhere);
            }
            Preemption::Victims { node, pods } => {
                let lower = self.nominations.below(&node, info.priority());
                for other in lower {
                    self.withdraw(&other);
                }
                self.nominations.set(key, &node, info);
                self.evict(key, &pod, &node, pods);
                self.tell_unschedulable(pod, message, Nominated::Node(node));
            }
        }
    }

    /// A pod of higher priority comes to the node that was promised to this one, which looks for another.
    fn withdraw(&mut self, key: &PodKey) {
        self.nominations.remove(key);
        if let Some(pod) = self.pending.get(key).cloned() {
            let writer = Arc::clone(&self.writer);
            self.writes.spawn(async move {
                let result = writer.withdraw_node(&pod).await;
                writer.status_written(&pod, &result);
                Done::StatusWritten
            });
        }
        self.queue.retry(key, Instant::now());
    }

    /// Deletes the victims, each beside the other.
    fn evict(&mut self, key: &str, pod: &Pod, node: &str, victims: Vec<Arc<Pod>>) {
        for victim in victims {
            let name = super::key(&victim);
            if victim.metadata.deletion_timestamp.is_some() || !self.leaving.insert(name.clone()) {
                continue;
            }
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let message = format!("Preempted by pod {uid} on node {node}");
            let (writer, for_pod) = (Arc::clone(&self.writer), key.to_owned());
            let component = self.config.scheduler_name.clone();
            self.writes.spawn(async move {
                let result = writer.evict(&victim, &component).await;
                Done::Evicted {
                    victim: name,
                    for_pod,
                    event: result.map(|deleted| {
                        deleted.then(|| Occurrence {
                            pod: victim,
                            type_: EventType::Normal,
                            reason: "Preempted",
                            message,
                            at: Timestamp::now(),
                        })
                    }),
                }
            });
        }
    }
}
