//! What flow control counts, under the stock server's names.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::level::{Flow, Level};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    priority_level: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSchema {
    priority_level: &'static str,
    flow_schema: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    priority_level: &'static str,
    flow_schema: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    request_kind: &'static str,
}

/// The counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measures {
    rejected: Family<Rejected, Counter>,
    dispatched: Family<OfSchema, Counter>,
    waiting: Family<OfLevel, Gauge>,
    seats: Family<OfLevel, Gauge>,
    limits: Family<OfLevel, Gauge>,
    in_flight: Family<OfKind, Gauge>,
}

impl Measures {
    /// Makes them known.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "apiserver_flowcontrol_rejected_requests",
            "Requests that flow control refused",
            self.rejected.clone(),
        );
        registry.register(
            "apiserver_flowcontrol_dispatched_requests",
            "Requests that flow control let pass",
            self.dispatched.clone(),
        );
        registry.register(
            "apiserver_flowcontrol_current_inqueue_requests",
            "Requests that wait in the queues of a priority level",
            self.waiting.clone(),
        );
        registry.register(
            "apiserver_flowcontrol_current_executing_seats",
            "Seats in use of a priority level",
            self.seats.clone(),
        );
        registry.register(
            "apiserver_flowcontrol_nominal_limit_seats",
            "Seats of a priority level",
            self.limits.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests that are being worked on",
            self.in_flight.clone(),
        );
    }

    pub(super) fn refused(&self, flow: &Flow, reason: &'static str) {
        self.rejected
            .get_or_create(&Rejected {
                priority_level: flow.level.name(),
                flow_schema: flow.schema,
                reason,
            })
            .inc();
    }

    pub(super) fn dispatched(&self, flow: &Flow) {
        self.dispatched
            .get_or_create(&OfSchema {
                priority_level: flow.level.name(),
                flow_schema: flow.schema,
            })
            .inc();
    }

    pub(super) fn limit(&self, level: Level, seats: u32) {
        self.limits.get_or_create(&of(level)).set(i64::from(seats));
    }

    pub(super) fn level(&self, level: Level, seats: u32, waiting: usize) {
        self.seats.get_or_create(&of(level)).set(i64::from(seats));
        self.waiting
            .get_or_create(&of(level))
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Counts a request until the value is dropped.
    pub(super) fn in_flight(&self, verb: &str) -> Counted {
        let request_kind = match verb {
            "get" | "list" | "watch" | "head" => "readOnly",
            _ => "mutating",
        };
        Counted::of(self.in_flight.get_or_create_owned(&OfKind { request_kind }))
    }
}

fn of(level: Level) -> OfLevel {
    OfLevel {
        priority_level: level.name(),
    }
}

/// One more in a gauge until the value is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    /// Adds one.
    pub(crate) fn of(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
