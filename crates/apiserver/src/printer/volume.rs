//! What the columns of volumes, claims and policies have in common.

use serde_json::{Value, json};

use super::{items, text};

const UNSET: &str = "<unset>";

/// A text, or `<unset>`.
pub(crate) fn unset(text: &str) -> Value {
    json!(if text.is_empty() { UNSET } else { text })
}

/// `RWO,ROX`.
pub(crate) fn access_modes(object: &Value, pointer: &str) -> String {
    let modes = items(object, pointer).iter().filter_map(Value::as_str);
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let modes: Vec<&str> = modes.collect();
    let short = known.into_iter().filter(|(long, _)| modes.contains(long));
    short.map(|(_, short)| short).collect::<Vec<_>>().join(",")
}

/// The phase, or that it is being deleted.
pub(crate) fn phase(object: &Value) -> &str {
    if object["metadata"]["deletionTimestamp"].is_string() {
        "Terminating"
    } else {
        text(object, "/status/phase")
    }
}

/// The class, which was an annotation once.
pub(crate) fn storage_class(object: &Value) -> &str {
    let annotations = &object["metadata"]["annotations"];
    match annotations["volume.beta.kubernetes.io/storage-class"].as_str() {
        Some(class) => class,
        None => text(object, "/spec/storageClassName"),
    }
}

/// `v1/ConfigMap`: the kind of a policy's parameters.
pub(crate) fn param_kind(policy: &Value) -> String {
    match text(policy, "/spec/paramKind/kind") {
        "" => String::new(),
        kind => format!("{}/{kind}", text(policy, "/spec/paramKind/apiVersion")),
    }
}

/// `namespace/name` of a binding's parameters.
pub(crate) fn param_ref(binding: &Value) -> String {
    let reference = |field: &str| text(binding, &format!("/spec/paramRef/{field}"));
    match (reference("namespace"), reference("name")) {
        (_, "") if binding.pointer("/spec/paramRef/selector").is_some() => "*".to_owned(),
        (_, "") => String::new(),
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}
