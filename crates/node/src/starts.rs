//! Where the time of pods' starts went: noted by their workers, kept for the last so many pods, and sent to a collector
//! where there is one.
//!
//! A start begins when the node sees the pod for the first time, and is over when the API server has taken the status that
//! says so: ready, or ended. What comes later (a container that is started again) is no part of it.

mod report;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use berth_trace::{Kind, Part, Recording, Span, SpanId, Stage, Tracer};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use tracing::info;

/// Pods whose starts are kept; the first ones make room. A start has 64 stages at most, of names that are short: that is
/// below 3 MiB, however pods are made.
const KEPT: usize = 256;
/// Characters of a container's name in a stage's, as long as such names may be.
const MAX_NAME: usize = 63;

/// The last pods' starts.
pub(crate) struct Starts {
    tracer: Tracer,
    kept: Mutex<VecDeque<Arc<PodStart>>>,
}

impl Starts {
    pub(crate) fn new(tracer: Tracer) -> Self {
        Self {
            tracer,
            kept: Mutex::default(),
        }
    }

    /// The node sees a pod for the first time. None for one that has been here before: another agent has started it.
    pub(crate) fn begin(&self, pod: &Pod) -> Option<Arc<PodStart>> {
        let meta = &pod.metadata;
        let status = pod.status.as_ref();
        if meta.deletion_timestamp.is_some() || status.is_some_and(|s| s.start_time.is_some()) {
            return None;
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let class = pod.spec.as_ref().map(|spec| text(&spec.runtime_class_name));
        let uid = text(&meta.uid);
        let (trace, root) = berth_trace::pod(&uid);
        let created = meta.creation_timestamp.as_ref();
        let start = Arc::new(PodStart {
            recording: Recording::new(Part::Node, trace, self.tracer.samples(trace)),
            tracer: self.tracer.clone(),
            root,
            uid,
            namespace: text(&meta.namespace),
            name: text(&meta.name),
            class: class.unwrap_or_default(),
            created: created.map_or_else(String::new, |at| at.0.to_string()),
            handler: OnceLock::new(),
            begun: SystemTime::now(),
            running: Mutex::default(),
            over: OnceLock::new(),
        });
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&start));
        Some(start)
    }

    /// The newest start of a pod with this name, or the one with this UID.
    pub(crate) fn find(
        &self,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
    ) -> Option<Arc<PodStart>> {
        let kept = self.kept.lock();
        let found = kept.iter().rev().find(|start| {
            let named = start.namespace == namespace && start.name == name;
            named && uid.is_none_or(|uid| start.uid == uid)
        });
        found.cloned()
    }
}

/// How a start came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ready,
    Succeeded,
    Failed,
    Deleted,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Ready => "Ready",
            Outcome::Succeeded => "Succeeded",
            Outcome::Failed => "Failed",
            Outcome::Deleted => "Deleted",
        }
    }

    /// What a status says; none while the pod is starting.
    fn of(status: &PodStatus) -> Option<Self> {
        let mut conditions = status.conditions.iter().flatten();
        match status.phase.as_deref() {
            Some("Succeeded") => Some(Outcome::Succeeded),
            Some("Failed") => Some(Outcome::Failed),
            _ => conditions
                .any(|c| c.type_ == "Ready" && c.status == "True")
                .then_some(Outcome::Ready),
        }
    }
}

/// One pod's start.
pub(crate) struct PodStart {
    recording: Recording,
    tracer: Tracer,
    root: SpanId,
    uid: String,
    namespace: String,
    name: String,
    class: String,
    created: String,
    handler: OnceLock<String>,
    begun: SystemTime,
    /// When the last container has begun to run.
    running: Mutex<Option<SystemTime>>,
    over: OnceLock<(SystemTime, Outcome)>,
}

impl PodStart {
    /// Begins a stage, of one container or image where that is named; none when the start is over.
    pub(crate) fn stage_of(&self, name: &'static str, of: &str) -> Stage {
        if self.over.get().is_some() {
            return Stage::default();
        }
        let of: String = of.chars().take(MAX_NAME).collect();
        let name = format!("{name} {of}");
        self.recording
            .stage(Some(self.root), name.trim_end().to_owned())
    }

    /// The handler is known.
    pub(crate) fn set_handler(&self, handler: &str) {
        let _ = self.handler.set(handler.to_owned());
    }

    /// A container runs.
    pub(crate) fn runs(&self) {
        *self.running.lock() = Some(SystemTime::now());
    }

    /// The API server has taken this status, which was sent at that time.
    pub(crate) fn written(&self, status: &PodStatus, sent: SystemTime) {
        let Some(outcome) = Outcome::of(status) else {
            return;
        };
        if self.over.get().is_some() {
            return;
        }
        // From the last container's start: probes, and that the node notices.
        if let Some(running) = *self.running.lock() {
            let mut ready = self.span("ready");
            ready.begun = running;
            ready.end(sent);
            self.recording.add(ready);
        }
        let mut status = self.span("write status");
        status.begun = sent;
        status.end(SystemTime::now());
        self.recording.add(status);
        self.finish(outcome);
    }

    fn span(&self, name: &'static str) -> Span {
        Span::new(Part::Node, self.recording.trace(), Some(self.root), name)
    }

    /// The start is over, the first time.
    pub(crate) fn finish(&self, outcome: Outcome) {
        let now = SystemTime::now();
        if self.over.set((now, outcome)).is_err() {
            return;
        }
        let took = now.duration_since(self.begun).unwrap_or_default();
        info!(
            pod = %format!("{}/{}", self.namespace, self.name),
            class = self.class,
            handler = self.handler(),
            outcome = outcome.word(),
            took = %format!("{} ms", took.as_millis()),
            stages = self.recording.summary(Some(self.root)),
            "{}",
            match outcome {
                Outcome::Ready | Outcome::Succeeded => "pod started",
                Outcome::Failed | Outcome::Deleted => "pod not started",
            }
        );
        if self.recording.sampled() != Some(true) {
            return;
        }
        let root = Span {
            id: self.root,
            parent: None,
            kind: Kind::Internal,
            begun: self.begun,
            ended: now,
            failed: outcome == Outcome::Failed,
            ..self.span("start pod")
        };
        let root = root
            .with("k8s.pod.uid", self.uid.as_str())
            .with("k8s.pod.name", self.name.as_str())
            .with("k8s.namespace.name", self.namespace.as_str())
            .with("berth.runtime_class", self.class.as_str())
            .with("berth.runtime_handler", self.handler())
            .with("berth.outcome", outcome.word());
        // The runtime sends its own.
        let spans = self.recording.spans().into_iter();
        self.tracer
            .send(spans.filter(|span| span.part == Part::Node).chain([root]));
    }

    fn handler(&self) -> &str {
        self.handler.get().map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodCondition;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn pod(n: usize) -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some("p".to_owned()),
                namespace: Some("n".to_owned()),
                uid: Some(format!("u{n}")),
                ..ObjectMeta::default()
            },
            ..Pod::default()
        }
    }

    fn status(phase: &str, ready: bool) -> PodStatus {
        PodStatus {
            phase: Some(phase.to_owned()),
            conditions: ready.then(|| {
                vec![PodCondition {
                    type_: "Ready".to_owned(),
                    status: "True".to_owned(),
                    ..PodCondition::default()
                }]
            }),
            ..PodStatus::default()
        }
    }

    #[test]
    fn the_last_pods_are_kept_and_the_newest_of_a_name_is_found() {
        let starts = Starts::new(Tracer::default());
        (0..KEPT + 10).for_each(|n| drop(starts.begin(&pod(n))));
        assert_eq!(starts.kept.lock().len(), KEPT);
        let newest = starts.find("n", "p", None).unwrap();
        assert_eq!(newest.uid, format!("u{}", KEPT + 9));
        assert!(starts.find("n", "p", Some("u100")).is_some());
        // Gone, of another namespace, and another pod's name with a UID that is kept.
        assert!(starts.find("n", "p", Some("u1")).is_none());
        assert!(starts.find("m", "p", None).is_none());
        assert!(starts.find("n", "q", Some("u100")).is_none());
    }

    #[test]
    fn a_pod_that_was_here_before_is_not_started_again() {
        let starts = Starts::new(Tracer::default());
        let mut old = pod(1);
        old.status = Some(PodStatus {
            start_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                jiff::Timestamp::UNIX_EPOCH,
            )),
            ..PodStatus::default()
        });
        assert!(starts.begin(&old).is_none());
    }

    #[test]
    fn a_start_is_over_once() {
        let starts = Starts::new(Tracer::default());
        let start = starts.begin(&pod(1)).unwrap();
        drop(start.stage_of("create", &"c".repeat(1000)));
        start.runs();
        start.written(&status("Running", false), SystemTime::now());
        assert_eq!(start.over.get(), None);
        start.written(&status("Running", true), SystemTime::now());
        let names = |start: &PodStart| -> Vec<String> {
            let spans = start.recording.spans();
            spans
                .iter()
                .map(|span| span.name.clone().into_owned())
                .collect()
        };
        let noted = names(&start);
        assert_eq!(noted[1..], ["ready", "write status"]);
        assert_eq!(noted[0].len(), "create ".len() + MAX_NAME);
        start.written(&status("Failed", false), SystemTime::now());
        drop(start.stage_of("later", ""));
        start.finish(Outcome::Deleted);
        assert_eq!(names(&start), noted);
        assert_eq!(start.over.get().map(|over| over.1), Some(Outcome::Ready));
    }
}
