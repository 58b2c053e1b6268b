//! Metadata of objects that the server makes itself.

use serde_json::{Value, json};

/// Now, as the API writes times.
pub(super) fn now() -> Value {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    json!(now.to_string())
}

/// The object with a UID and the time of its creation.
pub(super) fn fresh(mut object: Value) -> Value {
    object["metadata"]["uid"] = json!(uuid::Uuid::new_v4().to_string());
    object["metadata"]["creationTimestamp"] = now();
    object
}
