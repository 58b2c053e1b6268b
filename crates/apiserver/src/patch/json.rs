//! JSON patch (RFC 6902).

mod bounds;

use json_patch::PatchOperation;
use serde_json::Value;

use self::bounds::Bounds;
use super::PatchError;

/// The stock server's limit on operations in one patch.
const MAX_OPERATIONS: usize = 10_000;

/// Applies the operations in order; either all take effect or none.
///
/// # Errors
///
/// [`PatchError::Malformed`] when the body is not a JSON array of objects,
/// [`PatchError::Unprocessable`] when an operation is unknown or does not fit the object,
/// [`PatchError::TooManyOperations`] and [`PatchError::CopiesTooMuch`] for what costs too much.
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
    let mut bounds = Bounds::default();
    for (at, operation) in operations.iter().enumerate() {
        bounds.check(&patched, operation)?;
        // Nobody sees what a failed patch has made so far, so nothing has to be undone.
        let one = std::slice::from_ref(operation);
        json_patch::patch_unsafe(&mut patched, one).map_err(|mut error| {
            error.operation = at;
            PatchError::unprocessable(error)
        })?;
    }
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

    /// One operation that doubles, as often as it says.
    fn doubling(times: usize) -> String {
        let mut operations =
            vec![r#"{"op":"add","path":"/a0","value":"xxxxxxxxxxxxxxxx"}"#.to_owned()];
        for n in 0..times {
            operations.push(format!(
                r#"{{"op":"add","path":"/a{}","value":{{}}}}"#,
                n + 1
            ));
            for side in ["l", "r"] {
                operations.push(format!(
                    r#"{{"op":"copy","from":"/a{n}","path":"/a{}/{side}"}}"#,
                    n + 1
                ));
            }
        }
        format!("[{}]", operations.join(","))
    }

    #[test]
    fn copies_have_a_bound_together() {
        let object = json!({});
        assert!(apply(&object, doubling(10).as_bytes()).is_ok());
        for times in [30, 90] {
            let error = apply(&object, doubling(times).as_bytes()).unwrap_err();
            assert_eq!(error.code(), 413, "{error}");
            assert!(
                error
                    .to_string()
                    .contains("the accumulated size increase of copy"),
                "{error}"
            );
        }
    }

    #[test]
    fn no_operation_nests_deeper_than_can_be_read_back() {
        let object = json!({"a": {}, "b": {}});
        // Step by step: b into a, and the next b around it.
        let wrap = r#"{"op":"move","from":"/a","path":"/b/x"},{"op":"move","from":"/b","path":"/a"},{"op":"add","path":"/b","value":{}}"#;
        let body = |times: usize| format!("[{}]", vec![wrap; times].join(","));
        assert!(apply(&object, body(50).as_bytes()).is_ok());
        for times in [200, 3_000] {
            let error = apply(&object, body(times).as_bytes()).unwrap_err();
            assert_eq!(error.code(), 422, "{error}");
            assert!(error.to_string().contains("exceeded max depth"), "{error}");
        }
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let into = format!("/a{}", "/0".repeat(60));
        let body = format!(
            r#"[{{"op":"add","path":"/a","value":{}}},{{"op":"add","path":"{into}","value":{}}}]"#,
            deep(61),
            deep(61)
        );
        let error = apply(&object, body.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("exceeded max depth"), "{error}");
        let body = format!(
            r#"[{{"op":"add","path":"/a","value":{}}},{{"op":"copy","from":"/a","path":"{into}"}}]"#,
            deep(61)
        );
        let error = apply(&object, body.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("exceeded max depth"), "{error}");
    }

    #[test]
    fn moving_much_has_a_bound() {
        let object = json!({"a": vec![0; 500_000]});
        let there =
            r#"{"op":"move","from":"/a","path":"/b"},{"op":"move","from":"/b","path":"/a"}"#;
        let shift = r#"{"op":"add","path":"/a/0","value":0}"#;
        for operation in [there, shift] {
            let once = format!("[{operation}]");
            assert!(apply(&object, once.as_bytes()).is_ok());
            let body = format!("[{}]", vec![operation; 5_000].join(","));
            let error = apply(&object, body.as_bytes()).unwrap_err();
            assert_eq!(error.code(), 413, "{error}");
        }
    }
}
