//! The way in for the fuzz target `schema`, and for the test that runs it on its seeds with some changes.

use berth_api::field::FieldPath;
use serde_json::Value as Json;

use crate::{Options, Schema, check, default, prune, validate};

/// Reads what stands before the first zero byte as a schema and what stands behind as an object, and does with them what
/// a server does: a schema that nothing is wrong with is enforced.
///
/// # Panics
/// When a schema that was found good can't be enforced, or what was pruned and defaulted isn't done.
pub fn enforce_anything(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let read = |part: Option<&[u8]>| serde_json::from_slice::<Json>(part.unwrap_or_default());
    let (Ok(schema), object) = (read(parts.next()), read(parts.next())) else {
        return;
    };
    for status in [false, true] {
        let wrong = check(&schema, &FieldPath::new("schema"), Options { status });
        let compiled = Schema::compile(&schema);
        if wrong.is_empty() {
            assert!(
                compiled.is_ok(),
                "found good, and can't be enforced: {:?}",
                compiled.err()
            );
        }
        // Those of an older version are enforced, too, as far as they can be.
        if let (Ok(schema), Ok(object)) = (&compiled, &object) {
            enforce(schema, object);
        }
    }
}

fn enforce(schema: &Schema, object: &Json) {
    let mut object = object.clone();
    let old = object.clone();
    prune(&mut object, schema, 100);
    assert!(
        prune(&mut object, schema, 100).is_empty(),
        "pruned, and something is left: {object}"
    );
    if default(&mut object, schema).is_ok() {
        let before = object.clone();
        let again = default(&mut object, schema);
        assert!(
            again.is_ok() && object == before,
            "defaulted, and something is missing: {before} {object}"
        );
    }
    let _ = validate(&object, None, schema);
    let _ = validate(&object, Some(&old), schema);
}

#[cfg(test)]
mod tests {
    use super::enforce_anything;

    #[test]
    fn changed_schemas_are_enforced_or_refused() {
        berth_testkit::each_seed_changed("schema", 60, enforce_anything);
    }
}
