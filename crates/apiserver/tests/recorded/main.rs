//! Requests and answers recorded from kube-apiserver 1.36 with etcd 3.6, sent to this server: the status code, the
//! Status reason, the causes and the values that a case looks at must be the same. Wording is left free.
//!
//! `cases.json` is the recording. A case is a list of steps; `{u}` stands for letters of the run's own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "the suite in tests/api uses the rest")]
#[path = "../api/harness.rs"]
mod harness;

use std::collections::BTreeSet;

use harness::{Answer, Api, TOKEN};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

/// Steps (case, step) whose answer differs from the recording, with the answer that is right here.
///
/// A pod that names a RuntimeClass that does not exist: the recorded server ran without the `RuntimeClass` admission plugin,
/// which refuses it in words that clients know.
fn differs(case: &str, step: usize) -> Option<Value> {
    (case == "pod class missing" && step == 0)
        .then(|| json!({"code": 403, "reason": "Forbidden", "causes": []}))
}

/// The value at a path of parts between slashes; numbers index lists.
fn pointer(document: &Value, path: &str) -> Value {
    document.pointer(path).cloned().unwrap_or_default()
}

async fn send(api: &Api, step: &Value) -> Answer {
    let text = |field: &str| step.get(field).and_then(Value::as_str);
    let mut headers = Map::new();
    headers.insert("Authorization".to_owned(), json!(format!("Bearer {TOKEN}")));
    headers.insert("Accept".to_owned(), json!("application/json"));
    let body = match step.get("body") {
        None | Some(Value::Null) => String::new(),
        Some(body) => {
            headers.insert("Content-Type".to_owned(), json!("application/json"));
            body.as_str()
                .map_or_else(|| body.to_string(), str::to_owned)
        }
    };
    headers.extend(
        step.get("headers")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default(),
    );
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
        .collect();
    api.raw_without_credentials(
        text("method").unwrap_or("GET"),
        text("path").unwrap(),
        &headers,
        body,
    )
    .await
}

/// What the recording keeps of an answer.
fn seen(answer: &Answer, step: &Value) -> Value {
    let document: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let mut seen = json!({"code": answer.code});
    if document["kind"] == "Status" {
        seen["reason"] = document["reason"].clone();
        let causes: BTreeSet<String> = document["details"]["causes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|cause| {
                let part = |name: &str| cause[name].as_str().unwrap_or("");
                format!("{} {}", part("reason"), part("field"))
            })
            .collect();
        seen["causes"] = json!(causes);
    }
    if step["warnings"] == true {
        seen["warnings"] = json!(answer.warnings().len());
    }
    for path in step["see"].as_array().into_iter().flatten() {
        let path = path.as_str().unwrap();
        if seen.get("see").is_none() {
            seen["see"] = json!({});
        }
        seen["see"][path] = pointer(&document, path);
    }
    seen
}

#[tokio::test]
async fn answers_are_those_of_the_recorded_server() {
    let recording = include_str!("cases.json").replace("{u}", "qxzwv");
    let cases: IndexMap<String, Vec<Value>> = serde_json::from_str(&recording).unwrap();
    assert!(cases.len() > 100, "the recording is whole");
    let api = Api::start().await;
    let mut differences = Vec::new();
    for (name, steps) in &cases {
        for (at, step) in steps.iter().enumerate() {
            let got = seen(&send(&api, &step["send"]).await, &step["send"]);
            let want = differs(name, at).unwrap_or_else(|| step["expect"].clone());
            if got != want {
                let sent = &step["send"];
                differences.push(format!(
                    "{name}[{at}] {} {}\n  want {want}\n  got  {got}",
                    sent["method"], sent["path"]
                ));
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
