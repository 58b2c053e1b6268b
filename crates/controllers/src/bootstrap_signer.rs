//! Signs the ConfigMap `kube-public/cluster-info` with every bootstrap token that is for that: a machine that knows a token
//! and nothing else of the cluster finds out that whoever has written it knows the token, too.
//!
//! A signature is a JWS with detached content (RFC 7515, appendix F) of its key `kubeconfig`, by HS256 with the token's secret,
//! under `jws-kubeconfig-ID`, as kubeadm reads it. One whose token is gone, over or for something else is removed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_supervise::measures::WorkQueue;
use berth_supervise::{Brief, Tasks};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use ring::hmac;
use serde_json::{Map, Value, json};
use tracing::{info, warn};

use crate::server::is_code;
use crate::token_cleaner::TYPE;
use crate::{Reflected, reflect};

const MEASURES: WorkQueue = WorkQueue::new("bootstrap_signer_queue");
const TOKEN_PREFIX: &str = "bootstrap-token-";
const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const SIGNED: &str = "kubeconfig";
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";
/// When it is looked at the latest: clocks may be set.
const PERIOD: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(5);

/// Runs until the tasks are to stop.
pub async fn run(client: Client, mut tokens: Reflected<Secret>, tasks: Tasks) {
    let shutdown = tasks.stop_token();
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let mut infos = reflect(&tasks, api.clone(), Some(&format!("metadata.name={NAME}")));
    loop {
        let mut pause = PERIOD;
        if tokens.is_complete() && infos.is_complete() {
            let now = Timestamp::now();
            let tokens = tokens.all();
            for map in infos.all() {
                let Some(changes) = changes(&map, &tokens, now) else {
                    continue;
                };
                if !MEASURES.look(sign(&api, &map, changes)).await {
                    pause = AGAIN;
                }
            }
            let ends = tokens.iter().filter_map(|token| ends_in(token, now));
            pause = ends.fold(pause, Duration::min);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokens.changed_or(pause) => {}
            () = infos.changed_or(pause) => {}
        }
    }
}

fn text<'a>(data: &'a BTreeMap<String, ByteString>, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&data.get(key)?.0).ok()
}

/// Until a token is over; none for one without an end. What can't be read is over.
fn ends_in(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let end = secret.data.as_ref()?.get("expiration")?;
    let end: Timestamp = std::str::from_utf8(&end.0).ok()?.parse().ok()?;
    let left = Duration::try_from(end.duration_since(now)).ok()?;
    // A moment later, so that it is over when it is looked at.
    (!left.is_zero()).then_some(left + Duration::from_millis(1))
}

/// ID and secret of a token that may sign.
fn signing_token(secret: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let data = secret.data.as_ref()?;
    let named = secret.metadata.name.as_deref()?;
    let named = named.strip_prefix(TOKEN_PREFIX)?;
    let id = text(data, "token-id").filter(|id| *id == named)?;
    let is_id = id.len() == 6
        && id
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let key = text(data, "token-secret").filter(|key| !key.is_empty())?;
    let expiration = data.get("expiration").map_or(&[][..], |end| &end.0);
    let is_current = expiration.is_empty()
        || std::str::from_utf8(expiration)
            .ok()
            .and_then(|end| end.parse::<Timestamp>().ok())
            .is_some_and(|end| now < end);
    let may = secret.type_.as_deref() == Some(TYPE)
        && secret.metadata.deletion_timestamp.is_none()
        && is_id
        && is_current
        && text(data, "usage-bootstrap-signing") == Some("true");
    may.then_some((id, key))
}

/// The detached signature of a content by a token.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let header = format!("{{\"alg\":\"HS256\",\"kid\":{}}}", Value::from(id));
    let header = URL_SAFE_NO_PAD.encode(header);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut signing = hmac::Context::with_key(&key);
    for part in [&header, ".", &URL_SAFE_NO_PAD.encode(content)] {
        signing.update(part.as_bytes());
    }
    let signature = URL_SAFE_NO_PAD.encode(signing.sign());
    format!("{header}..{signature}")
}

/// What has to change in the data of the ConfigMap, null for what goes; none when it is as it should be.
fn changes(map: &ConfigMap, tokens: &[Arc<Secret>], now: Timestamp) -> Option<Map<String, Value>> {
    if map.metadata.name.as_deref() != Some(NAME) || map.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let data = map.data.as_ref()?;
    let content = data.get(SIGNED)?;
    let wanted: BTreeMap<String, String> = tokens
        .iter()
        .filter_map(|token| signing_token(token, now))
        .map(|(id, secret)| {
            let key = format!("{SIGNATURE_PREFIX}{id}");
            (key, signature(content, id, secret))
        })
        .collect();
    let gone = data
        .keys()
        .filter(|key| key.starts_with(SIGNATURE_PREFIX) && !wanted.contains_key(*key));
    let mut changes: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in wanted {
        if data.get(&key) != Some(&value) {
            changes.insert(key, Value::String(value));
        }
    }
    (!changes.is_empty()).then_some(changes)
}

/// False when it has to be tried again.
async fn sign(api: &Api<ConfigMap>, map: &ConfigMap, changes: Map<String, Value>) -> bool {
    let count = changes.len();
    // Of that content and no other.
    let patch = json!({"metadata": {"resourceVersion": map.resource_version(), "uid": map.uid()}, "data": changes});
    let patched = api
        .patch(NAME, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    match patched {
        Ok(_) => {
            info!(
                signatures = count,
                "changed the signatures of ConfigMap kube-public/cluster-info"
            );
            true
        }
        // The change of somebody else is looked at when it is seen.
        Err(error) if is_code(&error, &[404, 409]) => true,
        Err(error) => {
            warn!(error = %Brief(&error), "cannot sign ConfigMap kube-public/cluster-info");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the reference's own test.
    #[test]
    fn a_signature_is_a_detached_jws() {
        let content = "Hello from the other side. I must have called a thousand times.";
        let header = "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..";
        for (content, secret, end) in [
            (
                content,
                "my voice is my passcode",
                "VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8",
            ),
            (
                "",
                "my voice is my passcode",
                "7Ui1ALizW4jXphVUB7xUqC9vLYLL9RZeOFfVLoB7Tgk",
            ),
            (content, "", "UfkqvDGiIFxrMnFseDj9LYJOLNrvjW8aHhF71mvvAs8"),
        ] {
            let got = signature(content, "joshua", secret);
            assert_eq!(got, format!("{header}{end}"));
        }
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().expect("a time")
    }

    fn token(name: &str, change: impl FnOnce(&mut BTreeMap<String, ByteString>)) -> Arc<Secret> {
        let mut secret: Secret =
            serde_json::from_value(json!({"metadata": {"name": name}, "type": TYPE}))
                .expect("a secret");
        let data = secret.data.get_or_insert_default();
        for (key, value) in [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-signing", "true"),
        ] {
            data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
        }
        change(data);
        Arc::new(secret)
    }

    fn info(data: Value) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": NAME}, "data": data})).expect("a map")
    }

    #[test]
    fn every_token_for_it_signs_and_no_other() {
        let plain = info(json!({"kubeconfig": "x"}));
        let good = "bootstrap-token-abcdef";
        let of = |token: Arc<Secret>| changes(&plain, &[token], now());
        let signed = of(token(good, |_| {})).expect("a change");
        let key = "jws-kubeconfig-abcdef";
        assert_eq!(signed[key], signature("x", "abcdef", "0123456789abcdef"));
        let put = |key: &'static str, value: &'static str| {
            move |data: &mut BTreeMap<String, ByteString>| {
                data.insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
            }
        };
        assert!(of(token(good, put("expiration", "2026-01-01T00:00:01Z"))).is_some());
        for (name, key, value) in [
            (good, "usage-bootstrap-signing", "false"),
            (good, "usage-bootstrap-signing", ""),
            (good, "expiration", "2026-01-01T00:00:00Z"),
            (good, "expiration", "tomorrow"),
            (good, "token-id", "abcdeg"),
            (good, "token-secret", ""),
            ("bootstrap-token-a.b/cd", "token-id", "a.b/cd"),
            ("abcdef", "token-id", "abcdef"),
        ] {
            assert_eq!(
                of(token(name, put(key, value))),
                None,
                "{name} {key} {value}"
            );
        }
        let mut leaving = (*token(good, |_| {})).clone();
        leaving.type_ = Some("Opaque".to_owned());
        assert_eq!(of(Arc::new(leaving)), None);
    }

    #[test]
    fn signatures_follow_content_and_tokens() {
        let tokens = [token("bootstrap-token-abcdef", |_| {})];
        let good = signature("x", "abcdef", "0123456789abcdef");
        let with = |content: &str, signature: &str| {
            info(json!({"kubeconfig": content, "jws-kubeconfig-abcdef": signature, "other": "1"}))
        };
        assert_eq!(changes(&with("x", &good), &tokens, now()), None);
        for (content, given) in [("y", good.as_str()), ("x", "forged")] {
            let changed = changes(&with(content, given), &tokens, now()).expect("a change");
            let wanted = signature(content, "abcdef", "0123456789abcdef");
            assert_eq!(
                Value::Object(changed),
                json!({"jws-kubeconfig-abcdef": wanted})
            );
        }
        // A signature whose token is gone goes; nothing else does.
        let gone = changes(&with("x", &good), &[], now()).expect("a change");
        assert_eq!(Value::Object(gone), json!({"jws-kubeconfig-abcdef": null}));
        // Nothing to sign.
        assert_eq!(changes(&info(json!({"a": "b"})), &tokens, now()), None);
    }

    #[test]
    fn it_is_looked_at_when_a_token_ends() {
        let end = |at: &'static str| {
            let token = token("bootstrap-token-abcdef", |data| {
                data.insert("expiration".to_owned(), ByteString(at.as_bytes().to_vec()));
            });
            ends_in(&token, now())
        };
        let soon = Duration::from_millis(10_001);
        assert_eq!(end("2026-01-01T00:00:10Z"), Some(soon));
        assert_eq!(end("2026-01-01T00:00:00Z"), None);
        assert_eq!(end("2025-01-01T00:00:00Z"), None);
        assert_eq!(end("never"), None);
    }
}
