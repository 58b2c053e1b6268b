//! JSON to a typed object the way a stock API server reads it.
//!
//! One walk does three things: it finds the type errors with the path where they are (they make a 400), it
//! brings every quantity to canonical form (and refuses what is none), and it lists the fields that the
//! type does not have, for `fieldValidation`. `null` stands for an absent field.

mod depth;
mod deserializer;
mod document;
mod order;
mod problems;
mod trail;

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

pub use depth::{MAX_DEPTH, TooDeep, check_depth};
pub use document::Document;
pub use order::{Misfit, in_order};
pub use problems::MAX_PROBLEMS;

/// JSON that does not fit the type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{message}", at(.path))]
pub struct DecodeError {
    /// Path of the field, `spec.containers[0].name`; empty at the top.
    pub path: String,
    /// What does not fit.
    pub message: String,
}

fn at(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!("{path}: ")
    }
}

/// A decoded object and what was in the JSON besides.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<T> {
    /// The object.
    pub object: T,
    /// Paths of fields that the type does not have, in the order met, at most [`MAX_PROBLEMS`].
    pub unknown_fields: Vec<String>,
}

/// Decodes; `value` is not consumed.
///
/// # Errors
/// The first value that does not fit its field's type.
pub fn decode<T: DeserializeOwned>(value: &Value) -> Result<Decoded<T>, DecodeError> {
    let unknown = problems::Problems::default();
    let object = T::deserialize(deserializer::Node::root(value, &unknown))
        .map_err(deserializer::Failure::into_error)?;
    Ok(Decoded {
        object,
        unknown_fields: unknown.into_paths(),
    })
}

/// [`decode`] without the list of unknown fields.
///
/// # Errors
/// The first value that does not fit its field's type.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, DecodeError> {
    decode(value).map(|d| d.object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::api::node::v1::RuntimeClass;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    use serde_json::json;

    fn class(body: serde_json::Value) -> Result<Decoded<RuntimeClass>, DecodeError> {
        decode(&body)
    }

    #[test]
    fn quantities_become_canonical_and_unknown_fields_are_listed() {
        let got = class(json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "a"},
            "handler": "runc", "frob": 1, "overhead": {"podFixed": {"cpu": 1, "memory": "1024Mi"}},
            "scheduling": {"frob": 2, "tolerations": [{"x": {"y": 1}}]}}))
        .unwrap();
        let fixed = got.object.overhead.unwrap().pod_fixed.unwrap();
        assert_eq!(
            (fixed["cpu"].0.as_str(), fixed["memory"].0.as_str()),
            ("1", "1Gi")
        );
        assert_eq!(
            got.unknown_fields,
            ["frob", "scheduling.frob", "scheduling.tolerations[0].x"]
        );
    }

    #[test]
    fn type_errors_name_the_path() {
        for (body, path) in [
            (json!({"handler": 1}), "handler"),
            (json!({"handler": ["runc"]}), "handler"),
            (json!({"handler": {}}), "handler"),
            (
                json!({"handler": "a", "overhead": {"podFixed": {"cpu": "abc"}}}),
                "overhead.podFixed.cpu",
            ),
            (
                json!({"handler": "a", "scheduling": {"tolerations": [{"key": 2}]}}),
                "scheduling.tolerations[0].key",
            ),
        ] {
            assert_eq!(class(body).unwrap_err().path, path);
        }
    }

    #[test]
    fn null_is_absent() {
        let got =
            class(json!({"handler": null, "metadata": null, "scheduling": {"tolerations": null}}))
                .unwrap();
        assert_eq!(got.object.handler, "");
        let pod: Pod = from_value(
            &json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": "http"}}, "env": null}]}}),
        )
        .unwrap();
        assert_eq!(
            pod.spec.unwrap().containers[0].ports.as_ref().unwrap()[0].container_port,
            80
        );
        // Where there has to be a time, none is Go's empty one.
        let body = json!({"type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": null});
        let condition: Condition = from_value(&body).unwrap();
        let back = serde_json::to_value(condition).unwrap();
        assert_eq!(back["lastTransitionTime"], "0001-01-01T00:00:00Z");
    }
}
