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
use crate::request::{ApiRequest, Verb};
use crate::storage::Storage;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    verb: String,
    resource: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resource {
    resource: String,
}

/// What a request is counted as.
pub(crate) struct RequestLabels(Request);

impl RequestLabels {
    /// Those of a request; one that could not be read has none. Resources and subresources that nothing serves are counted
    /// as one, whatever the answer, so that nobody can fill the memory with made-up names.
    pub(crate) fn of(request: Option<&ApiRequest>) -> Self {
        let verb = request.map(known_verb).unwrap_or_default();
        Self(match request {
            Some(ApiRequest::Resource(request)) if request.target.is_served() => Request {
                verb,
                group: request.target.group.clone(),
                version: request.target.version.clone(),
                resource: request.target.resource.clone(),
                subresource: request.target.subresource.clone(),
                code: 0,
            },
            Some(ApiRequest::Resource(_) | ApiRequest::Path(_)) | None => Request {
                verb,
                ..Request::default()
            },
        })
    }

    pub(crate) fn verb(&self) -> &str {
        &self.0.verb
    }

    pub(crate) fn resource(&self) -> &str {
        &self.0.resource
    }
}

/// The verb, unless it is a method that a client made up.
fn known_verb(request: &ApiRequest) -> String {
    match request {
        ApiRequest::Resource(request) => request.verb.as_str().to_owned(),
        ApiRequest::Path(request) if request.reads() => request.method.clone(),
        ApiRequest::Path(_) => "other".to_owned(),
    }
}

/// The counters of a server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Timed, Histogram, fn() -> Histogram>,
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

    /// Counts a request; objects that are not there are counted as one.
    pub(crate) fn request(&self, labels: RequestLabels, code: StatusCode, elapsed: Duration) {
        let RequestLabels(mut request) = labels;
        request.code = u32::from(code.as_u16());
        if code == StatusCode::NOT_FOUND {
            request = Request {
                verb: request.verb,
                code: request.code,
                ..Request::default()
            };
        }
        if request.verb != Verb::Watch.as_str() {
            self.durations
                .get_or_create(&Timed {
                    verb: request.verb.clone(),
                    resource: request.resource.clone(),
                })
                .observe(elapsed.as_secs_f64());
        }
        self.requests.get_or_create(&request).inc();
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
