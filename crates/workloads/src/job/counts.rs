//! Counting finished pods, each once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;

use super::failure_policy::{Action, action};
use super::indexes::{self, index_of};
use super::{has_finalizer, some};
use crate::pod::{count, phase};

/// How many pods have failed at their index before this one.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How many of them the failure policy ignored.
pub(super) const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The most UIDs that a status holds; the rest waits for its turn.
const UNCOUNTED_LIMIT: usize = 500;

/// What is known of the pods that have ended.
pub(super) struct Counts {
    counted_succeeded: i32,
    counted_failed: i32,
    uncounted_succeeded: Vec<String>,
    uncounted_failed: Vec<String>,
    /// Of an indexed Job.
    pub(super) completed: BTreeSet<i32>,
    /// With a back-off limit for each index.
    pub(super) failed_indexes: BTreeSet<i32>,
    /// Pods whose finalizer may go once the status is written.
    pub(super) release: Vec<Arc<Pod>>,
    /// The words of the rule that fails the Job.
    pub(super) fail_job: Option<String>,
    is_indexed: bool,
    /// Finished pods that are not in the status yet.
    waiting: usize,
}

/// Only pods that have ended are failed, not those that are being deleted.
pub(super) fn only_ended_are_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

/// The pod has failed. One that is being deleted counts as that, unless the Job says otherwise: it may never reach a phase.
pub(super) fn is_failed(spec: &JobSpec, pod: &Pod) -> bool {
    match phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => !only_ended_are_failed(spec) && pod.metadata.deletion_timestamp.is_some(),
    }
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

impl Counts {
    pub(super) fn new(spec: &JobSpec, status: &JobStatus, pods: &[Arc<Pod>]) -> Self {
        let completions = spec.completions.unwrap_or(0);
        let parse = |text: &Option<String>| {
            indexes::parse(text.as_deref().unwrap_or_default(), completions)
        };
        let mut counts = Self {
            counted_succeeded: status.succeeded.unwrap_or(0),
            counted_failed: status.failed.unwrap_or(0),
            uncounted_succeeded: Vec::new(),
            uncounted_failed: Vec::new(),
            completed: parse(&status.completed_indexes),
            failed_indexes: parse(&status.failed_indexes),
            release: Vec::new(),
            fail_job: None,
            is_indexed: is_indexed(spec),
            waiting: 0,
        };
        counts.take_up(status.uncounted_terminated_pods.as_ref(), pods);
        for pod in pods.iter().filter(|pod| has_finalizer(pod)) {
            counts.add(spec, pod, pods);
        }
        counts
    }

    /// Counts those whose finalizer is gone, and keeps the others.
    fn take_up(&mut self, uncounted: Option<&UncountedTerminatedPods>, pods: &[Arc<Pod>]) {
        let held: HashMap<&str, &Arc<Pod>> = pods
            .iter()
            .filter(|pod| has_finalizer(pod))
            .filter_map(|pod| Some((pod.metadata.uid.as_deref()?, pod)))
            .collect();
        let of = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
        for uid in of(uncounted.and_then(|u| u.succeeded.as_ref())) {
            match held.get(uid.as_str()) {
                Some(pod) => {
                    self.release.push(Arc::clone(pod));
                    self.uncounted_succeeded.push(uid);
                }
                None => self.counted_succeeded = self.counted_succeeded.saturating_add(1),
            }
        }
        for uid in of(uncounted.and_then(|u| u.failed.as_ref())) {
            match held.get(uid.as_str()) {
                Some(pod) => {
                    self.release.push(Arc::clone(pod));
                    self.uncounted_failed.push(uid);
                }
                None => self.counted_failed = self.counted_failed.saturating_add(1),
            }
        }
    }

    /// Takes a pod that has ended into the status.
    fn add(&mut self, spec: &JobSpec, pod: &Arc<Pod>, pods: &[Arc<Pod>]) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if self.uncounted_succeeded.contains(&uid) || self.uncounted_failed.contains(&uid) {
            return;
        }
        let is_succeeded = phase(pod) == "Succeeded";
        if !is_succeeded && !is_failed(spec, pod) {
            return;
        }
        if self.uncounted_succeeded.len() + self.uncounted_failed.len() >= UNCOUNTED_LIMIT {
            self.waiting += 1;
            return;
        }
        let index = index_of(pod, spec.completions.unwrap_or(0));
        if is_succeeded {
            if self.is_indexed {
                // The set of indexes counts it; a second pod of an index, or one without, counts for nothing.
                self.completed.extend(index);
            } else {
                self.uncounted_succeeded.push(uid);
            }
            self.release.push(Arc::clone(pod));
            return;
        }
        let action = action(spec.pod_failure_policy.as_ref(), pod);
        if let Some(limit) = spec.backoff_limit_per_index
            && let Some(index) = index
        {
            let has_failed = action == Action::FailIndex
                || action != Action::Ignore && number(pod, FAILURES) >= limit;
            if has_failed && !self.completed.contains(&index) {
                self.failed_indexes.insert(index);
            }
            // Its successor reads the number of failures from it.
            let is_replaced = has_failed
                || self.completed.contains(&index)
                || has_successor(pod, index, spec, pods);
            if !is_replaced && !matches!(action, Action::FailJob(_)) {
                return;
            }
        }
        match action {
            Action::FailJob(words) => {
                self.fail_job.get_or_insert(words);
                self.uncounted_failed.push(uid);
            }
            Action::Count | Action::FailIndex => self.uncounted_failed.push(uid),
            Action::Ignore => {}
        }
        self.release.push(Arc::clone(pod));
    }

    /// Pods that have succeeded, or indexes.
    pub(super) fn succeeded(&self) -> i32 {
        if self.is_indexed {
            count(self.completed.len())
        } else {
            self.counted_succeeded
                .saturating_add(count(self.uncounted_succeeded.len()))
        }
    }

    pub(super) fn failed(&self) -> i32 {
        self.counted_failed
            .saturating_add(count(self.uncounted_failed.len()))
    }

    /// Every pod that has ended is counted.
    pub(super) fn is_settled(&self) -> bool {
        self.uncounted_succeeded.is_empty() && self.uncounted_failed.is_empty() && self.waiting == 0
    }

    pub(super) fn write_to(&self, spec: &JobSpec, status: &mut JobStatus) {
        let list = |uids: &Vec<String>| (!uids.is_empty()).then(|| uids.clone());
        status.succeeded = some(if self.is_indexed {
            count(self.completed.len())
        } else {
            self.counted_succeeded
        });
        status.failed = some(self.counted_failed);
        status.uncounted_terminated_pods = Some(UncountedTerminatedPods {
            succeeded: list(&self.uncounted_succeeded),
            failed: list(&self.uncounted_failed),
        });
        let text = |set: &BTreeSet<i32>| Some(indexes::format(set)).filter(|text| !text.is_empty());
        if self.is_indexed {
            status.completed_indexes = text(&self.completed);
        }
        if spec.backoff_limit_per_index.is_some() {
            status.failed_indexes = Some(indexes::format(&self.failed_indexes));
        }
    }
}

/// A number that a pod carries.
pub(super) fn number(pod: &Pod, annotation: &str) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let number = annotations.and_then(|a| a.get(annotation));
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Whether a younger pod has the index.
fn has_successor(pod: &Pod, index: i32, spec: &JobSpec, pods: &[Arc<Pod>]) -> bool {
    let tries = |pod: &Pod| number(pod, FAILURES) + number(pod, IGNORED);
    let completions = spec.completions.unwrap_or(0);
    pods.iter().any(|other| {
        other.metadata.uid != pod.metadata.uid
            && index_of(other, completions) == Some(index)
            && tries(other) > tries(pod)
    })
}
