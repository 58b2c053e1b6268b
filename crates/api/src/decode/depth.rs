//! How deep documents may nest: one bound for every way in, so that whatever is stored can be read back.

use serde_json::Value;
use thiserror::Error;

/// Levels of lists and maps in an object. `serde_json` reads 127; what is left is for what the server puts
/// around an object (lists, watch events) and for `metadata.managedFields`, which follow an object's own
/// nesting.
pub const MAX_DEPTH: usize = 100;

/// Levels that `metadata.managedFields` of such an object can have.
pub(super) const MAX_MANAGED_DEPTH: usize = MAX_DEPTH + 8;

/// An object that nests more than [`MAX_DEPTH`] levels deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("exceeded max depth: lists and maps may be nested {MAX_DEPTH} levels deep")]
pub struct TooDeep;

/// Refuses an object that nests too deep to be stored.
///
/// # Errors
/// [`TooDeep`]
pub fn check_depth(object: &Value) -> Result<(), TooDeep> {
    let Value::Object(fields) = object else {
        return fits(object, MAX_DEPTH);
    };
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("metadata", Value::Object(metadata)) => {
                for (name, value) in metadata {
                    let limit = if name == "managedFields" {
                        MAX_MANAGED_DEPTH
                    } else {
                        MAX_DEPTH
                    };
                    fits(value, limit - 2)?;
                }
            }
            _ => fits(value, MAX_DEPTH - 1)?,
        }
    }
    Ok(())
}

fn fits(value: &Value, levels: usize) -> Result<(), TooDeep> {
    match (value, levels.checked_sub(1)) {
        (Value::Array(items), Some(left)) => items.iter().try_for_each(|item| fits(item, left)),
        (Value::Object(map), Some(left)) => map.values().try_for_each(|item| fits(item, left)),
        (Value::Array(_) | Value::Object(_), None) => Err(TooDeep),
        (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(Value::Null, |inner, _| json!([inner]))
    }

    #[test]
    fn levels_are_counted_from_the_object() {
        assert_eq!(check_depth(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(check_depth(&nested(MAX_DEPTH + 1)), Err(TooDeep));
        assert_eq!(check_depth(&json!({"spec": nested(MAX_DEPTH - 1)})), Ok(()));
        assert_eq!(
            check_depth(&json!({"spec": nested(MAX_DEPTH)})),
            Err(TooDeep)
        );
        let metadata = |name: &str, levels: usize| json!({"metadata": {name: nested(levels)}});
        assert_eq!(
            check_depth(&metadata("labels", MAX_DEPTH - 1)),
            Err(TooDeep)
        );
        let most = MAX_MANAGED_DEPTH - 2;
        assert_eq!(check_depth(&metadata("managedFields", most)), Ok(()));
        assert_eq!(
            check_depth(&metadata("managedFields", most + 1)),
            Err(TooDeep)
        );
    }
}
