//! Tables of what the stock plugin says.

mod configured;
mod controls;
mod labels;
mod namespaces;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec}))
        .unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| (format!("{AUDIT_PREFIX}{name}"), (*value).to_owned()))
        .collect()
}

fn mode(text: &str) -> LevelVersion {
    let (level, version) = text.split_once(':').unwrap();
    LevelVersion {
        level: level.parse().unwrap(),
        version: version.parse().unwrap(),
    }
}

/// A pod that meets every level, with more fields of the spec and of its only container.
fn restricted(more_spec: Value, more_context: Value) -> Pod {
    let mut spec = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "i", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    });
    merge(&mut spec["containers"][0]["securityContext"], more_context);
    merge(&mut spec, more_spec);
    pod(spec)
}

fn merge(target: &mut Value, more: Value) {
    match (target, more) {
        (Value::Object(target), Value::Object(more)) => {
            for (key, value) in more {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, more) => *target = more,
    }
}
