//! Traces of a pod's start, over all parts of berth, and the one exporter of spans (OTLP over gRPC).
//!
//! A pod has no field for a trace. So the trace's id is the pod's UID, and the id of its root span follows from the UID,
//! too ([`pod`]): API server, scheduler, node and runtime put their spans into the same trace without a word to each
//! other. The UID is the API server's to give, so whoever makes pods chooses no trace.
//!
//! Within a part a [`Recording`] gathers the stages of one pod or call; [`stage`] adds one to the recording that the
//! current task works for, and costs nothing where there is none. A call to the next part has the W3C `traceparent`, as
//! metadata of gRPC and ttrpc ([`TRACEPARENT`]). A part that asks for it ([`ASK`]) is answered with the stages of the
//! call ([`wire`]): so the node knows the runtime's, and the runtime the shim's, without a collector, and a shim, of
//! which there is one for each pod, needs no connection of its own.
//!
//! With the feature `export`, a `Tracer` sends spans to a collector. Its queue is bounded: what does not fit is dropped
//! and counted, and nobody ever waits for a collector.

#[cfg(feature = "export")]
mod config;
#[cfg(feature = "export")]
mod export;
mod id;
mod recording;
pub mod report;
mod span;
pub mod wire;

#[cfg(feature = "export")]
pub use config::{TracingConfig, TracingConfigError};
#[cfg(feature = "export")]
pub use export::Tracer;
pub use id::{SpanContext, SpanId, TraceId, pod};
pub use recording::{Current, MAX_SPANS, Recording, Stage, current, of_call, stage};
pub use span::{Kind, Part, Span, Value};

/// Metadata (and header) that names the span in which a call is made: W3C Trace Context.
pub const TRACEPARENT: &str = "traceparent";
/// Metadata of a call that asks for its stages.
pub const ASK: &str = "berth-stages";
/// Metadata of the answer that has them ([`wire`]).
pub const ANSWER: &str = "berth-stages-bin";
