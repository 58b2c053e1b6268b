//! What the columns of workloads have in common: their pods' containers and images, and counts.

use serde_json::{Value, json};

use super::{NONE, items, text};

fn of_containers(object: &Value, pod: &str, field: &str) -> Value {
    let containers = items(object, &format!("{pod}/containers")).iter();
    let shown: Vec<&str> = containers
        .map(|c| c[field].as_str().unwrap_or_default())
        .collect();
    json!(shown.join(","))
}

/// The names of the containers of the pod spec at a JSON pointer.
pub(crate) fn containers(object: &Value, pod: &str) -> Value {
    of_containers(object, pod, "name")
}

/// The images of the containers of the pod spec at a JSON pointer.
pub(crate) fn images(object: &Value, pod: &str) -> Value {
    of_containers(object, pod, "image")
}

/// A number at a JSON pointer; absent ones are zero.
pub(crate) fn number(object: &Value, pointer: &str) -> Value {
    json!(object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0))
}

/// `1/3`.
pub(crate) fn ratio(object: &Value, part: &str, whole: &str) -> String {
    format!("{}/{}", number(object, part), number(object, whole))
}

/// Labels at a JSON pointer.
pub(crate) fn labels_at(object: &Value, pointer: &str) -> Value {
    let labels = object.pointer(pointer).and_then(Value::as_object);
    let shown = labels.into_iter().flatten().map(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        format!("{key}={value}")
    });
    let shown: Vec<String> = shown.collect();
    json!(if shown.is_empty() {
        NONE.to_owned()
    } else {
        shown.join(",")
    })
}

/// The label selector in the spec.
pub(crate) fn selector(object: &Value) -> Value {
    selector_at(object, "/spec/selector")
}

/// The label selector at a JSON pointer.
pub(crate) fn selector_at(object: &Value, pointer: &str) -> Value {
    let selector = object.pointer(pointer).cloned().unwrap_or_default();
    let shown = serde_json::from_value(selector).map(|s| berth_core::selector::text_of(&s));
    match shown {
        Ok(shown) if !shown.is_empty() => json!(shown),
        Ok(_) | Err(_) => json!(NONE),
    }
}

/// `deployment.apps/web`: the owner that made an object.
pub(crate) fn controller(object: &Value) -> Value {
    let mut owners = items(object, "/metadata/ownerReferences").iter();
    let Some(owner) = owners.find(|owner| owner["controller"] == true) else {
        return json!(NONE);
    };
    let kind = text(owner, "/kind").to_lowercase();
    let name = text(owner, "/name");
    match text(owner, "/apiVersion").split_once('/') {
        Some((group, _)) => json!(format!("{kind}.{group}/{name}")),
        None => json!(format!("{kind}/{name}")),
    }
}
