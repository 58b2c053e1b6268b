//! Conversion of custom resources by the webhook of their definition (ConversionReview).
//!
//! Objects go in batches, and keep their order and all of their metadata but labels and annotations: whatever else the
//! webhook says of it is not heard, and another name, namespace or uid is refused. What was converted is kept for a while,
//! so that many watches of one version cost one call.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use berth_api::decode::check_depth;
use berth_api::status::ApiError;
use bytes::Bytes;
use futures::future::BoxFuture;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, WebhookConversion,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::registry::{Converter, ConverterKey};
use crate::storage::Storage;
use crate::webhook::{CallError, ClientConfig, HookClient, Whereabouts};

/// Objects of one call, and bytes of them unless one object has more.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 1 << 20;
/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Converted objects that are kept, in bytes.
const KEPT_BYTES: usize = 8 << 20;
const GROUP: &str = "apiextensions.k8s.io";

/// The webhook of a definition.
pub(super) struct WebhookConverter {
    client: HookClient,
    /// The version of ConversionReview that is spoken; none when the webhook knows none of ours.
    version: Option<&'static str>,
    kind: String,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    objects: HashMap<ConverterKey, Bytes>,
    order: VecDeque<ConverterKey>,
    bytes: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    response: Option<Response>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    uid: String,
    converted_objects: Option<Vec<Value>>,
    result: Option<Status>,
}

/// The converter of a definition; none when its versions differ in name only.
pub(super) fn of(
    definition: &CustomResourceDefinition,
    storage: &Arc<Storage>,
) -> Option<Arc<dyn Converter>> {
    let conversion = definition.spec.conversion.as_ref()?;
    if conversion.strategy != "Webhook" {
        return None;
    }
    let webhook = conversion.webhook.clone().unwrap_or_default();
    let versions = &webhook.conversion_review_versions;
    let version = versions.iter().find_map(|version| match version.as_str() {
        "v1" => Some("v1"),
        "v1beta1" => Some("v1beta1"),
        _ => None,
    });
    Some(Arc::new(WebhookConverter {
        client: HookClient::new(&client_config(&webhook), storage),
        version,
        kind: definition.spec.names.kind.clone(),
        kept: Mutex::default(),
    }))
}

fn client_config(webhook: &WebhookConversion) -> ClientConfig {
    let config = webhook.client_config.clone().unwrap_or_default();
    let place = match (config.url, config.service) {
        (None, Some(service)) => Whereabouts::Service {
            namespace: service.namespace,
            name: service.name,
            path: service.path.unwrap_or_default(),
            port: service
                .port
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(443),
        },
        // Neither is never stored; an empty URL reaches nobody.
        (url, _) => Whereabouts::Url(url.unwrap_or_default()),
    };
    ClientConfig {
        place,
        ca_bundle: config.ca_bundle.map(|bundle| bundle.0).unwrap_or_default(),
    }
}

impl Converter for WebhookConverter {
    fn convert<'a>(
        &'a self,
        objects: Vec<Value>,
        to: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<Value>, ApiError>> {
        Box::pin(async move {
            let mut converted = Vec::with_capacity(objects.len());
            let mut rest = objects.into_iter().peekable();
            while rest.peek().is_some() {
                let (mut batch, mut bytes) = (Vec::new(), 0);
                while batch.len() < BATCH && (batch.is_empty() || bytes < BATCH_BYTES) {
                    let Some(object) = rest.next() else { break };
                    bytes += object.to_string().len();
                    batch.push(object);
                }
                converted.extend(self.batch(batch, to, deadline).await?);
            }
            Ok(converted)
        })
    }

    fn recall(&self, key: &ConverterKey) -> Option<Bytes> {
        self.kept.lock().objects.get(key).cloned()
    }

    fn remember(&self, key: ConverterKey, object: Bytes) {
        let mut kept = self.kept.lock();
        if object.len() > KEPT_BYTES / 8 || kept.objects.contains_key(&key) {
            return;
        }
        kept.bytes += object.len();
        kept.order.push_back(key.clone());
        kept.objects.insert(key, object);
        while kept.bytes > KEPT_BYTES {
            let Some(oldest) = kept.order.pop_front() else {
                break;
            };
            if let Some(gone) = kept.objects.remove(&oldest) {
                kept.bytes -= gone.len();
            }
        }
    }
}

impl WebhookConverter {
    async fn batch(
        &self,
        objects: Vec<Value>,
        to: &str,
        deadline: Instant,
    ) -> Result<Vec<Value>, ApiError> {
        let from = objects
            .first()
            .and_then(|object| object["apiVersion"].as_str())
            .unwrap_or_default()
            .to_owned();
        let failed = |why: String| {
            ApiError::Unexplained(format!(
                "conversion webhook for {from}, Kind={} {why}",
                self.kind
            ))
        };
        let version = self
            .version
            .ok_or_else(|| failed("failed: no supported conversion review versions".to_owned()))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("{GROUP}/{version}"),
            "request": {"uid": uid, "desiredAPIVersion": to, "objects": objects},
        });
        let left = deadline.saturating_duration_since(Instant::now());
        let body = Bytes::from(review.to_string());
        let answer = self.client.post(body, TIMEOUT.min(left), None).await;
        let answer = answer.map_err(|error| match error {
            CallError::Busy => ApiError::TooManyRequests {
                message: format!(
                    "too many requests wait for the conversion webhook of {}, please try again later",
                    self.kind
                ),
                retry_after_seconds: 1,
            },
            error => {
                let why = error.to_string();
                let why = why.trim_start_matches("failed to call webhook: ");
                failed(format!("failed: {why}"))
            }
        })?;
        let converted =
            read(&answer, version, &uid).map_err(|why| failed(format!("failed: {why}")))?;
        if converted.len() != objects.len() {
            return Err(failed(format!(
                "returned {} objects, expected {}",
                converted.len(),
                objects.len()
            )));
        }
        let pairs = objects.iter().zip(converted).enumerate();
        pairs
            .map(|(at, (before, after))| {
                keep_identity(before, after, to).map_err(|why| {
                    failed(format!(
                        "returned invalid converted object at index {at}: {why}"
                    ))
                })
            })
            .collect()
    }
}

/// The objects of an answer.
fn read(answer: &[u8], version: &str, uid: &str) -> Result<Vec<Value>, String> {
    let review: Review = serde_json::from_slice(answer)
        .map_err(|error| format!("it is no ConversionReview: {error}"))?;
    let wanted = format!("{GROUP}/{version}");
    let strict = version == "v1";
    if strict && (review.api_version != wanted || review.kind != "ConversionReview") {
        return Err(format!(
            "expected webhook response of {wanted}, Kind=ConversionReview, got {}, Kind={}",
            review.api_version, review.kind
        ));
    }
    let response = review
        .response
        .ok_or_else(|| "no response provided".to_owned())?;
    if strict && response.uid != uid {
        return Err(format!(
            "expected response.uid={uid:?}, got {:?}",
            response.uid
        ));
    }
    let result = response.result.unwrap_or_default();
    let status = result.status.unwrap_or_default();
    if status != "Success" {
        return Err(match result.message.filter(|message| !message.is_empty()) {
            Some(message) => message,
            None => format!("response.result.status was '{status}', not 'Success'"),
        });
    }
    Ok(response.converted_objects.unwrap_or_default())
}

/// The converted object with the metadata of the one before, but for labels and annotations.
fn keep_identity(before: &Value, mut after: Value, to: &str) -> Result<Value, String> {
    check_depth(&after).map_err(|error| error.to_string())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if text(&after["apiVersion"]) != to {
        return Err(format!(
            "invalid groupVersion (expected {to}, received {})",
            text(&after["apiVersion"])
        ));
    }
    if after["kind"] != before["kind"] {
        return Err(format!(
            "invalid kind (expected {}, received {})",
            text(&before["kind"]),
            text(&after["kind"])
        ));
    }
    for field in ["name", "namespace", "uid"] {
        let (old, new) = (&before["metadata"][field], &after["metadata"][field]);
        if text(old) != text(new) {
            return Err(format!(
                "must have the same {field}: {} != {}",
                text(old),
                text(new)
            ));
        }
    }
    let mut metadata = before["metadata"].clone();
    for field in ["labels", "annotations"] {
        match &after["metadata"][field] {
            Value::Null => {
                if let Some(metadata) = metadata.as_object_mut() {
                    metadata.remove(field);
                }
            }
            Value::Object(map) if map.values().all(Value::is_string) => {
                metadata[field] = after["metadata"][field].clone();
            }
            _ => return Err(format!("invalid metadata.{field}: not a map of strings")),
        }
    }
    after["metadata"] = metadata;
    Ok(after)
}

/// Reads any bytes as an answer: whatever it says, the object is the one that was sent.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz_review(data: &[u8]) {
    let before = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "a", "namespace": "n", "uid": "u", "finalizers": ["x/y"]}});
    for version in ["v1", "v1beta1"] {
        for after in read(data, version, "u").unwrap_or_default() {
            let Ok(kept) = keep_identity(&before, after, "example.com/v2") else {
                continue;
            };
            for field in ["name", "namespace", "uid", "finalizers"] {
                assert_eq!(kept["metadata"][field], before["metadata"][field]);
            }
            assert_eq!(kept["kind"], before["kind"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, labels: Value) -> Value {
        json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": name, "namespace": "n", "uid": "u",
            "labels": labels, "finalizers": ["forged"], "resourceVersion": "9"}})
    }

    #[test]
    fn a_converted_object_is_the_same_object() {
        let before = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", "namespace": "n", "uid": "u",
            "annotations": {"a": "b"}, "finalizers": ["real"], "resourceVersion": "3"}});
        let to = "example.com/v2";
        let kept = keep_identity(&before, object("a", json!({"l": "m"})), to).unwrap();
        assert_eq!(
            kept["metadata"],
            json!({"name": "a", "namespace": "n", "uid": "u", "labels": {"l": "m"}, "finalizers": ["real"], "resourceVersion": "3"})
        );
        for (after, said) in [
            (object("b", Value::Null), "must have the same name: a != b"),
            (
                object("a", json!({"l": 1})),
                "invalid metadata.labels: not a map of strings",
            ),
            (
                object("a", json!("text")),
                "invalid metadata.labels: not a map of strings",
            ),
            (
                json!(null),
                "invalid groupVersion (expected example.com/v2, received )",
            ),
            (
                before.clone(),
                "invalid groupVersion (expected example.com/v2, received example.com/v1)",
            ),
        ] {
            assert_eq!(keep_identity(&before, after, to).unwrap_err(), said);
        }
    }

    #[test]
    fn an_answer_says_that_it_has_converted() {
        let answer = |response: Value| {
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response}).to_string()
        };
        let read = |text: String| read(text.as_bytes(), "v1", "u");
        let good = json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]});
        assert_eq!(read(answer(good)).unwrap().len(), 1);
        for (response, said) in [
            (Value::Null, "no response provided"),
            (
                json!({"uid": "v", "result": {"status": "Success"}}),
                "expected response.uid=\"u\", got \"v\"",
            ),
            (
                json!({"uid": "u", "convertedObjects": [{}]}),
                "response.result.status was '', not 'Success'",
            ),
            (
                json!({"uid": "u", "result": {"status": "Failed", "message": "no way"}}),
                "no way",
            ),
        ] {
            assert_eq!(read(answer(response)).unwrap_err(), said);
        }
        assert!(
            read("<html>".to_owned())
                .unwrap_err()
                .starts_with("it is no ConversionReview")
        );
    }
}
