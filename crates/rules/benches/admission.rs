//! The cost of admission alone: a pod with class, overhead, node selector and tolerations.
#![allow(missing_docs)]

use std::hint::black_box;

use berth_core::gates::FeatureGates;
use berth_rules::admission::runtime_class;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::json;

fn admission(c: &mut Criterion) {
    let class: RuntimeClass = serde_json::from_value(json!({
        "metadata": {"name": "gvisor"}, "handler": "runsc",
        "overhead": {"podFixed": {"cpu": "250m", "memory": "120Mi"}},
        "scheduling": {"nodeSelector": {"sandbox": "yes", "zone": "a"},
            "tolerations": [{"key": "sandbox", "operator": "Exists", "effect": "NoSchedule"}, {"key": "b", "operator": "Equal", "value": "c"}]},
    }))
    .unwrap_or_default();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"runtimeClassName": "gvisor", "containers": [{"name": "c", "image": "i"}],
            "overhead": {"cpu": "0.25", "memory": "122880Ki"}, "nodeSelector": {"zone": "a", "disk": "ssd"},
            "tolerations": [
                {"key": "sandbox", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ]},
    }))
    .unwrap_or_default();
    let gates = FeatureGates::default();
    assert!(runtime_class::admit(&mut pod.clone(), Some(&class), &gates).is_ok());
    c.bench_function(
        "admit a pod with class, overhead, selector, tolerations",
        |b| {
            // by reference: moving the pod in and out would be measured too
            b.iter_batched_ref(
                || pod.clone(),
                |pod| black_box(runtime_class::admit(pod, Some(&class), &gates)).is_ok(),
                BatchSize::SmallInput,
            );
        },
    );
}

criterion_group!(benches, admission);
criterion_main!(benches);
