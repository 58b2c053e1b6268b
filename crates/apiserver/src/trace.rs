//! Traces of requests, sent by OTLP over gRPC to a collector (`--tracing-config-file`, or OpenTelemetry's own variables).
//!
//! A request has one span, and within it one for each stage: authenticate, authorize, admit, validate, store. Webhooks are
//! told the span in `traceparent`. Whose request comes with a `traceparent` of his own: a member of `system:masters` is
//! followed, sampling included; for all others it is a link and the server's own rate decides, so that nobody outside
//! makes the server record.
//!
//! Without a configuration there is no [`Tracing`], and a request carries an empty [`Traced`]. Spans that the collector
//! does not take in time are dropped: no request ever waits for it.

mod config;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Link, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span};

use crate::request::ApiRequest;
use crate::user::{MASTERS, User};

pub use config::{TracingConfig, TracingConfigError};

/// The header by which the next one knows the span.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// How long the collector may take for what is left when the server ends.
const END: Duration = Duration::from_secs(3);
/// How long it may take for some spans.
const EXPORT: Duration = Duration::from_secs(10);
/// Characters of an attribute that a client chose.
const MAX_ATTRIBUTE: usize = 256;

/// Makes spans and sends them.
pub(crate) struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Tracing {
    /// Must be called where a runtime is: the connection to the collector, which is made when there is something to send,
    /// has a task of its own.
    ///
    /// # Errors
    /// When the endpoint is none.
    pub(crate) fn new(config: &TracingConfig) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(format!("http://{}", config.endpoint))
            .with_timeout(EXPORT)
            .build()?;
        let rate = f64::from(config.sampling_rate_per_million) / 1_000_000.0;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(rate)));
        let resource = Resource::builder()
            .with_service_name("apiserver")
            .with_attribute(KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION").to_owned(),
            ))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("berth-apiserver");
        Ok(Self { provider, tracer })
    }

    /// Sends what is left.
    pub(crate) async fn close(&self) {
        let provider = self.provider.clone();
        let end = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(END));
        if let Ok(Err(error)) = end.await {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }

    /// A request comes, of which nothing is known yet.
    pub(crate) fn open(self: &Arc<Self>) -> Traced {
        Traced(Some(Arc::new(Inner {
            tracing: Arc::clone(self),
            begun: SystemTime::now(),
            context: OnceLock::new(),
        })))
    }
}

struct Inner {
    tracing: Arc<Tracing>,
    begun: SystemTime,
    /// With the request's span in it, which ends with it; empty while it is not known who asks, and when the request has
    /// none.
    context: OnceLock<Context>,
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
        let tracer = &inner.tracing.tracer;
        let remote = remote(headers).filter(SpanContext::is_valid);
        let parent = Context::new();
        let mut builder = tracer
            .span_builder(name(method, request))
            .with_kind(SpanKind::Server)
            .with_start_time(inner.begun);
        let parent = match remote {
            Some(remote) if user.in_group(MASTERS) => parent.with_remote_span_context(remote),
            Some(remote) => {
                builder = builder.with_links(vec![Link::with_context(remote)]);
                parent
            }
            None => parent,
        };
        let span = builder.start_with_context(tracer, &parent);
        if !opentelemetry::trace::Span::is_recording(&span) {
            return;
        }
        let context = parent.with_span(span);
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.as_str().to_owned()),
            KeyValue::new("audit-id", text(Some(id))),
            KeyValue::new(
                "user_agent.original",
                text(headers.get(http::header::USER_AGENT)),
            ),
        ];
        if let Some(ApiRequest::Resource(request)) = request {
            let target = &request.target;
            attributes.extend([
                KeyValue::new("k8s.verb", request.verb.as_str()),
                KeyValue::new("k8s.group", shortened(&target.group)),
                KeyValue::new("k8s.resource", shortened(&target.resource)),
                KeyValue::new("k8s.namespace.name", shortened(&target.namespace)),
            ]);
        }
        context.span().set_attributes(attributes);
        let authenticate = tracer
            .span_builder("authenticate")
            .with_start_time(inner.begun);
        drop(authenticate.start_with_context(tracer, &context));
        let _ = inner.context.set(context);
    }

    /// A stage of the request, until what is returned is dropped.
    pub(crate) fn stage(&self, name: &'static str) -> Stage {
        let stage = || {
            let inner = self.0.as_ref()?;
            let context = inner.context.get()?;
            Some(inner.tracing.tracer.start_with_context(name, context))
        };
        Stage(stage())
    }

    /// There is an answer.
    pub(crate) fn answered(&self, code: u16) {
        let Some(context) = self.0.as_ref().and_then(|inner| inner.context.get()) else {
            return;
        };
        let span = context.span();
        let status = i64::from(code);
        span.set_attribute(KeyValue::new("http.response.status_code", status));
        if code >= 500 {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// A stage of a request.
pub(crate) struct Stage(Option<Span>);

impl Stage {
    /// What somebody outside is told who is asked in this stage.
    pub(crate) fn traceparent(&self) -> Option<HeaderValue> {
        let span = self.0.as_ref()?;
        let context = opentelemetry::trace::Span::span_context(span);
        let text = format!(
            "00-{}-{}-{:02x}",
            context.trace_id(),
            context.span_id(),
            context.trace_flags().to_u8()
        );
        HeaderValue::try_from(text).ok()
    }
}

/// The span that a request was sent in, as its headers say.
fn remote(headers: &HeaderMap) -> Option<SpanContext> {
    struct Headers<'a>(&'a HeaderMap);

    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)?.to_str().ok()
        }

        fn keys(&self) -> Vec<&str> {
            Vec::new()
        }
    }

    headers.get(TRACEPARENT)?;
    let context =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    Some(context.span().span_context().clone())
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
    let text = value.map(|value| String::from_utf8_lossy(value.as_bytes()));
    shortened(&text.unwrap_or_default())
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_ATTRIBUTE).collect()
}
