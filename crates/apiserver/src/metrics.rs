//! What the server counts, under the stock server's names.

mod labels;
mod process;
mod sizes;

use std::sync::Arc;
use std::time::Duration;

use berth_trace::Tracer;
use http::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::labels::{Answered, Build, Kept, Kind, Request, Resource, Service, Terminated, Watched};
use self::sizes::{EXPIRATIONS, as_float, histogram, sizes};
use crate::admission;
use crate::aggregation::Remote;
use crate::audit::Auditor;
use crate::flow::{Counted, Measures};
use crate::request::Target;
use crate::storage::{Storage, key};
use crate::trace;
use crate::version::GIT_VERSION;

pub(crate) use self::labels::RequestLabels;

/// The counters of a server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Request, Histogram, fn() -> Histogram>,
    sli: Family<Request, Histogram, fn() -> Histogram>,
    sizes: Family<Request, Histogram, fn() -> Histogram>,
    terminations: Family<Terminated, Counter>,
    watch_events: Family<Watched, Counter>,
    certificates: Histogram,
    unavailable: Family<Service, Gauge>,
    long_running: Family<Request, Gauge>,
    objects: Family<Kind, Gauge>,
    stored: Family<Resource, Gauge>,
    revision: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        let sli = Family::new_with_constructor(histogram as fn() -> Histogram);
        let response_sizes = Family::new_with_constructor(sizes as fn() -> Histogram);
        let terminations = Family::default();
        let watch_events = Family::default();
        let certificates = Histogram::new(EXPIRATIONS);
        let unavailable = Family::default();
        let build = Family::<Build, Gauge>::default();
        build
            .get_or_create(&Build {
                major: "1",
                minor: "36",
                git_version: GIT_VERSION,
                platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
            })
            .set(1);
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
            "apiserver_request_sli_duration_seconds",
            "Time to the first byte of the answer; waiting for webhooks is part of it",
            sli.clone(),
        );
        registry.register(
            "apiserver_response_sizes",
            "Bytes of the answers to GET and LIST",
            response_sizes.clone(),
        );
        registry.register(
            "apiserver_request_terminations",
            "Requests that were refused or given up to protect the server",
            terminations.clone(),
        );
        registry.register(
            "apiserver_watch_events",
            "Events that were sent to watches",
            watch_events.clone(),
        );
        registry.register(
            "apiserver_client_certificate_expiration_seconds",
            "Time for which the certificates of requests are still good",
            certificates.clone(),
        );
        registry.register(
            "aggregator_unavailable_apiservice",
            "APIServices with a Service that are not available",
            unavailable.clone(),
        );
        registry.register(
            "kubernetes_build_info",
            "The version whose API this is; always 1",
            build,
        );
        registry.register_collector(Box::new(process::Process));
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
            sli,
            sizes: response_sizes,
            terminations,
            watch_events,
            certificates,
            unavailable,
            long_running,
            objects,
            stored,
            revision,
        }
    }
}

impl Metrics {
    /// Adds what flow control, admission and the storage count.
    pub(crate) fn include(
        &mut self,
        flow: &Measures,
        admission: &admission::Measures,
        storage: &Storage,
    ) {
        flow.register(&mut self.registry);
        admission.register(&mut self.registry);
        storage.measures().register(&mut self.registry);
    }

    /// Adds what others in this process count.
    pub(crate) fn include_more(&mut self, register: fn(&mut Registry)) {
        register(&mut self.registry);
    }

    /// Adds what a collector did not take.
    pub(crate) fn include_traces(&mut self, tracer: &Tracer) {
        self.registry
            .register_collector(Box::new(trace::Dropped(tracer.clone())));
    }

    /// Adds what the audit log counts.
    pub(crate) fn include_audit(&mut self, auditor: &Auditor) {
        auditor.register(&mut self.registry);
    }

    /// Counts a request that has its answer.
    pub(crate) fn request(
        &self,
        labels: RequestLabels,
        code: StatusCode,
        elapsed: Duration,
        bytes: Option<u64>,
    ) {
        let RequestLabels(request) = labels;
        // How long a client watches or holds a connection says nothing of the server.
        if !matches!(request.verb, "WATCH" | "CONNECT") {
            let seconds = elapsed.as_secs_f64();
            self.durations.get_or_create(&request).observe(seconds);
            self.sli.get_or_create(&request).observe(seconds);
        }
        if let Some(bytes) = bytes.filter(|_| matches!(request.verb, "GET" | "LIST")) {
            self.sizes.get_or_create(&request).observe(as_float(bytes));
        }
        if matches!(
            code,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::GATEWAY_TIMEOUT
        ) {
            let request = Kept::of(&request);
            let code = u32::from(code.as_u16());
            self.terminations
                .get_or_create(&Terminated { request, code })
                .inc();
        }
        let code = u32::from(code.as_u16());
        self.requests
            .get_or_create(&Answered { request, code })
            .inc();
    }

    /// What the events of a watch of a resource are counted with.
    pub(crate) fn watch(&self, target: &Target) -> Counter {
        self.watch_events.get_or_create_owned(&Watched {
            group: target.group.clone(),
            version: target.version.clone(),
            resource: target.resource.clone(),
        })
    }

    /// A request came with a certificate that is good for so many more seconds.
    pub(crate) fn certificate(&self, seconds: i64) {
        let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
        self.certificates.observe(f64::from(seconds));
    }

    /// Counts a watch or a connection until what is returned goes.
    pub(crate) fn long_running(&self, labels: &RequestLabels) -> Counted {
        let gauge = self.long_running.get_or_create_owned(&labels.0);
        Counted::of(gauge)
    }

    /// All of it in the text format.
    pub(crate) fn encode(&self, storage: &Storage, remotes: &[Arc<Remote>]) -> String {
        self.unavailable.clear();
        for remote in remotes {
            let name = format!("{}.{}", remote.version, remote.group);
            let unavailable = i64::from(!remote.is_available());
            self.unavailable
                .get_or_create(&Service { name })
                .set(unavailable);
        }
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
