//! Builders for the tests of this crate.

mod replicas;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// A time `seconds` after the tests' beginning.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000 + seconds)
}

/// From JSON, as a manifest has it.
pub(crate) fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of its kind")
}

/// A running pod that has been ready since `ready`.
pub(crate) fn ready_pod(name: &str, ready: i64) -> Pod {
    object(json!({
        "metadata": {"name": name, "uid": name, "namespace": "n", "creationTimestamp": at(ready).to_string()},
        "spec": {"nodeName": "a", "containers": []},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": at(ready).to_string()},
        ]},
    }))
}

/// With these fields set, by JSON pointer.
pub(crate) fn with(pod: Pod, changes: &[(&str, Value)]) -> Arc<Pod> {
    let mut value = serde_json::to_value(pod).expect("JSON");
    for (pointer, new) in changes {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        let parent = value.pointer_mut(parent).expect("a parent");
        parent[key] = new.clone();
    }
    Arc::new(object(value))
}
