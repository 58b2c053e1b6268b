//! Writing what differs, if the object is still as it was read.

use std::fmt::Debug;

use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Which part of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Metadata and spec.
    Main,
    /// The status.
    Status,
}

/// Writes the change from `old` to `new`.
///
/// # Errors
/// Also when the object has changed since, or is gone.
pub(super) async fn write<K>(api: &Api<K>, old: &K, new: &K, part: Part) -> kube::Result<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let value = |object: &K| serde_json::to_value(object).map_err(kube::Error::SerdeError);
    let mut patch = changes(&value(old)?, &value(new)?).unwrap_or_else(|| json!({}));
    let meta = old.meta();
    if patch.get("metadata").is_none() {
        patch["metadata"] = json!({});
    }
    patch["metadata"]["uid"] = json!(meta.uid);
    patch["metadata"]["resourceVersion"] = json!(meta.resource_version);
    let (name, how, patch) = (old.name_any(), PatchParams::default(), Patch::Merge(patch));
    match part {
        Part::Main => api.patch(&name, &how, &patch).await,
        Part::Status => api.patch_status(&name, &how, &patch).await,
    }
}

/// The merge patch from one to the other; nothing when they are equal.
fn changes(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut all = Map::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        all.insert(key.clone(), Value::Null);
    }
    for (key, value) in after {
        let none = Value::Null;
        if let Some(change) = changes(before.get(key).unwrap_or(&none), value) {
            all.insert(key.clone(), change);
        }
    }
    (!all.is_empty()).then_some(Value::Object(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let old = json!({"metadata": {"annotations": {"a": "1", "b": "2"}, "finalizers": ["x", "y"]}, "spec": {"c": 1}});
        let new = json!({"metadata": {"annotations": {"a": "1"}, "finalizers": ["x"]}, "spec": {"c": 1, "d": {"e": 2}}});
        let wanted = json!({"metadata": {"annotations": {"b": null}, "finalizers": ["x"]}, "spec": {"d": {"e": 2}}});
        assert_eq!(changes(&old, &new), Some(wanted));
        assert_eq!(changes(&old, &old), None);
    }
}
