//! RuntimeClass in its three versions: each is read as itself, and becomes v1.

use berth_api::runtimeclass::{self, Version};
use berth_api::status::ApiError;
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::Value;

use super::typed::decode_as;

/// Fields at the top of a v1alpha1 object.
const TOP: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
/// Fields of its spec, and what they are called in v1.
const SPEC: [(&str, &str); 3] = [
    ("runtimeHandler", "handler"),
    ("overhead", "overhead"),
    ("scheduling", "scheduling"),
];

/// Reads an object in any version as a v1 RuntimeClass.
///
/// # Errors
/// `BadRequest` for what does not fit the version's type.
pub fn decode(version: &str, object: &Value, unknown: &mut Vec<String>) -> Result<Value, ApiError> {
    let mut object = object.clone();
    let alpha = Version::from_name(version) == Some(Version::V1Alpha1);
    if alpha {
        take_unknown(&mut object, unknown);
    }
    let object = runtimeclass::convert(object, Version::V1)
        .map_err(|e| ApiError::BadRequest(e.to_string()))?;
    let mut found = Vec::new();
    let decoded = decode_as::<RuntimeClass>(&object, &mut found).map_err(|error| match error {
        ApiError::BadRequest(why) if alpha => ApiError::BadRequest(renamed(&why)),
        other => other,
    })?;
    unknown.extend(
        found
            .iter()
            .map(|path| if alpha { renamed(path) } else { path.clone() }),
    );
    Ok(decoded)
}

/// A path or message that begins with a field of v1, as v1alpha1 calls it.
fn renamed(path: &str) -> String {
    for (alpha, v1) in SPEC {
        if let Some(rest) = path.strip_prefix(v1) {
            return format!("spec.{alpha}{rest}");
        }
    }
    path.to_owned()
}

/// Removes what v1alpha1 does not have, so that a field of v1 is not mistaken for its own.
fn take_unknown(object: &mut Value, unknown: &mut Vec<String>) {
    if let Some(map) = object.as_object_mut() {
        map.retain(|key, _| keep(TOP.contains(&key.as_str()), key.clone(), unknown));
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|key, _| {
            let known = SPEC.iter().any(|(alpha, _)| alpha == key);
            keep(known, format!("spec.{key}"), unknown)
        });
    }
}

fn keep(known: bool, path: String, unknown: &mut Vec<String>) -> bool {
    if !known {
        unknown.push(path);
    }
    known
}

/// [`crate::registry::Convert`] of the row.
///
/// # Errors
/// `Internal`: what is stored or decoded converts.
pub fn convert(object: &mut Value, _from: &str, to: &str) -> Result<(), ApiError> {
    let to = Version::parse(to)
        .ok_or_else(|| ApiError::Internal(format!("{to} is no version of RuntimeClass")))?;
    let converted =
        runtimeclass::convert(object.take(), to).map_err(|e| ApiError::Internal(e.to_string()))?;
    *object = converted;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn v1alpha1_is_read_as_itself() {
        let mut unknown = Vec::new();
        let object = json!({"apiVersion": "node.k8s.io/v1alpha1", "kind": "RuntimeClass", "metadata": {"name": "x"},
            "handler": "no", "spec": {"runtimeHandler": "runsc", "frob": 1, "overhead": {"podFixed": {"cpu": "1000m"}, "x": 1}}});
        let got = decode("v1alpha1", &object, &mut unknown).unwrap();
        assert_eq!(got["apiVersion"], "node.k8s.io/v1");
        assert_eq!(got["handler"], "runsc");
        assert_eq!(got["overhead"]["podFixed"]["cpu"], "1");
        assert_eq!(unknown, ["handler", "spec.frob", "spec.overhead.x"]);
        let bad = json!({"apiVersion": "node.k8s.io/v1alpha1", "kind": "RuntimeClass", "spec": {"runtimeHandler": 1}});
        assert!(
            decode("v1alpha1", &bad, &mut unknown)
                .unwrap_err()
                .to_string()
                .starts_with("spec.runtimeHandler")
        );
    }
}
