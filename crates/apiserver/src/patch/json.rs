//! JSON patch (RFC 6902), with what the stock server's library does besides: an index may count from the end of a list,
//! `test` for null holds where there is nothing, and `replace` may be of the whole object.

mod bounds;
mod operation;
mod pointer;

use serde_json::{Map, Value};

use self::bounds::Bounds;
use self::operation::Operation;
use self::pointer::{Pointer, index};
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
    let operations: Vec<Map<String, Value>> =
        serde_json::from_slice(body).map_err(PatchError::malformed)?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations {
            limit: MAX_OPERATIONS,
            got: operations.len(),
        });
    }
    // Nobody sees what a failed patch has made so far, so nothing has to be undone.
    let mut patched = object.clone();
    let mut bounds = Bounds::default();
    for (at, operation) in operations.into_iter().enumerate() {
        Operation::read(operation)
            .and_then(|operation| {
                bounds.check(&patched, &operation)?;
                perform(&mut patched, operation)
            })
            .map_err(|error| match error {
                PatchError::Unprocessable { reason } => {
                    PatchError::unprocessable(format!("operation [{at}]: {reason}"))
                }
                other => other,
            })?;
    }
    Ok(patched)
}

fn perform(document: &mut Value, operation: Operation) -> Result<(), PatchError> {
    match operation {
        Operation::Add { path, value } => add(document, "add", &path, value),
        Operation::Remove { path } => remove(document, "remove", &path).map(drop),
        Operation::Replace { path, value } => {
            let there = path.find_mut(document).ok_or_else(|| {
                let what = if path.is_root() { "path" } else { "key" };
                let why = format!(
                    "replace operation does not apply: doc is missing {what}: {path}: missing value"
                );
                PatchError::unprocessable(why)
            })?;
            if path.is_root() && !value.is_object() && !value.is_array() {
                let why = "replace operation value must be object or array";
                return Err(PatchError::unprocessable(why));
            }
            *there = value;
            Ok(())
        }
        Operation::Move { from, path } => {
            if from.is_above(&path) {
                let why = format!("move operation does not apply: {path} is inside of {from}");
                return Err(PatchError::unprocessable(why));
            }
            let value = remove(document, "move", &from)?;
            add(document, "move", &path, value)
        }
        Operation::Copy { from, path } => {
            let value = from.find(document).cloned().ok_or_else(|| {
                let why = format!(
                    "copy operation does not apply: doc is missing from path: {from}: missing value"
                );
                PatchError::unprocessable(why)
            })?;
            add(document, "copy", &path, value)
        }
        Operation::Test { path, value } => test(document, &path, &value),
    }
}

fn missing(operation: &str, path: &Pointer) -> PatchError {
    PatchError::unprocessable(format!(
        "{operation} operation does not apply: doc is missing path: \"{path}\": missing value"
    ))
}

fn bad_index(operation: &str, path: &Pointer, key: &str) -> PatchError {
    PatchError::unprocessable(format!(
        "error in {operation} for path: '{path}': Unable to access invalid index: {key}: invalid index referenced"
    ))
}

fn add(
    document: &mut Value,
    operation: &str,
    path: &Pointer,
    value: Value,
) -> Result<(), PatchError> {
    let Some((parent, key)) = path.split_mut(document) else {
        return Err(missing(operation, path));
    };
    match parent {
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
            Ok(())
        }
        Value::Array(items) => {
            let at = match key {
                "-" => Some(items.len()),
                // Counted from the end of the list as it becomes: -1 is behind the last.
                key => index(key, items.len() + 1),
            };
            let at = at.ok_or_else(|| bad_index(operation, path, key))?;
            items.insert(at, value);
            Ok(())
        }
        _ => Err(missing(operation, path)),
    }
}

fn remove(document: &mut Value, operation: &str, path: &Pointer) -> Result<Value, PatchError> {
    let Some((parent, key)) = path.split_mut(document) else {
        return Err(missing(operation, path));
    };
    match parent {
        Value::Object(map) => map.remove(key).ok_or_else(|| {
            PatchError::unprocessable(format!(
                "error in {operation} for path: '{path}': Unable to remove nonexistent key: {key}: missing value"
            ))
        }),
        Value::Array(items) => match index(key, items.len()) {
            Some(at) => Ok(items.remove(at)),
            None => Err(bad_index(operation, path, key)),
        },
        _ => Err(missing(operation, path)),
    }
}

/// Nothing is as good as null, if only what should have it is there.
fn test(document: &Value, path: &Pointer, value: &Value) -> Result<(), PatchError> {
    let found = match path.find(document) {
        Some(found) => found,
        None => match path.parent(document) {
            Some(Value::Object(_)) => &Value::Null,
            Some(Value::Array(_)) => return Err(bad_index("test", path, path.key())),
            _ => return Err(missing("test", path)),
        },
    };
    if found == value {
        return Ok(());
    }
    Err(PatchError::unprocessable(format!(
        "testing value {path} failed: test failed"
    )))
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
    fn corners_are_those_of_the_stock_server() {
        let object = json!({"list": [1, 2, 3], "map": {"a": null, "b": {"c": 1}}});
        for (patch, want) in [
            // What is not there is null, but only where it could be.
            (
                r#"{"op":"test","path":"/map/x","value":null}"#,
                Some(object.clone()),
            ),
            (r#"{"op":"test","path":"/map/x"}"#, Some(object.clone())),
            (
                r#"{"op":"test","path":"/map/a","value":null}"#,
                Some(object.clone()),
            ),
            (r#"{"op":"test","path":"/map/x","value":1}"#, None),
            (r#"{"op":"test","path":"/nope/x","value":null}"#, None),
            (r#"{"op":"test","path":"/list/3","value":null}"#, None),
            (
                r#"{"op":"test","path":"","value":{"list":[1,2,3],"map":{"a":null,"b":{"c":1}}}}"#,
                Some(object.clone()),
            ),
            // Indexes.
            (
                r#"{"op":"add","path":"/list/-","value":4}"#,
                Some(json!({"list": [1, 2, 3, 4], "map": object["map"]})),
            ),
            (
                r#"{"op":"add","path":"/list/3","value":4}"#,
                Some(json!({"list": [1, 2, 3, 4], "map": object["map"]})),
            ),
            (
                r#"{"op":"add","path":"/list/-1","value":4}"#,
                Some(json!({"list": [1, 2, 3, 4], "map": object["map"]})),
            ),
            (r#"{"op":"add","path":"/list/4","value":4}"#, None),
            (r#"{"op":"add","path":"/list/-5","value":4}"#, None),
            (r#"{"op":"add","path":"/list/x","value":4}"#, None),
            (
                r#"{"op":"remove","path":"/list/-1"}"#,
                Some(json!({"list": [1, 2], "map": object["map"]})),
            ),
            (r#"{"op":"remove","path":"/list/-"}"#, None),
            (
                r#"{"op":"replace","path":"/list/-1","value":4}"#,
                Some(json!({"list": [1, 2, 4], "map": object["map"]})),
            ),
            (r#"{"op":"replace","path":"/list/3","value":4}"#, None),
            (r#"{"op":"replace","path":"/map/x","value":4}"#, None),
            // The whole object.
            (
                r#"{"op":"replace","path":"","value":{"x":1}}"#,
                Some(json!({"x": 1})),
            ),
            (r#"{"op":"replace","path":"","value":1}"#, None),
            (r#"{"op":"add","path":"","value":{"x":1}}"#, None),
            (r#"{"op":"remove","path":""}"#, None),
            // Moves and copies.
            (
                r#"{"op":"move","from":"/map/b/c","path":"/list/0"}"#,
                Some(json!({"list": [1, 1, 2, 3], "map": {"a": null, "b": {}}})),
            ),
            (
                r#"{"op":"copy","from":"/list/-1","path":"/list/-"}"#,
                Some(json!({"list": [1, 2, 3, 3], "map": object["map"]})),
            ),
            (r#"{"op":"move","from":"/map","path":"/map/b/x"}"#, None),
            (
                r#"{"op":"move","from":"/map/b","path":"/map/b"}"#,
                Some(object.clone()),
            ),
            (r#"{"op":"move","from":"/map/x","path":"/y"}"#, None),
            (r#"{"op":"copy","from":"/map/x","path":"/y"}"#, None),
            (r#"{"op":"copy","path":"/y"}"#, None),
            // Paths.
            (r#"{"op":"add","path":"map","value":1}"#, None),
            (r#"{"op":"add","path":"map/x","value":1}"#, None),
            (r#"{"op":"add","path":1,"value":1}"#, None),
            (r#"{"op":"add","value":1}"#, None),
            (r#"{"op":"add","path":"/map/a/b","value":1}"#, None),
            (
                r#"{"op":"remove","path":"/map/a"}"#,
                Some(json!({"list": [1, 2, 3], "map": {"b": {"c": 1}}})),
            ),
            (
                r#"{"op":"add","path":"/map/~0~1","value":1}"#,
                Some(json!({"list": [1, 2, 3], "map": {"a": null, "b": {"c": 1}, "~/": 1}})),
            ),
            // Without a value it is null.
            (
                r#"{"op":"add","path":"/x"}"#,
                Some(json!({"list": [1, 2, 3], "map": object["map"], "x": null})),
            ),
            (r#"{"op":"Add","path":"/x"}"#, None),
            (r#"{"path":"/x"}"#, None),
        ] {
            let got = apply(&object, format!("[{patch}]").as_bytes());
            match want {
                Some(want) => assert_eq!(got, Ok(want), "{patch}"),
                None => assert_eq!(got.map_err(|e| e.code()), Err(422), "{patch}"),
            }
        }
        assert_eq!(apply(&object, b"[]"), Ok(object.clone()));
        for body in ["null", "{}", "[null]", ""] {
            assert_eq!(
                apply(&object, body.as_bytes()).map_err(|e| e.code()),
                Err(400),
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
