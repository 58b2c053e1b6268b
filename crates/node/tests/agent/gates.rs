//! Each combination of the node's gates against each shape in which a server, with gates of its own, leaves a pod.

use serde_json::{Value, json};

use crate::{POD, World, class, pod};

#[tokio::test]
async fn every_combination() {
    let shapes = [
        json!({"runtimeClassName": "vm", "overhead": {"memory": "16Mi"}}),
        // A server without PodOverhead.
        json!({"runtimeClassName": "vm"}),
        // A server without RuntimeClass.
        json!({}),
    ];
    for (known, counted) in [(true, true), (true, false), (false, true), (false, false)] {
        for shape in &shapes {
            let mut world = World::new().await;
            world.gates.runtime_class = known;
            world.gates.pod_overhead = counted;
            world.cri.state.lock().handlers.push("kata".into());
            world.start();
            class(&world, "vm", "kata");
            let mut spec = shape.clone();
            spec["containers"] = json!([{"name": "c", "image": "busybox:1", "resources": {"limits": {"memory": "64Mi"}}}]);
            world.api.put(POD, pod(&spec));
            world.ready().await;
            let named = known && shape["runtimeClassName"] == "vm";
            let handler = if named { "kata" } else { "" };
            world.called(&format!("RunPodSandbox {handler:?}")).await;
            let overhead = {
                let state = world.cri.state.lock();
                let sandbox = state.sandboxes.values().next().expect("a sandbox");
                let linux = sandbox.config.linux.clone().expect("linux");
                linux.overhead.map(|o| o.memory_limit_in_bytes)
            };
            let want = (counted && shape["overhead"] != Value::Null).then_some(16 << 20);
            assert_eq!(
                overhead, want,
                "RuntimeClass={known},PodOverhead={counted} {shape}"
            );
            world.stop().await;
        }
    }
}

#[tokio::test]
async fn a_class_that_denies_the_network_runs_only_where_that_is_enforced() {
    let world = World::started().await;
    let path = "/apis/node.k8s.io/v1/runtimeclasses/closed";
    let annotations = json!({"node.berth.dev/default-network-policy": "deny-all"});
    let object = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": {"name": "closed", "annotations": annotations}, "handler": "runc"});
    world.api.put(path, object);
    world
        .api
        .put(POD, pod(&json!({"runtimeClassName": "closed"})));
    world
        .said("NetworkPolicyNotInForce: RuntimeClass \"closed\" has the annotation")
        .await;
    world
        .until(POD, "the reason", |p| {
            let waiting = &p["status"]["containerStatuses"][0]["state"]["waiting"];
            waiting["reason"] == "NetworkPolicyNotInForce"
        })
        .await;
    let calls = world.cri.calls();
    assert!(
        !calls.iter().any(|call| call.starts_with("StartContainer")),
        "{calls:?}"
    );
    class(&world, "closed", "runc");
    world.ready().await;
}
