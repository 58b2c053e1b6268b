//! The status of a StatefulSet.

use k8s_openapi::api::apps::v1::StatefulSetStatus;

use super::pod::revision_of;
use super::{Plan, Work, is_deleted, name_of};
use crate::pod::is_ready;

impl Work<'_> {
    /// The plan, with the status of the pods as they are.
    pub(super) fn finish(mut self) -> Plan {
        let old = self.set.status.clone().unwrap_or_default();
        let (current, update) = (name_of(self.owned.current), name_of(self.owned.update));
        let mut status = StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            collision_count: Some(old.collision_count.unwrap_or(0)),
            conditions: old.conditions,
            current_revision: Some(current.clone()),
            update_revision: Some(update.clone()),
            ..StatefulSetStatus::default()
        };
        let (mut ready, mut available, mut of_current, mut of_update) = (0, 0, 0, 0);
        let wanted = self.wanted.iter().filter_map(|(_, pod)| pod.as_ref());
        let condemned = self.condemned.iter().map(|(_, pod)| pod);
        for pod in wanted.chain(condemned) {
            status.replicas += 1;
            if is_ready(pod) && crate::pod::phase(pod) == "Running" {
                ready += 1;
                available += i32::from(self.is_available(pod));
            }
            if is_deleted(pod) {
                continue;
            }
            of_current += i32::from(revision_of(pod) == Some(&current));
            of_update += i32::from(revision_of(pod) == Some(&update));
        }
        // All are of the new template: it is the current one now.
        let strategy = self.spec.update_strategy.as_ref();
        let is_rolling = strategy.and_then(|s| s.type_.as_deref()) != Some("OnDelete");
        if is_rolling
            && of_update == status.replicas
            && ready == status.replicas
            && status.replicas == self.spec.replicas.unwrap_or(1)
        {
            of_current = of_update;
            status.current_revision = Some(update);
        }
        let some = |number: i32| (number != 0).then_some(number);
        status.ready_replicas = some(ready);
        status.available_replicas = Some(available);
        status.current_replicas = some(of_current);
        status.updated_replicas = some(of_update);
        self.plan.status = status;
        self.plan
    }
}
