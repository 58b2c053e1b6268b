//! Traces of requests, sent by OTLP over gRPC to a collector (`--tracing-config-file`, or OpenTelemetry's own variables).
//!
//! A request has one span, and within it one for each stage: authenticate, authorize, admit, validate, store. Webhooks are
//! told the span in `traceparent`. Whose request comes with a `traceparent` of his own: a member of `system:masters` is
//! followed, sampling included; for all others it is a link and the server's own rate decides, so that nobody outside
//! makes the server record.
//!
//! A request that creates a pod is part of the trace of the pod's start as well ([`berth_trace::pod`]), with a link to the
//! request's own.
//!
//! Without a configuration a request carries an empty [`Traced`]. No request ever waits for a collector.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use berth_trace::{Kind, Part, Span, SpanContext, SpanId, TRACEPARENT, TraceId, Tracer};
use http::{HeaderMap, HeaderValue};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::ConstCounter;

use crate::request::ApiRequest;
use crate::user::{MASTERS, User};

/// Stages of a request; more are dropped.
const MAX_STAGES: usize = 64;

/// A request comes, of which nothing is known yet.
pub(crate) fn open(tracer: &Tracer) -> Traced {
    if !tracer.is_on() {
        return Traced::default();
    }
    Traced(Some(Arc::new(Inner {
        tracer: tracer.clone(),
        begun: SystemTime::now(),
        root: OnceLock::new(),
        gathered: Mutex::default(),
    })))
}

struct Inner {
    tracer: Tracer,
    begun: SystemTime,
    /// The request's span; empty while it is not known who asks.
    root: OnceLock<Root>,
    gathered: Mutex<Gathered>,
}

struct Root {
    span: Span,
    sampled: bool,
}

#[derive(Default)]
struct Gathered {
    stages: Vec<Span>,
    /// The pod that was created: its UID, namespace and name.
    pod: Option<[String; 3]>,
    answered: bool,
}

/// The span of a request; empty when it has none.
#[derive(Clone, Default)]
pub(crate) struct Traced(Option<Arc<Inner>>);

impl Traced {
    /// It is known who asks: the span begins, at the time at which the request came.
    pub(crate) fn begin(
        &self,
        user: &User,
        request: Option<&ApiRequest>,
        headers: &HeaderMap,
        method: &http::Method,
        id: &HeaderValue,
    ) {
        let Some(inner) = &self.0 else {
            return;
        };
        let remote = headers.get(TRACEPARENT);
        let remote = remote.and_then(|value| SpanContext::parse(value.to_str().ok()?));
        let followed = remote.filter(|_| user.in_group(MASTERS));
        let trace = followed.map_or_else(TraceId::random, |remote| remote.trace);
        let sampled = match followed {
            Some(remote) => remote.sampled,
            None => inner.tracer.samples(trace).unwrap_or(false),
        };
        let parent = followed.map(|remote| remote.span);
        let mut span = Span::new(Part::ApiServer, trace, parent, name(method, request))
            .with("http.request.method", method.as_str())
            .with("audit-id", &*text(Some(id)))
            .with(
                "user_agent.original",
                &*text(headers.get(http::header::USER_AGENT)),
            );
        span.kind = Kind::Server;
        span.begun = inner.begun;
        span.link = remote.filter(|_| followed.is_none());
        if let Some(ApiRequest::Resource(request)) = request {
            let target = &request.target;
            span = span
                .with("k8s.verb", request.verb.as_str())
                .with("k8s.group", &*target.group)
                .with("k8s.resource", &*target.resource)
                .with("k8s.namespace.name", &*target.namespace);
        }
        let mut authenticate = Span::new(Part::ApiServer, trace, Some(span.id), "authenticate");
        authenticate.begun = inner.begun;
        inner.add(authenticate);
        let _ = inner.root.set(Root { span, sampled });
    }

    /// A stage of the request, until what is returned is dropped.
    pub(crate) fn stage(&self, name: &'static str) -> Stage {
        let stage = || {
            let inner = self.0.as_ref()?;
            let root = &inner.root.get()?.span;
            let span = Span::new(Part::ApiServer, root.trace, Some(root.id), name);
            Some((Arc::clone(inner), span))
        };
        Stage(stage())
    }

    /// The request has created a pod.
    pub(crate) fn created_pod(&self, metadata: &ObjectMeta) {
        let Some(inner) = &self.0 else {
            return;
        };
        let parts = [&metadata.uid, &metadata.namespace, &metadata.name];
        let parts = parts.map(|part| part.clone().unwrap_or_default());
        inner.gathered.lock().pod = Some(parts);
    }

    /// There is an answer: all is sent. What comes later (a watch's) is not noted.
    pub(crate) fn answered(&self, code: u16) {
        let Some((inner, root)) = self.0.as_ref().and_then(|i| Some((i, i.root.get()?))) else {
            return;
        };
        let Gathered { stages, pod, .. } = {
            let mut gathered = inner.gathered.lock();
            let all = std::mem::take(&mut *gathered);
            gathered.answered = true;
            all
        };
        let mut span = root.span.clone();
        span.end(SystemTime::now());
        span = span.with("http.response.status_code", i64::from(code));
        span.failed = code >= 500;
        if let Some(pod) = pod.filter(|_| code < 300) {
            inner
                .tracer
                .send(inner.of_pod(&span, root.sampled, &stages, &pod));
        }
        if root.sampled {
            inner.tracer.send(stages);
            inner.tracer.send([span]);
        }
    }
}

impl Inner {
    fn add(&self, span: Span) {
        let mut gathered = self.gathered.lock();
        if !gathered.answered && gathered.stages.len() < MAX_STAGES {
            gathered.stages.push(span);
        }
    }

    /// The request as a part of its pod's start.
    fn of_pod(
        &self,
        request: &Span,
        sampled: bool,
        stages: &[Span],
        [uid, namespace, name]: &[String; 3],
    ) -> Vec<Span> {
        let (trace, root) = berth_trace::pod(uid);
        if self.tracer.samples(trace) != Some(true) {
            return Vec::new();
        }
        let mut span = request.clone();
        (span.trace, span.id, span.parent) = (trace, SpanId::random(), Some(root));
        span.link = sampled.then_some(SpanContext {
            trace: request.trace,
            span: request.id,
            sampled,
        });
        span.name = "create pod".into();
        let span = span
            .with("k8s.pod.uid", &**uid)
            .with("k8s.namespace.name", &**namespace)
            .with("k8s.pod.name", &**name);
        let of_pod = |stage: &Span| Span {
            trace,
            id: SpanId::random(),
            parent: Some(span.id),
            ..stage.clone()
        };
        let mut all: Vec<Span> = stages.iter().map(of_pod).collect();
        all.push(span);
        all
    }
}

/// A stage of a request.
pub(crate) struct Stage(Option<(Arc<Inner>, Span)>);

impl Stage {
    /// What somebody outside is told who is asked in this stage.
    pub(crate) fn traceparent(&self) -> Option<HeaderValue> {
        let (inner, span) = self.0.as_ref()?;
        let context = SpanContext {
            trace: span.trace,
            span: span.id,
            sampled: inner.root.get()?.sampled,
        };
        context
            .sampled
            .then(|| HeaderValue::try_from(context.to_string()).ok())?
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some((inner, mut span)) = self.0.take() {
            span.end(SystemTime::now());
            inner.add(span);
        }
    }
}

/// Counts the spans that no collector got.
#[derive(Debug)]
pub(crate) struct Dropped(pub(crate) Tracer);

impl Collector for Dropped {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let descriptor = encoder.encode_descriptor(
            "berth_trace_spans_dropped",
            "Spans that the collector did not take in time",
            None,
            ConstCounter::<u64>::TYPE,
        )?;
        ConstCounter::new(self.0.dropped()).encode(descriptor)
    }
}

/// A name with few values: the path with its parts named as the stock server does.
fn name(method: &http::Method, request: Option<&ApiRequest>) -> String {
    let Some(ApiRequest::Resource(request)) = request else {
        return method.as_str().chars().take(16).collect();
    };
    let target = &request.target;
    if !target.is_served() {
        return method.as_str().chars().take(16).collect();
    }
    let mut path = if target.group.is_empty() {
        format!("/api/{}", target.version)
    } else {
        format!("/apis/{}/{}", target.group, target.version)
    };
    if !target.namespace.is_empty() && target.resource != "namespaces" {
        path.push_str("/namespaces/{:namespace}");
    }
    path.push('/');
    path.push_str(&target.resource);
    if !target.name.is_empty() {
        path.push_str("/{:name}");
    }
    if !target.subresource.is_empty() {
        path.push('/');
        path.push_str(&target.subresource);
    }
    format!("{method} {path}")
}

fn text(value: Option<&HeaderValue>) -> String {
    let text = value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    text.unwrap_or_default()
}
