//! A start, as `/stats/starts` answers it.

use std::time::SystemTime;

use berth_trace::report::{StartReport, microseconds, stages};

use super::{Outcome, PodStart};

impl PodStart {
    /// As far as it has got.
    pub(crate) fn report(&self, node: &str) -> StartReport {
        let over = self.over.get();
        let end = over.map_or_else(SystemTime::now, |(at, _)| *at);
        let noticed = jiff::Timestamp::try_from(self.begun).unwrap_or_default();
        let outcome = over.map_or("Starting", |(_, outcome): &(_, Outcome)| outcome.word());
        StartReport {
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            uid: self.uid.clone(),
            node: node.to_owned(),
            runtime_class: self.class.clone(),
            handler: self.handler().to_owned(),
            created: self.created.clone(),
            noticed: format!("{noticed:.6}"),
            outcome: outcome.to_owned(),
            microseconds: microseconds(self.begun, end),
            stages: stages(&self.recording.spans(), self.root, self.begun),
        }
    }
}
