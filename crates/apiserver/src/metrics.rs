//! What the server counts, under the stock server's names.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::flow::Measures;
use crate::request::RequestInfo;
use crate::storage::Storage;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verb {
    verb: String,
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resource {
    resource: String,
}

/// The counters of a server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Verb, Histogram, fn() -> Histogram>,
    objects: Family<Resource, Gauge>,
    revision: Gauge,
}

fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 14))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        let objects = Family::default();
        let revision = Gauge::default();
        registry.register(
            "apiserver_request",
            "Requests by verb, resource and code",
            requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Time to the first byte of the answer",
            durations.clone(),
        );
        registry.register(
            "apiserver_resource_objects",
            "Objects in the store by resource",
            objects.clone(),
        );
        registry.register(
            "berth_store_revision",
            "Revision up to which reads are complete",
            revision.clone(),
        );
        Self {
            registry,
            requests,
            durations,
            objects,
            revision,
        }
    }
}

impl Metrics {
    /// Adds what flow control counts.
    pub(crate) fn include(&mut self, flow: &Measures) {
        flow.register(&mut self.registry);
    }

    /// Counts a request. Paths that name no known thing are counted as one, so that nobody can
    /// fill the memory with them.
    pub(crate) fn request(&self, info: &RequestInfo, code: StatusCode, elapsed: Duration) {
        let known = code != StatusCode::NOT_FOUND && info.is_resource_request;
        let of = |text: &str| {
            if known {
                text.to_owned()
            } else {
                String::new()
            }
        };
        self.requests
            .get_or_create(&Request {
                verb: info.verb.clone(),
                group: of(&info.api_group),
                version: of(&info.api_version),
                resource: of(&info.resource),
                subresource: of(&info.subresource),
                code: u32::from(code.as_u16()),
            })
            .inc();
        if info.verb != "watch" {
            self.durations
                .get_or_create(&Verb {
                    verb: info.verb.clone(),
                    resource: of(&info.resource),
                })
                .observe(elapsed.as_secs_f64());
        }
    }

    /// All of it in the text format.
    pub(crate) fn encode(&self, storage: &Storage) -> String {
        for (resource, count) in storage.counts() {
            self.objects
                .get_or_create(&Resource { resource })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.revision.set(storage.applied());
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}
