//! Conditions of a pod that somebody else changes: while a node isn't heard from, its pods are marked as not ready.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{POD, World, condition, pod};

/// Marks the pod as a node controller does.
fn mark(world: &World) {
    let mut object = world.api.get(POD).unwrap();
    let conditions = object["status"]["conditions"].as_array_mut().unwrap();
    let ready = conditions.iter_mut().find(|c| c["type"] == "Ready");
    ready.unwrap()["status"] = json!("False");
    world.api.put(POD, object);
}

fn version(pod: &Value) -> u64 {
    let version = pod["metadata"]["resourceVersion"].as_str();
    version.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_pod_that_is_marked_as_not_ready_is_ready_again() {
    let world = World::started().await;
    world.api.put(POD, pod(&json!({})));
    world.ready().await;
    mark(&world);
    let corrected = world.ready().await;
    let first = Instant::now();

    // Whoever changes it all the time does not keep the node writing.
    for _ in 0..20 {
        mark(&world);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let marked = world.api.get(POD).unwrap();
    assert_eq!(condition(&marked, "Ready"), "False");
    assert!(
        version(&marked) - version(&corrected) <= 22,
        "written too often: {marked}"
    );
    world.ready().await;
    assert!(first.elapsed() >= Duration::from_secs(8));
}

#[tokio::test]
async fn what_others_write_beside_is_left() {
    let world = World::started().await;
    world.api.put(POD, pod(&json!({})));
    let mut object = world.ready().await;
    let own = json!({"type": "example.com/other", "status": "True"});
    let conditions = object["status"]["conditions"].as_array_mut().unwrap();
    conditions.push(own);
    world.api.put(POD, object);
    mark(&world);
    let corrected = world.ready().await;
    assert_eq!(condition(&corrected, "example.com/other"), "True");
}
