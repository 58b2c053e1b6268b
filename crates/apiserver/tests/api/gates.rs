//! Each combination of the server's feature gates, with the RuntimeClass plugin and without.

use berth_core::gates::FeatureGates;
use serde_json::{Value, json};

use crate::harness::{Api, CLASSES, PODS, class, pod};

/// What reaches a pod: its class, overhead, node selector, and whether it tolerates the class's taint.
fn reached(pod: &Value) -> (Value, Value, Value, bool) {
    let spec = &pod["spec"];
    let tolerations = spec["tolerations"].as_array().cloned().unwrap_or_default();
    let tolerated = tolerations.iter().any(|t| t["key"] == "sandboxed");
    (
        spec["runtimeClassName"].clone(),
        spec["overhead"].clone(),
        spec["nodeSelector"].clone(),
        tolerated,
    )
}

#[tokio::test]
async fn every_combination() {
    for bits in 0..16_u8 {
        let [known, scheduling, overhead, plugin] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
        let gates = FeatureGates {
            runtime_class: known,
            runtime_class_scheduling: scheduling,
            pod_overhead: overhead,
        };
        let api = Api::start_with(|config| {
            config.gates = gates;
            if !plugin {
                config.disable_admission_plugins.push("RuntimeClass".into());
            }
        })
        .await;
        let mut full = class("full", "runc");
        full["overhead"] = json!({"podFixed": {"cpu": "1"}});
        full["scheduling"] = json!({"nodeSelector": {"a": "b"},
            "tolerations": [{"key": "sandboxed", "operator": "Exists"}]});
        api.post(CLASSES, full).await.expect(201);
        let mut named = pod("a");
        named["spec"]["runtimeClassName"] = json!("full");
        let got = reached(&api.post(PODS, named).await.expect(201));
        let merges = known && plugin && scheduling;
        let want = (
            if known { json!("full") } else { Value::Null },
            if known && plugin && overhead {
                json!({"cpu": "1"})
            } else {
                Value::Null
            },
            if merges {
                json!({"a": "b"})
            } else {
                Value::Null
            },
            merges,
        );
        assert_eq!(got, want, "{gates:?}, plugin: {plugin}");

        let mut lost = pod("b");
        lost["spec"]["runtimeClassName"] = json!("nowhere");
        let code = api.post(PODS, lost).await.code;
        let want = if known && plugin { 403 } else { 201 };
        assert_eq!(code, want, "no such class: {gates:?}, plugin: {plugin}");

        let mut brings = pod("c");
        brings["spec"]["overhead"] = json!({"cpu": "2"});
        let answer = api.post(PODS, brings).await;
        if known && plugin && overhead {
            assert_eq!(answer.code, 403, "{gates:?}");
        } else {
            let kept = answer.expect(201)["spec"]["overhead"].clone();
            let want = if known && overhead {
                json!({"cpu": "2"})
            } else {
                Value::Null
            };
            assert_eq!(kept, want, "own overhead: {gates:?}, plugin: {plugin}");
        }
        api.stop().await;
    }
}
