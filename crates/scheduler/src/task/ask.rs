//! What is asked of nodes for one pod.

use berth_placement::{HandlerRule, PodInfo, Surroundings};

use super::SchedulerTask;

/// The pod, and what was found out about it once for all nodes.
pub(super) struct Ask<'c> {
    pub(super) key: &'c str,
    pub(super) pod: &'c PodInfo,
    pub(super) handler: HandlerRule,
    pub(super) around: Surroundings<'c>,
}

impl SchedulerTask {
    /// The pods that come to the node, too, and before this one.
    pub(super) fn promised<'s>(&'s self, ask: &Ask<'_>, node: &str) -> Vec<&'s PodInfo> {
        self.nominations.before(node, ask.key, ask.pod.priority())
    }
}
