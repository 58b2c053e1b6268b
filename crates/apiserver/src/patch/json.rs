//! JSON patch (RFC 6902).

use json_patch::PatchOperation;
use serde_json::Value;

use super::PatchError;

/// The stock server's limit on operations in one patch.
const MAX_OPERATIONS: usize = 10_000;

/// Applies the operations in order; either all take effect or none.
///
/// # Errors
///
/// [`PatchError::Malformed`] when the body is not a JSON array of objects,
/// [`PatchError::Unprocessable`] when an operation is unknown or does not fit the object.
pub fn apply(object: &Value, body: &[u8]) -> Result<Value, PatchError> {
    let operations: Vec<serde_json::Map<String, Value>> =
        serde_json::from_slice(body).map_err(PatchError::malformed)?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations {
            limit: MAX_OPERATIONS,
            got: operations.len(),
        });
    }
    let operations = operations
        .into_iter()
        .map(|operation| serde_json::from_value::<PatchOperation>(Value::Object(operation)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(PatchError::unprocessable)?;
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &operations).map_err(PatchError::unprocessable)?;
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn applies_all_operations_in_order() {
        let object = json!({"metadata": {"name": "x"}, "list": [1, 2]});
        let body = br#"[{"op":"add","path":"/metadata/labels","value":{"a/b":"c"}},{"op":"test","path":"/metadata/labels/a~1b","value":"c"},
            {"op":"add","path":"/list/-","value":3},{"op":"remove","path":"/list/0"},{"op":"copy","from":"/metadata/name","path":"/n"}]"#;
        assert_eq!(
            apply(&object, body),
            Ok(
                json!({"metadata": {"name": "x", "labels": {"a/b": "c"}}, "list": [2, 3], "n": "x"})
            )
        );
    }

    #[test]
    fn tells_bad_bodies_from_operations_that_do_not_fit() {
        let object = json!({"handler": "runc"});
        for (body, code) in [
            ("{not json", 400),
            (r#"{"op":"add"}"#, 400),
            ("[1]", 400),
            (r#"[{"op":"frob","path":"/x"}]"#, 422),
            (r#"[{"op":"test","path":"/handler","value":"nope"}]"#, 422),
            (r#"[{"op":"remove","path":"/nope"}]"#, 422),
            (r#"[{"op":"add","path":"/a/b","value":1}]"#, 422),
        ] {
            assert_eq!(
                apply(&object, body.as_bytes()).map_err(|e| e.code()),
                Err(code),
                "{body}"
            );
        }
    }

    #[test]
    fn refuses_more_operations_than_the_limit() {
        let one = r#"{"op":"test","path":"/a","value":1}"#;
        let body = format!("[{}]", vec![one; MAX_OPERATIONS + 1].join(","));
        assert_eq!(
            apply(&json!({"a": 1}), body.as_bytes()).map_err(|e| e.code()),
            Err(413)
        );
    }
}
