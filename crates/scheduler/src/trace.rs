//! The scheduler's part of the trace of a pod's start: how long it waited for its node, and its binding.

use std::collections::HashMap;
use std::time::SystemTime;

use berth_trace::{Part, Span, Tracer};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::queue::PodKey;

/// When pods were first seen without a node: as many as are pending, and none without a collector.
#[derive(Default)]
pub(crate) struct Waiting {
    tracer: Tracer,
    since: HashMap<PodKey, SystemTime>,
}

impl Waiting {
    pub(crate) fn new(tracer: Tracer) -> Self {
        Self {
            tracer,
            since: HashMap::new(),
        }
    }

    /// A pod waits for a node.
    pub(crate) fn begin(&mut self, key: &PodKey) {
        if self.tracer.is_on() && !self.since.contains_key(key) {
            self.since.insert(key.clone(), SystemTime::now());
        }
    }

    /// It is gone, or has one.
    pub(crate) fn end(&mut self, key: &str) {
        self.since.remove(key);
    }

    /// It is being bound now.
    pub(crate) fn bind(&self, key: &str) -> Binding {
        let now = SystemTime::now();
        Binding {
            tracer: self.tracer.clone(),
            since: self.since.get(key).copied().unwrap_or(now),
            begun: now,
        }
    }
}

/// A binding under way.
pub(crate) struct Binding {
    tracer: Tracer,
    since: SystemTime,
    begun: SystemTime,
}

impl Binding {
    /// How it came out.
    pub(crate) fn done(self, pod: &Pod, node: &str, failed: bool) {
        let (trace, root) = berth_trace::pod(pod.metadata.uid.as_deref().unwrap_or_default());
        if self.tracer.samples(trace) != Some(true) {
            return;
        }
        let span = |parent, name: &'static str, begun, ended| {
            let mut span = Span::new(Part::Scheduler, trace, Some(parent), name);
            span.begun = begun;
            span.end(ended);
            span
        };
        let now = SystemTime::now();
        let mut all = span(root, "schedule", self.since, now)
            .with("k8s.pod.name", pod.name_any().as_str())
            .with(
                "k8s.namespace.name",
                pod.namespace().unwrap_or_default().as_str(),
            )
            .with("k8s.node.name", node);
        all.failed = failed;
        let queue = span(all.id, "queue", self.since, self.begun);
        let mut bind = span(all.id, "bind", self.begun, now);
        bind.failed = failed;
        self.tracer.send([queue, bind, all]);
    }
}
