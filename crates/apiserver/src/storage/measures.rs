//! What the store is asked, under the names that the stock server has for etcd.

use std::time::Instant;

use berth_store::Expect;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::key;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    operation: &'static str,
    group: String,
    resource: String,
}

fn durations() -> Histogram {
    Histogram::new([
        0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
        10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
    ])
}

/// The counters.
#[derive(Clone, Debug)]
pub(crate) struct Measures {
    requests: Family<Of, Counter>,
    errors: Family<Of, Counter>,
    durations: Family<Of, Histogram, fn() -> Histogram>,
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            errors: Family::default(),
            durations: Family::new_with_constructor(durations as fn() -> Histogram),
        }
    }
}

impl Measures {
    /// Makes them known.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "etcd_requests",
            "Requests to the store (etcd or SQLite) by operation and resource",
            self.requests.clone(),
        );
        registry.register(
            "etcd_request_errors",
            "Requests to the store (etcd or SQLite) that failed, by operation and resource",
            self.errors.clone(),
        );
        registry.register(
            "etcd_request_duration_seconds",
            "Time that the store (etcd or SQLite) took, by operation and resource",
            self.durations.clone(),
        );
    }

    /// What a write does that puts something, or removes it.
    pub(super) fn operation(puts: bool, expect: &Expect) -> &'static str {
        match (puts, expect) {
            (false, _) => "delete",
            (true, Expect::Absent) => "create",
            (true, Expect::Revision(_) | Expect::Any) => "update",
        }
    }

    /// Counts a request to the store that began at a time.
    pub(super) fn request<T, E>(
        &self,
        operation: &'static str,
        storage: &str,
        begun: Instant,
        result: &Result<T, E>,
    ) {
        let (group, resource) = key::group_resource(storage);
        let of = Of {
            operation,
            group: group.to_owned(),
            resource: resource.to_owned(),
        };
        self.durations
            .get_or_create(&of)
            .observe(begun.elapsed().as_secs_f64());
        self.requests.get_or_create(&of).inc();
        if result.is_err() {
            self.errors.get_or_create(&of).inc();
        }
    }
}
