//! Containers whose start was cut short: by a kill of the runtime, or of the agent.

use serde_json::{Value, json};

use crate::fake_cri::Fault;
use crate::{POD, World, pod};

fn once() -> Value {
    pod(&json!({"restartPolicy": "Never"}))
}

fn created(world: &World) -> Vec<String> {
    let calls = world.cri.calls().into_iter();
    calls
        .filter(|call| call.starts_with("CreateContainer"))
        .collect()
}

fn restarts(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["restartCount"]
}

/// CRI-O makes the file of a container's log, and no folder for it: as under the kubelet that is there before.
#[tokio::test]
async fn a_container_has_a_folder_for_its_log() {
    let mut world = World::new().await;
    world.start();
    world.api.put(POD, once());
    world.ready().await;
    assert_eq!(world.cri.state.lock().log_folders, [true]);
}

/// The runtime may have started it after all, or be about to: another one beside it would run twice.
#[tokio::test]
async fn a_container_whose_start_was_cut_short_is_started_and_no_other() {
    let world = World::new().await;
    world.cri.state.lock().start_fails = vec![Fault::Cut];
    let mut world = world;
    world.start();
    world.api.put(POD, once());
    let running = world.ready().await;
    assert_eq!(restarts(&running), 0);
    assert_eq!(created(&world).len(), 1, "{:?}", created(&world));
    let id = world.cri.running("c").remove(0);
    world.cri.exit(&id, 3);
    world.phase("Failed").await;
    assert_eq!(created(&world).len(), 1);
}

#[tokio::test]
async fn so_is_one_that_an_agent_which_was_killed_has_created() {
    let mut world = World::new().await;
    world.cri.state.lock().start_fails = vec![Fault::Cut; 1000];
    world.start();
    world.api.put(POD, once());
    world.said("Failed: Error: the server is gone").await;
    world.stop().await;
    world.cri.state.lock().start_fails.clear();
    world.start();
    let running = world.ready().await;
    assert_eq!(restarts(&running), 0);
    assert_eq!(created(&world).len(), 1, "{:?}", created(&world));
}

/// As under the kubelet: what never ran is tried again under Never, too, and counted.
#[tokio::test]
async fn one_that_the_runtime_refuses_to_start_is_made_anew() {
    let mut world = World::new().await;
    world.cri.state.lock().start_fails = vec![Fault::Refused];
    world.start();
    world.api.put(POD, once());
    let running = world.ready().await;
    assert_eq!(restarts(&running), 1);
    assert_eq!(created(&world).len(), 2, "{:?}", created(&world));
}
