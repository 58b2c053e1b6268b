//! Ways in for the fuzz targets under `fuzz/`, and for the tests that run them on their seeds with some changes.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::patch::{self, PatchKind, WriteContext};
use crate::protobuf;
use crate::registry::Resource;
use crate::{admission, custom, kinds, query, rest, storage};

static ROWS: LazyLock<Vec<Resource>> = LazyLock::new(kinds::rows);

/// Reads any bytes as a body in protobuf: of the kind that its envelope says, and, behind their first two bytes, of the kind
/// that these choose. What can be read is written again, and then it is the same.
///
/// # Panics
/// When it isn't.
pub fn read_protobuf(data: &[u8]) {
    reread(data);
    let [first, second, message @ ..] = data else {
        return;
    };
    let chosen = (usize::from(*first) << 8) | usize::from(*second);
    let row = &ROWS[chosen % ROWS.len()];
    for version in &row.versions {
        let api_version = row.api_version(version);
        let mut body = protobuf::envelope_head(&api_version, &row.kind);
        protobuf::put_head(&mut body, 2, message.len() as u64);
        body.extend_from_slice(message);
        reread(&body);
    }
}

fn reread(body: &[u8]) {
    let Ok(object) = protobuf::decode(body) else {
        return;
    };
    let Some(written) = protobuf::encode(&object) else {
        return;
    };
    assert_eq!(protobuf::decode(&written).as_ref(), Ok(&object));
}

/// Reads any bytes as the answers of webhooks, and applies the patch of an admission webhook.
///
/// # Panics
/// When something is taken that may not be.
pub fn read_reviews(data: &[u8]) {
    for (v1, mutating) in [(true, true), (true, false), (false, true), (false, false)] {
        let Ok(patch) = admission::fuzz_review(data, v1, mutating) else {
            continue;
        };
        assert!(
            mutating || patch.is_empty(),
            "a patch of who may not change"
        );
        // That it can't be applied is an answer, too.
        let _ = patch::json::apply(&pod(), &patch);
    }
    custom::fuzz_review(data);
}

/// Reads any bytes as what the store has for a secret that is to be encrypted.
///
/// # Panics
/// When something is taken that nobody has sealed.
pub fn open_stored(data: &[u8]) {
    storage::fuzz_stored(data);
}

/// Reads any bytes as the query of a list and as a continue token.
///
/// # Panics
/// When a token of another list is taken.
pub fn read_query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    query::fuzz_query(text);
    rest::fuzz_token(text);
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"},
            "finalizers": ["x/y", "x/z"],
            "managedFields": [{"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}}}}]},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}]},
            {"name": "d", "image": "i"}], "volumes": [{"name": "v", "emptyDir": {}}],
            "tolerations": [{"key": "k", "operator": "Exists"}]}})
}

/// Applies any bytes as a patch to a pod; the first byte chooses of which type.
///
/// # Panics
/// When an answer nests deeper than can be read.
pub fn patch_anything(data: &[u8]) {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let Some(row) = ROWS.iter().find(|row| row.kind == "Pod") else {
        return;
    };
    let kind = match first % 4 {
        0 => PatchKind::Json,
        1 => PatchKind::Merge,
        2 => PatchKind::Strategic,
        _ => PatchKind::Apply,
    };
    let ctx = WriteContext {
        resource: row,
        version: "v1",
        subresource: "",
        manager: "fuzz",
        force: first & 4 == 0,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let object = pod();
    let _ = patch::strict_errors(kind, body);
    match patch::apply(kind, Some(&object), body, &ctx) {
        Ok(mut patched) => {
            let text = patched.to_string();
            assert!(
                serde_json::from_str::<Value>(&text).is_ok(),
                "can't be read: {text}"
            );
            if kind != PatchKind::Apply {
                patch::track(Some(&object), &mut patched, &ctx);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if kind == PatchKind::Apply {
        // The same again changes nothing.
        if let Ok(new) = patch::apply(kind, None, body, &ctx) {
            let again = patch::apply(kind, Some(&new), body, &ctx);
            assert_eq!(again.as_ref().ok(), Some(&new), "{again:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_testkit::each_seed_changed;

    #[test]
    fn changed_messages_are_read_or_refused() {
        each_seed_changed("protobuf", 300, super::read_protobuf);
    }

    #[test]
    fn changed_answers_of_webhooks_are_read_or_refused() {
        each_seed_changed("reviews", 300, super::read_reviews);
    }

    #[test]
    fn changed_values_of_the_store_are_opened_or_refused() {
        each_seed_changed("stored", 300, super::open_stored);
    }

    #[test]
    fn changed_queries_are_read_or_refused() {
        each_seed_changed("query", 300, super::read_query);
    }

    #[test]
    fn changed_patches_are_applied_or_refused() {
        each_seed_changed("patch", 300, super::patch_anything);
    }
}
