//! What the clients and controllers of this process count, under the stock components' names: requests to the API server, and
//! work that waits and is done. All roles of a process count together, as their numbers are shown together.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

static MEASURES: LazyLock<Measures> = LazyLock::new(Measures::default);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    code: String,
    host: String,
    method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    host: String,
    verb: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: &'static str,
}

struct Measures {
    requests: Family<Answered, Counter>,
    durations: Family<Asked, Histogram, fn() -> Histogram>,
    adds: Family<Named, Counter>,
    depth: Family<Named, Gauge>,
    retries: Family<Named, Counter>,
    waited: Family<Named, Histogram, fn() -> Histogram>,
    worked: Family<Named, Histogram, fn() -> Histogram>,
}

/// The stock buckets of requests, in seconds.
fn of_requests() -> Histogram {
    Histogram::new([
        0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0,
    ])
}

/// The stock buckets of work, in seconds.
fn of_work() -> Histogram {
    Histogram::new(exponential_buckets(1e-8, 10.0, 12))
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(of_requests),
            adds: Family::default(),
            depth: Family::default(),
            retries: Family::default(),
            waited: Family::new_with_constructor(of_work),
            worked: Family::new_with_constructor(of_work),
        }
    }
}

/// Makes known what is counted.
pub fn register(registry: &mut Registry) {
    let all = &*MEASURES;
    registry.register(
        "rest_client_requests",
        "Requests of this process' clients to the API server",
        all.requests.clone(),
    );
    registry.register(
        "rest_client_request_duration_seconds",
        "Time to the head of the answer",
        all.durations.clone(),
    );
    registry.register(
        "workqueue_adds",
        "Things that were to be looked at",
        all.adds.clone(),
    );
    registry.register(
        "workqueue_depth",
        "Things that are to be looked at now",
        all.depth.clone(),
    );
    registry.register(
        "workqueue_retries",
        "Things that are to be looked at again after a failure",
        all.retries.clone(),
    );
    registry.register(
        "workqueue_queue_duration_seconds",
        "For how long things waited until they were looked at",
        all.waited.clone(),
    );
    registry.register(
        "workqueue_work_duration_seconds",
        "How long it took to look at a thing",
        all.worked.clone(),
    );
}

/// Counts a request of a client; `code` is `<error>` where there was no answer.
pub fn count_request(host: &str, method: &str, code: &str, elapsed: Duration) {
    let asked = Asked {
        host: host.to_owned(),
        verb: method.to_owned(),
    };
    let seconds = elapsed.as_secs_f64();
    MEASURES.durations.get_or_create(&asked).observe(seconds);
    let answered = Answered {
        code: code.to_owned(),
        host: host.to_owned(),
        method: method.to_owned(),
    };
    MEASURES.requests.get_or_create(&answered).inc();
}

/// The work of one controller, by the name that the stock one gives its queue.
#[derive(Clone, Copy, Debug)]
pub struct WorkQueue(&'static str);

impl WorkQueue {
    /// Work of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    fn named(self) -> Named {
        Named { name: self.0 }
    }

    /// Something is to be looked at.
    pub fn added(self) {
        MEASURES.adds.get_or_create(&self.named()).inc();
    }

    /// Looks at something at once.
    pub async fn look<T>(self, look: impl Future<Output = T>) -> T {
        self.added();
        self.taken(Duration::ZERO);
        let begun = Instant::now();
        let looked = look.await;
        self.done(begun.elapsed());
        looked
    }

    /// Something is to be looked at again, because it failed.
    pub fn retried(self) {
        MEASURES.retries.get_or_create(&self.named()).inc();
        self.added();
    }

    /// So many wait.
    pub fn depth(self, waiting: usize) {
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        MEASURES.depth.get_or_create(&self.named()).set(waiting);
    }

    /// Something is looked at, after it has waited so long.
    pub fn taken(self, waited: Duration) {
        let waited = waited.as_secs_f64();
        MEASURES.waited.get_or_create(&self.named()).observe(waited);
    }

    /// It has been looked at.
    pub fn done(self, worked: Duration) {
        let worked = worked.as_secs_f64();
        MEASURES.worked.get_or_create(&self.named()).observe(worked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stock() {
        let queue = WorkQueue::new("test_queue");
        queue.added();
        queue.retried();
        queue.depth(3);
        queue.taken(Duration::from_millis(2));
        queue.done(Duration::from_millis(20));
        count_request("127.0.0.1:1", "GET", "200", Duration::from_millis(7));
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "workqueue_adds_total{name=\"test_queue\"} 2",
            "workqueue_retries_total{name=\"test_queue\"} 1",
            "workqueue_depth{name=\"test_queue\"} 3",
            "workqueue_queue_duration_seconds_count{name=\"test_queue\"} 1",
            "workqueue_work_duration_seconds_count{name=\"test_queue\"} 1",
            "rest_client_requests_total{code=\"200\",host=\"127.0.0.1:1\",method=\"GET\"} 1",
            "rest_client_request_duration_seconds_count{host=\"127.0.0.1:1\",verb=\"GET\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }
}
