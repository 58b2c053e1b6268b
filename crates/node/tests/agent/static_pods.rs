//! Static pods: run from files whatever the API says, and shown there by mirrors that are nobody's but the node's.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use berth_node::Config;
use berth_testkit::wait_for_async;
use serde_json::{Value, json};

use super::{LIMIT, NODE, World, condition, pod};

const WEB: &str = "/api/v1/namespaces/default/pods/web-n1";
const MIRROR: &str = "kubernetes.io/config.mirror";
const HASH: &str = "kubernetes.io/config.hash";

fn manifests(world: &World) -> PathBuf {
    let dir = world.dir.path().join("manifests");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn config(world: &World) -> Config {
    let mut config = world.config();
    config.static_pod_dir = Some(manifests(world));
    config
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn manifest(image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - name: c\n    image: {image}\n    imagePullPolicy: IfNotPresent\n"
    )
}

async fn runs(world: &World, count: usize) -> Vec<String> {
    wait_for_async("running containers", LIMIT, || async {
        let running = world.cri.running("c");
        if running.len() == count {
            Ok(running)
        } else {
            Err(format!("{running:?} {:?}", world.cri.calls()))
        }
    })
    .await
}

async fn mirror(world: &World) -> Value {
    world
        .until(WEB, "the mirror, Ready", |p| {
            condition(p, "Ready") == "True"
        })
        .await
}

async fn gone(world: &World, path: &str) {
    wait_for_async(path, LIMIT, || async {
        let pod = world.api.get(path);
        pod.is_none().then_some(()).ok_or("still there")
    })
    .await;
}

fn annotation<'a>(pod: &'a Value, name: &str) -> &'a str {
    pod["metadata"]["annotations"][name]
        .as_str()
        .unwrap_or_default()
}

async fn started() -> World {
    let mut world = World::new().await;
    write(&manifests(&world), "web.yaml", &manifest("busybox:1"));
    world.start_with(config(&world));
    world
}

#[tokio::test]
async fn a_file_runs_changes_and_ends_with_its_pod() {
    let mut world = started().await;
    let first = mirror(&world).await;
    let id = runs(&world, 1).await;
    assert_eq!(annotation(&first, MIRROR), annotation(&first, HASH));
    assert_eq!(annotation(&first, "kubernetes.io/config.source"), "file");
    assert_eq!(first["spec"]["nodeName"], "n1");
    let owner = &first["metadata"]["ownerReferences"][0];
    let node = world.api.get(NODE).unwrap();
    assert_eq!(
        (
            &owner["kind"],
            &owner["name"],
            &owner["uid"],
            &owner["controller"]
        ),
        (
            &json!("Node"),
            &json!("n1"),
            &node["metadata"]["uid"],
            &json!(true)
        )
    );
    assert!(first["spec"]["priority"].is_null());
    // Deleted, the mirror is made anew, and the pod does not notice.
    let mut deleted = first.clone();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    deleted["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    world.api.put(WEB, deleted);
    let second = world
        .until(WEB, "another mirror", |p| {
            p["metadata"]["uid"] != first["metadata"]["uid"] && condition(p, "Ready") == "True"
        })
        .await;
    assert_eq!(runs(&world, 1).await, id);
    // A restart of the agent, with the API's and the runtime's words for it, changes nothing either.
    world.stop().await;
    world.start_with(config(&world));
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(runs(&world, 1).await, id);
    assert_eq!(
        world.api.get(WEB).unwrap()["metadata"]["uid"],
        second["metadata"]["uid"]
    );
    // What is half written ends nothing.
    write(&manifests(&world), "web.yaml", &manifest("busybox:1")[..60]);
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!(runs(&world, 1).await, id);
    // Another content is another pod, after the end of the first.
    write(&manifests(&world), "web.yaml", &manifest("busybox:2"));
    let third = world
        .until(WEB, "the mirror of the new file", |p| {
            annotation(p, HASH) != annotation(&first, HASH) && condition(p, "Ready") == "True"
        })
        .await;
    assert_eq!(third["spec"]["containers"][0]["image"], "busybox:2");
    let calls = world.cri.calls();
    let at = |call: &str| calls.iter().position(|c| c.starts_with(call)).unwrap();
    let sandboxes = calls.iter().enumerate();
    let sandboxes = sandboxes.filter(|(_, call)| call.starts_with("RunPodSandbox"));
    let second = sandboxes.map(|(place, _)| place).nth(1).unwrap();
    assert!(
        at(&format!("StopContainer {}", id[0])) < second,
        "{calls:?}"
    );
    assert_ne!(runs(&world, 1).await, id);
    std::fs::remove_file(manifests(&world).join("web.yaml")).unwrap();
    runs(&world, 0).await;
    gone(&world, WEB).await;
}

#[tokio::test]
async fn static_pods_run_without_an_api_server() {
    let mut world = World::new().await;
    write(&manifests(&world), "web.yaml", &manifest("busybox:1"));
    let mut config = config(&world);
    // Nobody listens there.
    let nowhere = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
    config.client = kube::Client::try_from(nowhere).unwrap();
    world.start_with(config);
    let id = runs(&world, 1).await;
    world.cri.exit(&id[0], 1);
    let again = wait_for_async("restart", LIMIT, || async {
        let running = world.cri.running("c");
        if running.len() == 1 && running != id {
            Ok(running)
        } else {
            Err("not yet")
        }
    })
    .await;
    assert_ne!(again, id);
}

#[tokio::test]
async fn who_makes_a_mirror_himself_has_it_deleted_and_nothing_run() {
    let world = started().await;
    let real = mirror(&world).await;
    let id = runs(&world, 1).await;
    // A pod of a user's, with the annotation, of a name that no file has.
    let mut forged = pod(&json!({}));
    forged["metadata"]["annotations"] = json!({MIRROR: "0".repeat(32), HASH: "0".repeat(32)});
    let path = "/api/v1/namespaces/default/pods/web";
    world.api.put(path, forged.clone());
    gone(&world, path).await;
    // One with the right hash, in a namespace of the user's: the file's pod is not there.
    let other = "/api/v1/namespaces/mine/pods/web-n1";
    forged["metadata"]["name"] = json!("web-n1");
    forged["metadata"]["namespace"] = json!("mine");
    forged["metadata"]["annotations"] = real["metadata"]["annotations"].clone();
    world.api.put(other, forged.clone());
    gone(&world, other).await;
    // One in place of the mirror, with another image and a wrong hash.
    world.api.remove(WEB);
    forged["metadata"]["namespace"] = json!("default");
    forged["metadata"]["annotations"] = json!({MIRROR: "1", HASH: "1"});
    forged["metadata"]["uid"] = json!("forged");
    world.api.put(WEB, forged);
    world
        .until(WEB, "the node's own mirror", |p| {
            p["metadata"]["uid"] != "forged" && condition(p, "Ready") == "True"
        })
        .await;
    assert_eq!(runs(&world, 1).await, id);
    let sandboxes = world.cri.calls();
    let runs = sandboxes.iter().filter(|c| c.starts_with("RunPodSandbox"));
    assert_eq!(runs.count(), 1, "{sandboxes:?}");
    // An ordinary pod with a static pod's uid is not taken for it.
    let mut same = pod(&json!({}));
    same["metadata"]["uid"] = json!(annotation(&real, HASH));
    same["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.api.put(path, same);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(world.cri.running("c"), id);
}

#[tokio::test]
async fn a_directory_that_others_may_write_into_runs_nothing() {
    let mut world = World::new().await;
    let dir = manifests(&world);
    write(&dir, "web.yaml", &manifest("busybox:1"));
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut config = world.config();
    config.static_pod_dir = Some(dir.clone());
    world.start_with(config);
    world
        .until(NODE, "node Ready", |n| condition(n, "Ready") == "True")
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(world.cri.calls().is_empty(), "{:?}", world.cri.calls());
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    runs(&world, 1).await;
}
