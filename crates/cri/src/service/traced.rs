//! Calls that are stages of a pod's start: noted, sent to a collector, and answered to a caller that asks.
//!
//! A caller's `traceparent` (the stock kubelet's, or `berth node`'s) is followed, sampling included: whoever may call the
//! CRI is root on the node. Without one the call is put into the trace of the pod's start ([`berth_trace::pod`]), at the
//! rate that is configured here.

use berth_cri_api::v1::PodSandboxMetadata;
use berth_trace::{
    ANSWER, ASK, Kind, Part, Recording, SpanContext, SpanId, TRACEPARENT, TraceId, Tracer, wire,
};
use tonic::Request;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};

use super::{Answer, Services};
use crate::engine::Shared;
use crate::error::CriError;

impl Services {
    /// As [`Services::change`], for a call that is a stage of the start of this pod.
    pub(super) async fn stage<Q, T, F>(
        &self,
        name: &'static str,
        pod: Option<PodSandboxMetadata>,
        request: Request<Q>,
        work: impl FnOnce(Shared, Q) -> F,
    ) -> Answer<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CriError>> + Send + 'static,
    {
        let tracer = self.engine.config.tracer.clone();
        let pod = pod.unwrap_or_default();
        let (recording, parent) = begin(&tracer, request.metadata(), &pod);
        let asked = request.metadata().contains_key(ASK);
        let noted = recording.clone();
        let answer = self
            .change(request, |engine, request| {
                let work = work(engine, request);
                async move {
                    let mut stage = noted.stage(parent, name);
                    stage.set_kind(Kind::Server);
                    stage.note("k8s.pod.uid", pod.uid.as_str());
                    stage.note("k8s.pod.name", pod.name.as_str());
                    stage.note("k8s.namespace.name", pod.namespace.as_str());
                    let done = stage.scope(work).await;
                    if done.is_err() {
                        stage.fail();
                    }
                    drop(stage);
                    // Whoever has called may be gone by now.
                    if noted.sampled() == Some(true) {
                        tracer.send(noted.spans());
                    }
                    done
                }
            })
            .await;
        if asked {
            tell(answer, &recording)
        } else {
            answer
        }
    }
}

/// What the call is part of.
fn begin(
    tracer: &Tracer,
    metadata: &MetadataMap,
    pod: &PodSandboxMetadata,
) -> (Recording, Option<SpanId>) {
    let caller = metadata.get(TRACEPARENT);
    let caller = caller.and_then(|text| SpanContext::parse(text.to_str().ok()?));
    match caller {
        Some(caller) => {
            let sampled = tracer.is_on().then_some(caller.sampled);
            let recording = Recording::new(Part::Cri, caller.trace, sampled);
            (recording, Some(caller.span))
        }
        None => {
            // A client of its own kind may give its pods none.
            let (trace, root) = if pod.uid.is_empty() {
                (TraceId::random(), None)
            } else {
                let (trace, root) = berth_trace::pod(&pod.uid);
                (trace, Some(root))
            };
            let recording = Recording::new(Part::Cri, trace, tracer.samples(trace));
            (recording, root)
        }
    }
}

/// The stages, with the answer or the error.
fn tell<T>(answer: Answer<T>, recording: &Recording) -> Answer<T> {
    let stages = wire::encode(&recording.spans());
    let stages = BinaryMetadataValue::from_bytes(&stages);
    match answer {
        Ok(mut answer) => {
            answer.metadata_mut().insert_bin(ANSWER, stages);
            Ok(answer)
        }
        Err(mut status) => {
            status.metadata_mut().insert_bin(ANSWER, stages);
            Err(status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodSandboxMetadata {
        PodSandboxMetadata {
            uid: "7b2a41c5-0d8b-4c55-9d8e-64a5a6b1c0ff".to_owned(),
            ..PodSandboxMetadata::default()
        }
    }

    #[test]
    fn a_callers_trace_is_followed_and_without_one_it_is_the_pods() {
        let mut metadata = MetadataMap::new();
        let (recording, parent) = begin(&Tracer::default(), &metadata, &pod());
        let (trace, root) = berth_trace::pod(&pod().uid);
        assert_eq!((recording.trace(), parent), (trace, Some(root)));
        assert_eq!(recording.sampled(), None);
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        metadata.insert(TRACEPARENT, text.parse().unwrap());
        let (recording, parent) = begin(&Tracer::default(), &metadata, &pod());
        let caller = SpanContext::parse(text).unwrap();
        assert_eq!(
            (recording.trace(), parent),
            (caller.trace, Some(caller.span))
        );
        // One that is no such thing is none.
        metadata.insert(TRACEPARENT, "00-1-2-01".parse().unwrap());
        let (_, parent) = begin(&Tracer::default(), &metadata, &pod());
        assert_eq!(parent, Some(berth_trace::pod(&pod().uid).1));
        // Pods without a UID do not share a trace.
        let nobody = || {
            begin(
                &Tracer::default(),
                &MetadataMap::new(),
                &PodSandboxMetadata::default(),
            )
        };
        assert_ne!(nobody().0.trace(), nobody().0.trace());
    }
}
