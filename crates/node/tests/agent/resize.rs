//! Resizing running pods (KEP-1287): what is granted, how containers get it, and what the status says.

use serde_json::{Value, json};

use super::{LIMIT, NODE, POD, World, condition, pod};
use berth_testkit::wait_for_async;

fn sized(cpu: &str, memory: &str, policy: &Value) -> Value {
    let amounts = json!({"cpu": cpu, "memory": memory});
    pod(
        &json!({"containers": [{"name": "c", "image": "busybox:1", "resizePolicy": policy,
        "resources": {"requests": amounts, "limits": amounts}}]}),
    )
}

fn with_size(world: &World, path: &str, cpu: &str, memory: &str) {
    let mut pod = world.api.get(path).unwrap();
    let amounts = json!({"cpu": cpu, "memory": memory});
    pod["spec"]["containers"][0]["resources"] = json!({"requests": amounts, "limits": amounts});
    world.api.put(path, pod);
}

fn of_status<'a>(pod: &'a Value, at: &str) -> &'a Value {
    let status = &pod["status"]["containerStatuses"][0];
    status.pointer(at).unwrap_or(&Value::Null)
}

fn reason(object: &Value, name: &str) -> (String, String) {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|c| c["type"] == name);
    let part = |key: &str| {
        found
            .and_then(|c| c[key].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    (part("reason"), part("message"))
}

async fn running(policy: &Value) -> World {
    let world = World::started().await;
    world
        .until(NODE, "node Ready", |n| condition(n, "Ready") == "True")
        .await;
    world.api.put(POD, sized("100m", "64Mi", policy));
    world.ready().await;
    world
}

async fn has(world: &World, cpu: &str) -> Value {
    world
        .until(POD, cpu, |p| {
            of_status(p, "/resources/limits/cpu") == cpu
                && condition(p, "PodResizeInProgress").is_empty()
        })
        .await
}

#[tokio::test]
async fn a_running_container_is_resized_in_place() {
    let world = running(&json!([])).await;
    let before = has(&world, "100m").await;
    assert_eq!(of_status(&before, "/allocatedResources/cpu"), "100m");
    with_size(&world, POD, "200m", "128Mi");
    let after = has(&world, "200m").await;
    assert_eq!(of_status(&after, "/allocatedResources/memory"), "128Mi");
    assert_eq!(of_status(&after, "/restartCount"), 0);
    let id = world.cri.running("c").pop().unwrap();
    let call = format!(
        "UpdateContainerResources {id} quota=20000 memory={}",
        128 << 20
    );
    world.called(&call).await;
    world.said("ResizeStarted").await;
    world.said("ResizeCompleted").await;
    // Another way to write the same amounts changes nothing.
    let calls = world.cri.calls().len();
    with_size(&world, POD, "0.2", "131072Ki");
    world.api.put("/api/v1/namespaces/default/pods/other", {
        let mut other = sized("10m", "1Mi", &json!([]));
        other["metadata"]["name"] = json!("other");
        other["metadata"]["uid"] = json!("u2");
        other
    });
    wait_for_async("the other pod", LIMIT, || async {
        if world.cri.running("c").len() == 2 {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    let after = world.cri.calls().split_off(calls);
    assert!(!after.iter().any(|c| c.starts_with("Update")), "{after:?}");
}

#[tokio::test]
async fn a_policy_may_ask_for_a_restart() {
    let world =
        running(&json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}])).await;
    with_size(&world, POD, "200m", "64Mi");
    has(&world, "200m").await;
    let first = world.cri.running("c").pop().unwrap();
    with_size(&world, POD, "200m", "128Mi");
    let after = world
        .until(POD, "the restart", |p| {
            of_status(p, "/resources/limits/memory") == "128Mi"
                && of_status(p, "/restartCount") == 1
        })
        .await;
    assert!(condition(&after, "PodResizePending").is_empty());
    let second = world.cri.running("c").pop().unwrap();
    assert_ne!(first, second);
    let linux = world.cri.state.lock().containers[&second]
        .config
        .linux
        .clone()
        .unwrap();
    assert_eq!(linux.resources.unwrap().memory_limit_in_bytes, 128 << 20);
    world.said("resize requires restart").await;
}

#[tokio::test]
async fn what_the_node_has_not_is_not_granted() {
    let world = running(&json!([])).await;
    with_size(&world, POD, "100000", "64Mi");
    let pending = world
        .until(POD, "Infeasible", |p| {
            reason(p, "PodResizePending").0 == "Infeasible"
        })
        .await;
    let (_, message) = reason(&pending, "PodResizePending");
    assert!(
        message
            .starts_with("Node didn't have enough capacity: cpu, requested: 100000000, capacity: "),
        "{message}"
    );
    assert_eq!(of_status(&pending, "/resources/limits/cpu"), "100m");
    assert_eq!(of_status(&pending, "/allocatedResources/cpu"), "100m");
    world.said("ResizeInfeasible").await;

    // What another pod holds is waited for.
    let capacity: Value = world.api.get(NODE).unwrap()["status"]["allocatable"]["memory"].clone();
    let kib: u64 = capacity
        .as_str()
        .unwrap()
        .trim_end_matches("Ki")
        .parse()
        .unwrap();
    let other = "/api/v1/namespaces/default/pods/other";
    let mut second = sized("10m", &format!("{}Ki", kib * 3 / 4), &json!([]));
    second["metadata"]["name"] = json!("other");
    second["metadata"]["uid"] = json!("u2");
    world.api.put(other, second);
    world
        .until(other, "Ready", |p| condition(p, "Ready") == "True")
        .await;
    with_size(&world, POD, "100m", &format!("{}Ki", kib / 2));
    let pending = world
        .until(POD, "Deferred", |p| {
            reason(p, "PodResizePending").0 == "Deferred"
        })
        .await;
    let (_, message) = reason(&pending, "PodResizePending");
    assert!(
        message.starts_with("Node didn't have enough resource: memory"),
        "{message}"
    );
    world.api.remove(other);
    world
        .until(POD, "granted", |p| {
            of_status(p, "/resources/limits/memory") == &json!(format!("{}Ki", kib / 2))
                && condition(p, "PodResizePending").is_empty()
        })
        .await;
}

#[tokio::test]
async fn an_error_is_said_and_tried_again() {
    let world = running(&json!([])).await;
    world.cri.state.lock().memory_used = 60 << 20;
    with_size(&world, POD, "100m", "32Mi");
    let failed = world
        .until(POD, "Error", |p| {
            reason(p, "PodResizeInProgress").0 == "Error"
        })
        .await;
    let (_, message) = reason(&failed, "PodResizeInProgress");
    assert_eq!(
        message,
        format!(
            "attempting to set container \"c\" memory limit ({}) below current usage ({})",
            32 << 20,
            60 << 20
        )
    );
    assert_eq!(of_status(&failed, "/allocatedResources/memory"), "32Mi");
    assert_eq!(of_status(&failed, "/resources/limits/memory"), "64Mi");
    world.cri.state.lock().memory_used = 0;
    world.cri.state.lock().not_resized = Some("cannot do that".to_owned());
    world
        .until(POD, "the runtime's words", |p| {
            reason(p, "PodResizeInProgress")
                .1
                .ends_with("cannot do that")
        })
        .await;
    world.cri.state.lock().not_resized = None;
    world
        .until(POD, "32Mi", |p| {
            of_status(p, "/resources/limits/memory") == "32Mi"
                && condition(p, "PodResizeInProgress").is_empty()
        })
        .await;
}

#[tokio::test]
async fn a_resize_while_the_agent_is_away_is_made_when_it_is_back() {
    let mut world = running(&json!([])).await;
    let id = world.cri.running("c").pop().unwrap();
    world.stop().await;
    with_size(&world, POD, "300m", "64Mi");
    world.start();
    has(&world, "300m").await;
    world
        .called(&format!(
            "UpdateContainerResources {id} quota=30000 memory={}",
            64 << 20
        ))
        .await;
    assert_eq!(world.cri.running("c"), [id]);
}

#[tokio::test]
async fn without_its_record_a_pod_has_what_its_status_says_and_no_more() {
    let mut world = running(&json!([])).await;
    has(&world, "100m").await;
    for broken in [false, true] {
        world.stop().await;
        let record = world.dir.path().join("node/pods/u1/resources.json");
        std::fs::remove_file(&record).unwrap();
        if broken {
            std::fs::write(&record, "{").unwrap();
        }
        with_size(&world, POD, "100000", "64Mi");
        world.start();
        let pending = world
            .until(POD, "Infeasible", |p| {
                reason(p, "PodResizePending").0 == "Infeasible"
                    && p["status"]["observedGeneration"] == p["metadata"]["generation"]
            })
            .await;
        assert_eq!(of_status(&pending, "/allocatedResources/cpu"), "100m");
        assert_eq!(of_status(&pending, "/resources/limits/cpu"), "100m");
        let calls = world.cri.calls();
        assert!(
            !calls.iter().any(|c| c.contains("quota=10000000")),
            "{calls:?}"
        );
    }
}

fn whole(cpu: &str, memory: &str) -> Value {
    let amounts = json!({"cpu": cpu, "memory": memory});
    json!({"requests": amounts, "limits": amounts})
}

fn of_pod<'a>(pod: &'a Value, at: &str) -> &'a Value {
    pod["status"].pointer(at).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_pod_as_a_whole_is_resized() {
    let mut world = World::started().await;
    world
        .until(NODE, "node Ready", |n| condition(n, "Ready") == "True")
        .await;
    let restarts = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    world.api.put(
        POD,
        pod(&json!({"resources": whole("200m", "128Mi"), "containers": [
            {"name": "free", "image": "busybox:1"},
            {"name": "own", "image": "busybox:1", "resizePolicy": restarts,
             "resources": {"limits": {"cpu": "50m", "memory": "16Mi"}}},
        ]})),
    );
    let before = world.ready().await;
    assert_eq!(of_pod(&before, "/allocatedResources/cpu"), "200m");
    assert_eq!(of_pod(&before, "/resources/limits/memory"), "128Mi");
    let (free, own) = (world.cri.running("free"), world.cri.running("own"));
    // A container without a limit has the pod's.
    let config = world.cri.state.lock().containers[&free[0]].config.clone();
    let limits = config.linux.unwrap().resources.unwrap();
    assert_eq!(
        (limits.cpu_quota, limits.memory_limit_in_bytes),
        (20_000, 128 << 20)
    );

    let resize = |world: &World, resources: Value| {
        let mut pod = world.api.get(POD).unwrap();
        pod["spec"]["resources"] = resources;
        world.api.put(POD, pod);
    };
    resize(&world, whole("400m", "256Mi"));
    let after = world
        .until(POD, "400m", |p| {
            of_pod(p, "/resources/limits/cpu") == "400m"
                && condition(p, "PodResizeInProgress").is_empty()
        })
        .await;
    assert_eq!(of_pod(&after, "/allocatedResources/memory"), "256Mi");
    let call = format!(
        "UpdateContainerResources {} quota=40000 memory={}",
        free[0],
        256 << 20
    );
    world.called(&call).await;
    world.said("ResizeCompleted").await;
    let calls = world.cri.calls();
    let of_own = format!("UpdateContainerResources {}", own[0]);
    assert!(!calls.iter().any(|c| c.starts_with(&of_own)), "{calls:?}");
    assert_eq!(world.cri.running("own"), own, "it has limits of its own");

    resize(&world, whole("100000", "256Mi"));
    let pending = world
        .until(POD, "Infeasible", |p| {
            reason(p, "PodResizePending").0 == "Infeasible"
        })
        .await;
    let (_, message) = reason(&pending, "PodResizePending");
    assert!(
        message.starts_with("Node didn't have enough capacity: cpu, requested: 100000000"),
        "{message}"
    );
    assert_eq!(of_pod(&pending, "/allocatedResources/cpu"), "400m");
    assert_eq!(of_pod(&pending, "/resources/requests/cpu"), "400m");

    // Without the record it is no more than the status says; with what fits, it is given.
    world.stop().await;
    std::fs::remove_file(world.dir.path().join("node/pods/u1/resources.json")).unwrap();
    world.start();
    world
        .until(POD, "Infeasible again", |p| {
            reason(p, "PodResizePending").0 == "Infeasible"
                && of_pod(p, "/allocatedResources/cpu") == "400m"
        })
        .await;
    resize(&world, whole("300m", "256Mi"));
    world
        .until(POD, "300m", |p| {
            of_pod(p, "/resources/limits/cpu") == "300m"
                && condition(p, "PodResizePending").is_empty()
                && condition(p, "PodResizeInProgress").is_empty()
        })
        .await;
    assert_eq!(world.cri.running("free"), free);
}

#[tokio::test]
async fn a_record_of_an_older_agent_says_nothing_of_the_pod_as_a_whole() {
    let mut world = World::started().await;
    world
        .until(NODE, "node Ready", |n| condition(n, "Ready") == "True")
        .await;
    let containers = json!([{"name": "c", "image": "busybox:1"}]);
    world.api.put(
        POD,
        pod(&json!({"resources": whole("200m", "128Mi"), "containers": containers})),
    );
    world.ready().await;
    world.stop().await;
    let record = world.dir.path().join("node/pods/u1/resources.json");
    let mut old: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    for part in ["allocated", "actuated"] {
        assert!(old[part].as_object_mut().unwrap().remove("").is_some());
    }
    std::fs::write(&record, old.to_string()).unwrap();
    let started = |world: &World| {
        let events = world.api.events();
        events
            .iter()
            .filter(|e| e.contains("ResizeStarted"))
            .count()
    };
    let before = started(&world);
    world.start();
    let mut pod = world.api.get(POD).unwrap();
    pod["metadata"]["labels"] = json!({"seen": "again"});
    world.api.put(POD, pod);
    wait_for_async("the record", LIMIT, || async {
        let text = std::fs::read(&record).unwrap_or_default();
        let now: Value = serde_json::from_slice(&text).unwrap_or_default();
        let known = now["allocated"][""]["limits"]["cpu"] == "200m";
        known.then_some(()).ok_or_else(|| now.to_string())
    })
    .await;
    assert_eq!(started(&world), before);
}
