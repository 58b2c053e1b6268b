//! The stages of a call, answered to a caller that asks for them.
//!
//! A shim has no connection to a collector: there is one for each pod, and whoever drives it has one. The stages go with
//! the answer, in a field that no message of containerd's has and that everybody else skips.

use std::collections::HashMap;

use berth_trace::{ASK, Part, Recording, SpanContext, Stage, TRACEPARENT, TraceId, wire};
use protobuf::Message;

/// What is noted of a call; nothing for a caller that does not ask.
#[derive(Debug, Default)]
pub(super) struct Stages(Option<Recording>);

impl Stages {
    pub(super) fn of(metadata: &HashMap<String, Vec<String>>) -> Self {
        let first = |key: &str| metadata.get(key).and_then(|values| values.first());
        if first(ASK).is_none() {
            return Self(None);
        }
        let caller = first(TRACEPARENT).and_then(|text| SpanContext::parse(text));
        // The trace is the caller's to say; without one it goes by none.
        let trace = caller.map_or_else(TraceId::random, |caller| caller.trace);
        Self(Some(Recording::new(Part::Shim, trace, None)))
    }

    /// The stage that all of the call is.
    pub(super) fn call(&self, name: &'static str) -> Stage {
        let recording = self.0.as_ref();
        recording.map_or_else(Stage::default, |recording| recording.stage(None, name))
    }

    /// Puts them into the answer.
    pub(super) fn answer<T: Message>(&self, mut answer: T) -> T {
        if let Some(recording) = &self.0 {
            let bytes = wire::encode(&recording.spans());
            let fields = answer.mut_special_fields().mut_unknown_fields();
            fields.add_length_delimited(wire::FIELD, bytes);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::api::CreateTaskResponse;

    fn metadata(pairs: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), vec![(*value).to_owned()]);
        pairs.iter().map(pair).collect()
    }

    #[tokio::test]
    async fn only_who_asks_is_told() {
        let stages = Stages::of(&metadata(&[(TRACEPARENT, "nonsense")]));
        drop(stages.call("create"));
        let answer = stages.answer(CreateTaskResponse::default());
        assert_eq!(answer, CreateTaskResponse::default());

        let stages = Stages::of(&metadata(&[(ASK, "1"), (TRACEPARENT, "nonsense")]));
        let call = stages.call("create");
        call.scope(async { drop(berth_trace::stage("runc create")) })
            .await;
        drop(call);
        let bytes = stages
            .answer(CreateTaskResponse::default())
            .write_to_bytes();
        let answer = CreateTaskResponse::parse_from_bytes(&bytes.unwrap()).unwrap();
        let more = answer.special_fields().unknown_fields();
        let Some(protobuf::UnknownValueRef::LengthDelimited(bytes)) = more.get(wire::FIELD) else {
            panic!("nothing is answered")
        };
        let spans = wire::decode(bytes, TraceId::random(), &[Part::Shim]);
        let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["runc create", "create"]);
    }
}
