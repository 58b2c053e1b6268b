//! Sends spans to a collector, by OTLP over gRPC.
//!
//! One task owns the connection. Spans come by a bounded queue; whoever has some leaves them there and goes on. What does
//! not fit, and what the collector does not take in time, is dropped and counted: a collector that is away or slow costs
//! nobody anything.
//!
//! The parts of berth that run in one process share one exporter: each span says whose it is, and spans are sent by part,
//! with the part as `service.name`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Uri;
use http::uri::Authority;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Wire;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as WireSpan, Status};
use tokio::sync::{mpsc, oneshot};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::wire::nanoseconds;
use crate::{Kind, Part, Span, TraceId, TracingConfig, Value};

/// Spans that may wait. With more, new ones are dropped.
const QUEUE: usize = 2048;
/// Spans that are sent at once.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch.
const EXPORT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take for what is left when berth ends: the roles of a process end one after the other.
const END: Duration = Duration::from_secs(1);
/// The flags of a span whose trace is sampled.
const SAMPLED: u32 = 1;

/// Where spans go; nowhere by default. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    spans: mpsc::Sender<Span>,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
    per_million: u32,
    dropped: Arc<AtomicU64>,
}

impl Tracer {
    /// Starts the exporter's task, which ends with the last clone. Must be called where a runtime is. The connection is
    /// made when there is something to send.
    #[must_use]
    pub fn start(config: &TracingConfig) -> Self {
        let Ok(authority) = config.endpoint.parse::<Authority>() else {
            // The configuration was checked when it was read.
            tracing::error!(endpoint = config.endpoint, "no collector can be there");
            return Self::default();
        };
        let uri = Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query("/")
            .build()
            .unwrap_or_default();
        let channel = Endpoint::from(uri).connect_timeout(CONNECT).connect_lazy();
        let mut metadata = MetadataMap::new();
        for (key, value) in &config.headers {
            if let (Ok(key), Ok(value)) = (
                MetadataKey::from_bytes(key.as_bytes()),
                MetadataValue::try_from(value),
            ) {
                metadata.insert(key, value);
            }
        }
        let (spans, waiting) = mpsc::channel(QUEUE);
        let (flushes, asked) = mpsc::channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let task = ExportTask {
            client: TraceServiceClient::new(channel),
            metadata,
            resource: config.resource.clone(),
            endpoint: config.endpoint.clone(),
            dropped: Arc::clone(&dropped),
            works: true,
        };
        tokio::spawn(task.run(waiting, asked));
        Self(Some(Arc::new(Inner {
            spans,
            flushes,
            per_million: config.sampling_rate_per_million,
            dropped,
        })))
    }

    /// Whether spans go anywhere.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a trace is recorded; none where spans go nowhere.
    #[must_use]
    pub fn samples(&self, trace: TraceId) -> Option<bool> {
        let inner = self.0.as_ref()?;
        Some(trace.is_sampled(inner.per_million))
    }

    /// Sends spans, some time. Never waits.
    pub fn send(&self, spans: impl IntoIterator<Item = Span>) {
        let Some(inner) = &self.0 else {
            return;
        };
        for span in spans {
            if inner.spans.try_send(span).is_err() {
                inner.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How many spans no collector got.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let inner = self.0.as_ref();
        inner.map_or(0, |inner| inner.dropped.load(Ordering::Relaxed))
    }

    /// Sends what waits, for which the collector has a second.
    pub async fn flush(&self) {
        let Some(inner) = &self.0 else {
            return;
        };
        let (done, sent) = oneshot::channel();
        let flushed = async { inner.flushes.send(done).await.is_ok() && sent.await.is_ok() };
        if !matches!(tokio::time::timeout(END, flushed).await, Ok(true)) {
            tracing::warn!("the last spans could not be sent");
        }
    }
}

struct ExportTask {
    client: TraceServiceClient<Channel>,
    metadata: MetadataMap,
    resource: Vec<(String, String)>,
    endpoint: String,
    dropped: Arc<AtomicU64>,
    works: bool,
}

impl ExportTask {
    async fn run(
        mut self,
        mut waiting: mpsc::Receiver<Span>,
        mut asked: mpsc::Receiver<oneshot::Sender<()>>,
    ) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let flush = tokio::select! {
                flush = asked.recv() => match flush {
                    Some(flush) => Some(flush),
                    None => return,
                },
                count = waiting.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    gather(&mut waiting, &mut asked, &mut batch).await
                }
            };
            self.export(&mut batch).await;
            let Some(done) = flush else {
                continue;
            };
            while let Ok(span) = waiting.try_recv() {
                batch.push(span);
                if batch.len() == BATCH {
                    self.export(&mut batch).await;
                }
            }
            self.export(&mut batch).await;
            let _ = done.send(());
        }
    }

    async fn export(&mut self, batch: &mut Vec<Span>) {
        if batch.is_empty() {
            return;
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let mut request = tonic::Request::new(self.request(std::mem::take(batch)));
        *request.metadata_mut() = self.metadata.clone();
        let sent = tokio::time::timeout(EXPORT, self.client.export(request)).await;
        let reason = match sent {
            Ok(Ok(answer)) => {
                let partial = answer.into_inner().partial_success;
                let refused = partial.map_or(0, |partial| partial.rejected_spans);
                let refused = u64::try_from(refused).unwrap_or(0).min(count);
                self.dropped.fetch_add(refused, Ordering::Relaxed);
                if !self.works {
                    tracing::info!(endpoint = self.endpoint, "the collector takes spans again");
                    self.works = true;
                }
                return;
            }
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => format!("no answer within {} s", EXPORT.as_secs()),
        };
        self.dropped.fetch_add(count, Ordering::Relaxed);
        // Once, not for each batch.
        if std::mem::replace(&mut self.works, false) {
            let endpoint = &self.endpoint;
            tracing::warn!(
                endpoint,
                reason,
                "the collector takes no spans: they are dropped"
            );
        }
    }

    fn request(&self, batch: Vec<Span>) -> ExportTraceServiceRequest {
        let mut parts: BTreeMap<Part, Vec<WireSpan>> = BTreeMap::new();
        for span in batch {
            parts.entry(span.part).or_default().push(wire(span));
        }
        let resource_spans = parts.into_iter().map(|(part, spans)| {
            let named = [
                text("service.name", part.name()),
                text("service.version", env!("CARGO_PKG_VERSION")),
            ];
            let more = self.resource.iter().map(|(key, value)| text(key, value));
            ResourceSpans {
                resource: Some(Resource {
                    attributes: named.into_iter().chain(more).collect(),
                    ..Resource::default()
                }),
                scope_spans: vec![ScopeSpans {
                    scope: Some(InstrumentationScope {
                        name: format!("berth-{}", part.name()),
                        ..InstrumentationScope::default()
                    }),
                    spans,
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }
        });
        ExportTraceServiceRequest {
            resource_spans: resource_spans.collect(),
        }
    }
}

/// Waits a moment for others, unless there are enough or somebody asks for what there is.
async fn gather(
    waiting: &mut mpsc::Receiver<Span>,
    asked: &mut mpsc::Receiver<oneshot::Sender<()>>,
    batch: &mut Vec<Span>,
) -> Option<oneshot::Sender<()>> {
    let delay = tokio::time::sleep(DELAY);
    tokio::pin!(delay);
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        tokio::select! {
            () = &mut delay => return None,
            flush = asked.recv() => return flush,
            count = waiting.recv_many(batch, room) => if count == 0 {
                return None;
            },
        }
    }
    None
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Wire::StringValue(value.to_owned()))
}

fn pair(key: &str, value: Wire) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn wire(span: Span) -> WireSpan {
    let attributes = span.attributes.into_iter().map(|(key, value)| match value {
        Value::Text(text) => pair(key, Wire::StringValue(text)),
        Value::Number(number) => pair(key, Wire::IntValue(number)),
    });
    let kind = match span.kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
    };
    let links = span.link.iter().map(|link| Link {
        trace_id: link.trace.bytes().to_vec(),
        span_id: link.span.bytes().to_vec(),
        flags: u32::from(link.sampled),
        ..Link::default()
    });
    WireSpan {
        trace_id: span.trace.bytes().to_vec(),
        span_id: span.id.bytes().to_vec(),
        parent_span_id: span.parent.map_or_else(Vec::new, |id| id.bytes().to_vec()),
        flags: SAMPLED,
        name: span.name.into_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanoseconds(span.begun),
        end_time_unix_nano: nanoseconds(span.ended),
        attributes: attributes.collect(),
        links: links.collect(),
        status: span.failed.then(|| Status {
            code: StatusCode::Error.into(),
            ..Status::default()
        }),
        ..WireSpan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod;

    fn config(endpoint: &str) -> TracingConfig {
        TracingConfig {
            endpoint: endpoint.to_owned(),
            sampling_rate_per_million: 1_000_000,
            headers: Vec::new(),
            resource: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_collector_that_takes_nothing_holds_nobody_up() {
        // It takes the connection and never says a word.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tracer = Tracer::start(&config(&silent.local_addr().unwrap().to_string()));
        let (trace, root) = pod("u");
        let span = Span::new(Part::Node, trace, Some(root), "s");
        let count = QUEUE + BATCH + 1000;
        let before = std::time::Instant::now();
        tracer.send(std::iter::repeat_n(span, count));
        assert!(before.elapsed() < EXPORT, "nobody waits");
        let least = u64::try_from(count - QUEUE - BATCH).unwrap();
        assert!(tracer.dropped() >= least, "{}", tracer.dropped());
        let before = std::time::Instant::now();
        tracer.flush().await;
        assert!(before.elapsed() < EXPORT);
    }

    #[tokio::test]
    async fn one_that_is_away_is_counted() {
        let tracer = Tracer::start(&config("127.0.0.1:9"));
        assert_eq!(tracer.samples(pod("u").0), Some(true));
        let (trace, root) = pod("u");
        tracer.send([Span::new(Part::Node, trace, Some(root), "s")]);
        tracer.flush().await;
        assert_eq!(tracer.dropped(), 1);
        let nowhere = Tracer::default();
        nowhere.send([Span::new(Part::Node, trace, Some(root), "s")]);
        nowhere.flush().await;
        assert_eq!((nowhere.dropped(), nowhere.samples(trace)), (0, None));
    }

    #[tokio::test]
    async fn spans_are_sent_by_part() {
        let (trace, root) = pod("u");
        let spans = [Part::Shim, Part::Cri, Part::Shim]
            .map(|part| Span::new(part, trace, Some(root), "s").with("n", 7));
        let channel = Endpoint::from_static("http://localhost:1").connect_lazy();
        let task = ExportTask {
            client: TraceServiceClient::new(channel),
            metadata: MetadataMap::new(),
            resource: vec![("k".to_owned(), "v".to_owned())],
            endpoint: String::new(),
            dropped: Arc::default(),
            works: true,
        };
        let request = task.request(spans.into());
        let found: Vec<(String, usize)> = request
            .resource_spans
            .iter()
            .map(|part| {
                let attributes = &part.resource.as_ref().unwrap().attributes;
                let name = attributes[0].value.clone().unwrap().value.unwrap();
                let Wire::StringValue(name) = name else {
                    panic!()
                };
                assert_eq!(attributes[2].key, "k");
                (name, part.scope_spans[0].spans.len())
            })
            .collect();
        assert_eq!(found, [("cri".to_owned(), 1), ("shim".to_owned(), 2)]);
    }
}
