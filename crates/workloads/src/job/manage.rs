//! How many pods a Job has at a time, and when it ends.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::conditions::End;
use super::counts::{is_failed, is_indexed, only_ended_are_failed};
use super::indexes::index_of;
use super::{Work, backoff, new_pod, success_policy};
use crate::pod::{count, is_active, is_terminating, length};
use crate::rank::sort_for_deletion;

/// The most pods that are created or deleted at a time.
const BURST: usize = 500;

impl Work<'_> {
    pub(super) fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(0)
    }

    /// Whether the Job has to end, and why.
    pub(super) fn find_end(&self) -> Option<End> {
        if let Some(end) = End::of(&self.plan.status) {
            return Some(end);
        }
        let failed = |reason, message: &str| {
            Some(End::Failed {
                reason,
                message: message.to_owned(),
            })
        };
        if let Some(words) = &self.counts.fail_job {
            return failed("PodFailurePolicy", words);
        }
        if self.is_past_backoff_limit() {
            let words = "Job has reached the specified backoff limit";
            return failed("BackoffLimitExceeded", words);
        }
        let is_suspended = self.spec.suspend == Some(true);
        if !is_suspended && self.until_deadline() == Some(Duration::ZERO) {
            let words = "Job was active longer than specified deadline";
            return failed("DeadlineExceeded", words);
        }
        if let Some(end) = self.end_by_indexes() {
            return Some(end);
        }
        let is_complete = match self.spec.completions {
            // Any success of a work queue is one of all, once the others have ended.
            None => self.counts.succeeded() > 0 && self.active().next().is_none(),
            Some(wanted) => self.counts.succeeded() >= wanted,
        };
        is_complete.then(|| End::Succeeded {
            reason: "CompletionsReached",
            message: "Reached expected number of succeeded pods".to_owned(),
        })
    }

    fn is_past_backoff_limit(&self) -> bool {
        let default = if self.spec.backoff_limit_per_index.is_some() {
            i32::MAX
        } else {
            6
        };
        let limit = self.spec.backoff_limit.unwrap_or(default);
        if self.counts.failed() > limit {
            return true;
        }
        let pod = self.spec.template.spec.as_ref();
        if pod.and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let restarts: i32 = self.active().map(|pod| restarts(pod)).sum();
        match limit {
            0 => restarts > 0,
            limit => restarts >= limit,
        }
    }

    fn end_by_indexes(&self) -> Option<End> {
        if !is_indexed(self.spec) {
            return None;
        }
        if let Some(policy) = &self.spec.success_policy
            && let Some(rule) =
                success_policy::matching_rule(policy, &self.counts.completed, self.completions())
        {
            return Some(End::Succeeded {
                reason: "SuccessPolicy",
                message: format!("Matched rules at index {rule}"),
            });
        }
        let failed = self.counts.failed_indexes.len();
        if self.spec.backoff_limit_per_index.is_none() || failed == 0 {
            return None;
        }
        let most = self.spec.max_failed_indexes;
        if most.is_some_and(|most| failed > length(most)) {
            return Some(End::Failed {
                reason: "MaxFailedIndexesExceeded",
                message: "Job has exceeded the specified maximal number of failed indexes"
                    .to_owned(),
            });
        }
        let ended = failed + self.counts.completed.len();
        (ended >= length(self.completions())).then(|| End::Failed {
            reason: "FailedIndexes",
            message: "Job has failed indexes".to_owned(),
        })
    }

    /// Creates what is missing, and deletes what is too much.
    pub(super) fn manage(&mut self) {
        let active: Vec<_> = self.active().cloned().collect();
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let terminating = if only_ended_are_failed(self.spec) {
            let all = self.pods.iter().filter(|pod| is_terminating(pod));
            count(all.count())
        } else {
            0
        };
        let wanted = match self.spec.completions {
            None if self.counts.succeeded() > 0 => count(active.len()),
            None => parallelism,
            Some(completions) => {
                let failed = count(self.counts.failed_indexes.len());
                (completions - self.counts.succeeded() - failed).clamp(0, parallelism.max(0))
            }
        };
        let excess = count(active.len()) - parallelism;
        if is_indexed(self.spec) {
            self.plan.delete = self.needless(&active, length(excess));
        } else if excess > 0 {
            self.plan.delete = cheapest(&active, length(excess), self.now);
        }
        let kept = count(active.len()) - count(self.plan.delete.len());
        let missing = length(wanted - terminating - kept).min(BURST);
        if missing > 0 && self.plan.delete.is_empty() {
            self.create(&active, missing);
        }
    }

    fn create(&mut self, active: &[Arc<Pod>], missing: usize) {
        if self.spec.backoff_limit_per_index.is_none() {
            let failed = |pod: &Pod| is_failed(self.spec, pod);
            let left = backoff::left(self.pods, failed, self.now);
            if !left.is_zero() {
                self.look_again_in(left);
                return;
            }
        }
        if !is_indexed(self.spec) {
            let pod = new_pod::of(self.job, self.spec, None);
            self.plan.create = vec![pod; missing];
            return;
        }
        let pending = self.pending_indexes(active);
        for index in pending {
            if self.plan.create.len() == missing {
                break;
            }
            let before = self.pods_of(index);
            if self.spec.backoff_limit_per_index.is_some() {
                let failed = |pod: &Pod| is_failed(self.spec, pod);
                let left = backoff::left(&before, failed, self.now);
                if !left.is_zero() {
                    self.look_again_in(left);
                    continue;
                }
            }
            let pod = new_pod::of(self.job, self.spec, Some((index, &before)));
            self.plan.create.push(pod);
        }
    }

    fn pods_of(&self, index: i32) -> Vec<Arc<Pod>> {
        let completions = self.completions();
        let all = self.pods.iter();
        all.filter(|pod| index_of(pod, completions) == Some(index))
            .cloned()
            .collect()
    }

    /// Indexes without a pod, the lowest first.
    fn pending_indexes(&self, active: &[Arc<Pod>]) -> Vec<i32> {
        let completions = self.completions();
        let mut taken: BTreeSet<i32> = self
            .counts
            .completed
            .union(&self.counts.failed_indexes)
            .copied()
            .collect();
        taken.extend(active.iter().filter_map(|pod| index_of(pod, completions)));
        if only_ended_are_failed(self.spec) {
            let ending = self.pods.iter().filter(|pod| is_terminating(pod));
            taken.extend(ending.filter_map(|pod| index_of(pod, completions)));
        }
        (0..completions).filter(|i| !taken.contains(i)).collect()
    }

    /// Pods of an indexed Job that are too many: those without an index or of one that has ended, the second of an index, and
    /// then those of the highest indexes.
    fn needless(&self, active: &[Arc<Pod>], excess: usize) -> Vec<Arc<Pod>> {
        let completions = self.completions();
        let mut by_index: HashMap<i32, Vec<Arc<Pod>>> = HashMap::new();
        let mut needless = Vec::new();
        for pod in active {
            match index_of(pod, completions) {
                Some(index)
                    if !self.counts.completed.contains(&index)
                        && !self.counts.failed_indexes.contains(&index) =>
                {
                    by_index.entry(index).or_default().push(Arc::clone(pod));
                }
                _ => needless.push(Arc::clone(pod)),
            }
        }
        let mut kept = Vec::new();
        for (index, mut pods) in by_index {
            sort_for_deletion(&mut pods, [], self.now);
            kept.extend(pods.pop().map(|pod| (index, pod)));
            needless.append(&mut pods);
        }
        kept.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        let more = excess.saturating_sub(needless.len());
        needless.extend(kept.into_iter().take(more).map(|(_, pod)| pod));
        needless.truncate(BURST);
        needless
    }
}

fn cheapest(active: &[Arc<Pod>], number: usize, now: jiff::Timestamp) -> Vec<Arc<Pod>> {
    let mut pods: Vec<_> = active.iter().filter(|p| is_active(p)).cloned().collect();
    sort_for_deletion(&mut pods, [], now);
    pods.truncate(number.min(BURST));
    pods
}

fn restarts(pod: &Pod) -> i32 {
    let Some(status) = &pod.status else {
        return 0;
    };
    let init = status.init_container_statuses.iter().flatten();
    let all = init.chain(status.container_statuses.iter().flatten());
    all.map(|c| c.restart_count).sum()
}
