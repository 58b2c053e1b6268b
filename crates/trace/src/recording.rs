//! What is noted of one pod's start, or of one call.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::{Kind, Part, Span, SpanContext, SpanId, TraceId, Value};

/// A recording has no more spans: a pod has as many containers as its author likes.
pub const MAX_SPANS: usize = 64;

tokio::task_local! {
    static CURRENT: Current;
}

/// What the current task works for.
#[derive(Debug, Clone)]
pub struct Current {
    recording: Recording,
    parent: Option<SpanId>,
}

impl Current {
    /// The recording.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// What the next part is told; none where nobody here has decided whether the trace is recorded.
    #[must_use]
    pub fn context(&self) -> Option<SpanContext> {
        Some(SpanContext {
            trace: self.recording.trace(),
            span: self.parent?,
            sampled: self.recording.sampled()?,
        })
    }

    /// The stages by now, for a log: `network 12 ms, shim 30 ms`.
    #[must_use]
    pub fn summary(&self) -> String {
        self.recording.summary(self.parent)
    }

    /// Takes over stages that the callee has answered ([`crate::wire`]): what belongs to no other of them is part of the
    /// call.
    pub fn take(&self, mut spans: Vec<Span>) {
        let known: Vec<SpanId> = spans.iter().map(|span| span.id).collect();
        for span in &mut spans {
            span.trace = self.recording.trace();
            if span.parent.is_none_or(|parent| !known.contains(&parent)) {
                span.parent = self.parent;
            }
        }
        spans.into_iter().for_each(|span| self.recording.add(span));
    }
}

/// What the current task works for, if it is recorded.
#[must_use]
pub fn current() -> Option<Current> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Begins a stage of what the current task works for; one that nobody sees where that is not recorded.
#[must_use]
pub fn stage(name: impl Into<Cow<'static, str>>) -> Stage {
    match current() {
        Some(current) => current.recording.stage(current.parent, name),
        None => Stage(None),
    }
}

/// A stage of what the current task works for, and what is noted meanwhile is part of it. An error makes it a failed one.
pub async fn of_call<T, E>(
    name: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut stage = stage(name);
    let done = stage.scope(work).await;
    if done.is_err() {
        stage.fail();
    }
    done
}

/// Stages of one pod's start, or of one call. Cheap to clone; all clones are the same one.
#[derive(Debug, Clone)]
pub struct Recording(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    part: Part,
    trace: TraceId,
    sampled: Option<bool>,
    spans: Mutex<Vec<Span>>,
}

impl Recording {
    /// An empty one. `sampled` says whether the trace is sent to a collector, as far as that was decided here.
    #[must_use]
    pub fn new(part: Part, trace: TraceId, sampled: Option<bool>) -> Self {
        Self(Arc::new(Inner {
            part,
            trace,
            sampled,
            spans: Mutex::default(),
        }))
    }

    /// The trace.
    #[must_use]
    pub fn trace(&self) -> TraceId {
        self.0.trace
    }

    /// Whether the trace is sent to a collector.
    #[must_use]
    pub fn sampled(&self) -> Option<bool> {
        self.0.sampled
    }

    /// Begins a stage; it ends when what is returned is dropped.
    #[must_use]
    pub fn stage(&self, parent: Option<SpanId>, name: impl Into<Cow<'static, str>>) -> Stage {
        let span = Span::new(self.0.part, self.0.trace, parent, name);
        Stage(Some(Box::new(Open {
            recording: self.clone(),
            span,
        })))
    }

    /// Takes note of a span; beyond [`MAX_SPANS`] it is dropped.
    pub fn add(&self, span: Span) {
        let mut spans = self.0.spans.lock();
        if spans.len() < MAX_SPANS {
            spans.push(span);
        }
    }

    /// The stages that are part of a span, for a log: `network 12 ms, shim 30 ms`.
    #[must_use]
    pub fn summary(&self, parent: Option<SpanId>) -> String {
        let mut spans = self.spans();
        spans.retain(|span| span.parent == parent);
        spans.sort_by_key(|span| span.begun);
        let line = |span: &Span| {
            let took = span.ended.duration_since(span.begun).unwrap_or_default();
            let failed = if span.failed { " (failed)" } else { "" };
            format!("{} {} ms{failed}", span.name, took.as_millis())
        };
        spans.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    /// What there is by now.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.0.spans.lock().clone()
    }
}

#[derive(Debug)]
struct Open {
    recording: Recording,
    span: Span,
}

/// A stage that goes on until this is dropped.
#[derive(Debug, Default)]
pub struct Stage(Option<Box<Open>>);

impl Stage {
    /// Runs work whose stages are parts of this one, and whose calls are made in it.
    pub fn scope<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = T> {
        let current = self.0.as_ref().map(|open| Current {
            recording: open.recording.clone(),
            parent: Some(open.span.id),
        });
        // Whoever waits for it has a pointer in its state, and not all of it again.
        let work = Box::pin(work);
        async move {
            match current {
                Some(current) => CURRENT.scope(current, work).await,
                None => work.await,
            }
        }
    }

    /// What it is to its caller.
    pub fn set_kind(&mut self, kind: Kind) {
        if let Some(open) = &mut self.0 {
            open.span.kind = kind;
        }
    }

    /// It has failed.
    pub fn fail(&mut self) {
        if let Some(open) = &mut self.0 {
            open.span.failed = true;
        }
    }

    /// More about it.
    pub fn note(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.0 {
            open.span.attributes.push((key, value.into()));
        }
    }

    /// Its id, where it is recorded.
    #[must_use]
    pub fn id(&self) -> Option<SpanId> {
        self.0.as_ref().map(|open| open.span.id)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            let Open {
                recording,
                mut span,
            } = *open;
            span.end(SystemTime::now());
            recording.add(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod;

    fn recording() -> Recording {
        Recording::new(Part::Node, pod("u").0, Some(true))
    }

    #[tokio::test]
    async fn stages_belong_to_the_call_that_they_are_part_of() {
        drop(stage("nobody's"));
        assert!(current().is_none());
        let recording = recording();
        let call = recording.stage(None, "call");
        let id = call.id();
        let two = async {
            let failed = of_call("failed", async {
                assert!(current().unwrap().context().unwrap().span != id.unwrap());
                Err::<(), ()>(())
            });
            let beside = of_call("beside", async { Ok::<(), ()>(()) });
            let _ = tokio::join!(failed, beside);
        };
        call.scope(two).await;
        drop(call);
        let spans = recording.spans();
        let names: Vec<(&str, bool)> = spans.iter().map(|s| (&*s.name, s.failed)).collect();
        assert_eq!(
            names,
            [("failed", true), ("beside", false), ("call", false)]
        );
        assert!(spans[..2].iter().all(|span| span.parent == id));
    }

    #[tokio::test]
    async fn answered_stages_hang_below_the_call() {
        let recording = recording();
        let call = recording.stage(None, "call");
        let other = pod("of somebody else").0;
        let outer = Span::new(Part::Cri, other, Some(SpanId::random()), "outer");
        let inner = Span::new(Part::Shim, other, Some(outer.id), "inner");
        let (outer_id, id) = (outer.id, call.id());
        call.scope(async { current().unwrap().take(vec![inner, outer]) })
            .await;
        let spans = recording.spans();
        assert_eq!(spans[0].parent, Some(outer_id));
        assert_eq!(spans[1].parent, id);
        // Whoever answers does not choose the trace.
        assert!(spans.iter().all(|span| span.trace == recording.trace()));
    }

    #[test]
    fn a_recording_is_bounded() {
        let recording = recording();
        (0..1000).for_each(|n| drop(recording.stage(None, format!("container {n}"))));
        assert_eq!(recording.spans().len(), MAX_SPANS);
    }
}
