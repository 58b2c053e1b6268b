//! Calls that are stages of a pod's start: the runtime is told the span, as by the stock kubelet, and asked for the stages of
//! its own. Another runtime than berth's answers none.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use berth_trace::{ANSWER, ASK, Current, Part, TRACEPARENT, wire};
use http::{HeaderMap, HeaderValue};

/// Tells and asks.
pub(super) fn ask(stage: &Current, headers: &mut HeaderMap) {
    headers.insert(ASK, HeaderValue::from_static("1"));
    let context = stage.context().map(|context| context.to_string());
    if let Some(value) = context.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(TRACEPARENT, value);
    }
}

/// Takes what was answered. What cannot be read is left out: it is nothing but times.
pub(super) fn take(stage: &Current, headers: &HeaderMap) {
    let Some(value) = headers.get(ANSWER) else {
        return;
    };
    // gRPC's base64 has its padding or hasn't.
    let bytes = STANDARD_NO_PAD
        .decode(value.as_bytes())
        .or_else(|_| STANDARD.decode(value.as_bytes()));
    if let Ok(bytes) = bytes {
        let trace = stage.recording().trace();
        stage.take(wire::decode(&bytes, trace, &[Part::Cri, Part::Shim]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_trace::{Recording, Span};

    async fn answered(sampled: Option<bool>, answer: &[u8]) -> (HeaderMap, Vec<Span>) {
        let recording = Recording::new(Part::Node, berth_trace::pod("u").0, sampled);
        let stage = recording.stage(None, "sandbox");
        let mut told = HeaderMap::new();
        let call = async {
            let current = berth_trace::current().unwrap();
            ask(&current, &mut told);
            let mut headers = HeaderMap::new();
            headers.insert(ANSWER, HeaderValue::from_bytes(answer).unwrap());
            take(&current, &headers);
        };
        stage.scope(call).await;
        (told, recording.spans())
    }

    #[tokio::test]
    async fn the_runtime_is_told_the_span_and_answers_its_own() {
        let (trace, root) = berth_trace::pod("another");
        let span = Span::new(Part::Cri, trace, Some(root), "network");
        let bytes = wire::encode(&[span, Span::new(Part::Node, trace, None, "forged")]);
        for text in [STANDARD.encode(&bytes), STANDARD_NO_PAD.encode(&bytes)] {
            let (told, spans) = answered(Some(true), text.as_bytes()).await;
            assert!(told[TRACEPARENT].to_str().unwrap().ends_with("-01"));
            let [network] = &spans[..] else {
                panic!("{spans:?}")
            };
            assert_eq!(
                (&*network.name, network.trace),
                ("network", berth_trace::pod("u").0)
            );
        }
        for nonsense in [&b"?"[..], b"", b"e30", b"\xff"] {
            let (told, spans) = answered(None, nonsense).await;
            // Without a collector nobody has decided what is recorded.
            assert!(!told.contains_key(TRACEPARENT) && told.contains_key(ASK));
            assert_eq!(spans, []);
        }
    }
}
