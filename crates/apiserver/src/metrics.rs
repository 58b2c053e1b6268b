//! What the server counts, under the stock server's names.

use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::flow::{Counted, Measures};
use crate::query::PatchKind;
use crate::request::{ApiRequest, ResourceRequest, Verb};
use crate::storage::{Storage, key};

/// The labels of a request, as the stock server's metrics have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    /// The verb as the stock metrics name it: GET, LIST, WATCH, POST, PUT, PATCH, APPLY, DELETE, DELETECOLLECTION, CONNECT.
    verb: &'static str,
    dry_run: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    /// `resource` for one object, `namespace` or `cluster` for collections.
    scope: &'static str,
    component: &'static str,
}

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    #[prometheus(flatten)]
    request: Request,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    group: String,
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
        let labels = Request {
            verb: request.map_or("", verb),
            component: "apiserver",
            ..Request::default()
        };
        Self(match request {
            Some(ApiRequest::Resource(request)) if request.target.is_served() => Request {
                dry_run: if request.options.dry_run { "All" } else { "" },
                group: request.target.group.clone(),
                version: request.target.version.clone(),
                resource: request.target.resource.clone(),
                subresource: request.target.subresource.clone(),
                scope: scope(request),
                ..labels
            },
            Some(ApiRequest::Resource(_) | ApiRequest::Path(_)) | None => labels,
        })
    }

    pub(crate) fn verb(&self) -> &str {
        self.0.verb
    }

    pub(crate) fn resource(&self) -> &str {
        &self.0.resource
    }
}

/// The verb, unless it is a method that a client made up.
fn verb(request: &ApiRequest) -> &'static str {
    let request = match request {
        ApiRequest::Resource(request) => request,
        ApiRequest::Path(request) if request.reads() => return "GET",
        ApiRequest::Path(_) => return "other",
    };
    if request.connect.is_some() {
        return "CONNECT";
    }
    match request.verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch if request.patch == Some(PatchKind::Apply) => "APPLY",
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
        Verb::DeleteCollection => "DELETECOLLECTION",
    }
}

fn scope(request: &ResourceRequest) -> &'static str {
    let target = &request.target;
    if !target.name.is_empty() || request.verb == Verb::Create {
        "resource"
    } else if !target.namespace.is_empty() {
        "namespace"
    } else {
        "cluster"
    }
}

/// The counters of a server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Request, Histogram, fn() -> Histogram>,
    long_running: Family<Request, Gauge>,
    objects: Family<Kind, Gauge>,
    stored: Family<Resource, Gauge>,
    revision: Gauge,
}

/// The stock server's buckets of a request's duration, in seconds.
const DURATIONS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

fn histogram() -> Histogram {
    Histogram::new(DURATIONS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        let long_running = Family::default();
        let objects = Family::default();
        let stored = Family::default();
        let revision = Gauge::default();
        registry.register(
            "apiserver_request",
            "Requests by verb, resource, scope and code",
            requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Time to the first byte of the answer",
            durations.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Watches and connections that are open",
            long_running.clone(),
        );
        registry.register(
            "apiserver_resource_objects",
            "Objects in the store by group and resource",
            objects.clone(),
        );
        registry.register(
            "apiserver_storage_objects",
            "Objects in the store by resource and group",
            stored.clone(),
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
            long_running,
            objects,
            stored,
            revision,
        }
    }
}

impl Metrics {
    /// Adds what flow control counts.
    pub(crate) fn include(&mut self, flow: &Measures) {
        flow.register(&mut self.registry);
    }

    /// Counts a request that has its answer.
    pub(crate) fn request(&self, labels: RequestLabels, code: StatusCode, elapsed: Duration) {
        let RequestLabels(request) = labels;
        // How long a client watches or holds a connection says nothing of the server.
        if !matches!(request.verb, "WATCH" | "CONNECT") {
            self.durations
                .get_or_create(&request)
                .observe(elapsed.as_secs_f64());
        }
        let code = u32::from(code.as_u16());
        self.requests
            .get_or_create(&Answered { request, code })
            .inc();
    }

    /// Counts a watch or a connection until what is returned goes.
    pub(crate) fn long_running(&self, labels: &RequestLabels) -> Counted {
        let gauge = self.long_running.get_or_create_owned(&labels.0);
        Counted::of(gauge)
    }

    /// All of it in the text format.
    pub(crate) fn encode(&self, storage: &Storage) -> String {
        for (row, count) in storage.counts() {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            let (group, resource) = key::group_resource(&row);
            let stored = if group.is_empty() {
                resource.to_owned()
            } else {
                format!("{resource}.{group}")
            };
            self.stored
                .get_or_create(&Resource { resource: stored })
                .set(count);
            let kind = Kind {
                group: group.to_owned(),
                resource: resource.to_owned(),
            };
            self.objects.get_or_create(&kind).set(count);
        }
        self.revision.set(storage.applied());
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}
