//! What is counted of the audit log, under the stock server's names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::policy::Level;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Plugin {
    plugin: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    level: &'static str,
}

/// What is counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Measures {
    events: Counter,
    errors: Family<Plugin, Counter>,
    levels: Family<OfLevel, Counter>,
    rejected: Counter,
}

impl Measures {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "apiserver_audit_event",
            "Audit events that were made",
            self.events.clone(),
        );
        registry.register(
            "apiserver_audit_error",
            "Audit events that a backend did not take",
            self.errors.clone(),
        );
        registry.register(
            "apiserver_audit_level",
            "Requests by the level that the audit policy gives them",
            self.levels.clone(),
        );
        registry.register(
            "apiserver_audit_requests_rejected",
            "Requests that were refused because they could not be audited",
            self.rejected.clone(),
        );
    }

    pub(super) fn event(&self) {
        self.events.inc();
    }

    pub(super) fn level(&self, level: Level) {
        let level = level.as_str();
        self.levels.get_or_create(&OfLevel { level }).inc();
    }

    pub(super) fn rejected(&self) {
        self.rejected.inc();
    }

    pub(super) fn lost(&self, plugin: &'static str, events: u64) {
        self.errors.get_or_create(&Plugin { plugin }).inc_by(events);
    }

    #[cfg(test)]
    pub(super) fn lost_by(&self, plugin: &'static str) -> u64 {
        self.errors.get_or_create(&Plugin { plugin }).get()
    }
}
