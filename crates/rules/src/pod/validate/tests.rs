//! Tables of what a stock API server says to pods that are wrong in one place.

mod affinity;
mod bounds;
mod containers;
mod environment;
mod probes;
mod resources;
mod security;
mod spec;
mod update;
mod volumes;

use serde_json::{Value, json};

use super::*;
use crate::Rules;
use berth_core::gates::FeatureGates;

fn pod(spec: Value) -> Pod {
    let body = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"}, "spec": spec});
    let mut pod: Pod = berth_api::decode::from_value(&body).unwrap();
    Rules::default(&mut pod);
    pod.prepare_create(&FeatureGates::default());
    pod
}

fn causes(errors: &[FieldError]) -> Vec<String> {
    let mut all: Vec<_> = errors
        .iter()
        .map(|e| format!("{} {}", e.kind.reason(), e.field))
        .collect();
    all.sort();
    all.dedup();
    all
}

fn check(cases: &[(Value, &[&str])]) {
    for (spec, want) in cases {
        assert_eq!(causes(&pod(spec.clone()).validate()), *want, "{spec}");
    }
}

/// A spec of one container with more fields of the spec.
fn spec(more: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
    merge(&mut spec, more);
    spec
}

/// A spec of one container with more fields of the container.
fn c(more: Value) -> Value {
    let mut container = json!({"name": "c", "image": "i"});
    merge(&mut container, more);
    json!({"containers": [container]})
}

fn merge(target: &mut Value, more: Value) {
    if let (Value::Object(target), Value::Object(more)) = (target, more) {
        target.extend(more);
    }
}
