//! One operation of a JSON patch.

use serde_json::{Map, Value};

use super::Pointer;
use crate::patch::PatchError;

/// What is to be done, and where.
#[derive(Debug)]
pub(super) enum Operation {
    Add { path: Pointer, value: Value },
    Remove { path: Pointer },
    Replace { path: Pointer, value: Value },
    Move { from: Pointer, path: Pointer },
    Copy { from: Pointer, path: Pointer },
    Test { path: Pointer, value: Value },
}

impl Operation {
    /// An operation as it came; other fields than its own are of no meaning.
    ///
    /// # Errors
    /// [`PatchError::Unprocessable`] for an unknown one, and without a path where one is needed.
    pub(super) fn read(mut given: Map<String, Value>) -> Result<Self, PatchError> {
        let kind = match given.remove("op") {
            Some(Value::String(kind)) => kind,
            Some(_) | None => "unknown".to_owned(),
        };
        let known = ["add", "remove", "replace", "move", "copy", "test"];
        if !known.contains(&kind.as_str()) {
            let why = format!("Unexpected kind: {kind:.100}");
            return Err(PatchError::unprocessable(why));
        }
        let value = given.remove("value").unwrap_or_default();
        let path = pointer(&mut given, &kind, "path")?;
        Ok(match kind.as_str() {
            "add" => Self::Add { path, value },
            "remove" => Self::Remove { path },
            "replace" => Self::Replace { path, value },
            "test" => Self::Test { path, value },
            other => {
                let from = pointer(&mut given, other, "from")?;
                match other {
                    "move" => Self::Move { from, path },
                    _ => Self::Copy { from, path },
                }
            }
        })
    }
}

fn pointer(given: &mut Map<String, Value>, kind: &str, field: &str) -> Result<Pointer, PatchError> {
    match given.remove(field) {
        Some(Value::String(text)) => Pointer::parse(&text),
        Some(_) => Err(PatchError::unprocessable(format!(
            "{kind} operation failed to decode {field}: it must be a string"
        ))),
        None => Err(PatchError::unprocessable(format!(
            "{kind} operation failed to decode {field}: operation missing {field} field: missing value"
        ))),
    }
}
