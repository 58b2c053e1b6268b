//! Old ReplicaSets, which are kept for `kubectl rollout undo` up to a limit.

use std::sync::Arc;

use super::{Rollout, Step, annotations};

impl Rollout<'_> {
    /// Removes those of the oldest revisions beyond `spec.revisionHistoryLimit`, if they have no pods.
    pub(super) fn clean_up(&mut self) {
        let Some(limit) = self.spec.revision_history_limit else {
            return;
        };
        let mut sets: Vec<_> = self
            .sets
            .old
            .iter()
            .filter(|set| set.read.metadata.deletion_timestamp.is_none())
            .collect();
        let excess = sets.len().saturating_sub(crate::pod::length(limit));
        sets.sort_by_key(|set| annotations::revision(&set.read.metadata));
        let gone: Vec<Step> = sets
            .into_iter()
            .take(excess)
            .filter(|set| {
                let status = set.read.status.clone().unwrap_or_default();
                set.replicas == 0
                    && status.replicas == 0
                    && set.read.metadata.generation.unwrap_or(0)
                        <= status.observed_generation.unwrap_or(0)
            })
            .map(|set| Step::Delete(Arc::clone(&set.read)))
            .collect();
        self.steps.extend(gone);
    }
}
