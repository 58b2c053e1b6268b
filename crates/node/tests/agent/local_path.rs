//! Volumes that are directories of the node: made and removed by who may, and given to the pods whose claims have them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};

use super::port_10250::{API_SERVER, send};
use super::{NODE, POD, World, pod};

const UID: &str = "0b1c2d3e-0000-4000-8000-000000000001";
const NAME: &str = "pvc-0b1c2d3e-0000-4000-8000-000000000001";
const CLAIM: &str = "/api/v1/namespaces/default/persistentvolumeclaims/data";

async fn ask(
    world: &World,
    user: Option<&str>,
    method: Method,
    path: &str,
) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path);
    let answer = send(world, user, request.body(Empty::new()).unwrap()).await;
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn at(name: &str) -> String {
    format!("/volumes/local-path/{name}")
}

fn object(name: &str) -> String {
    format!("/api/v1/persistentvolumes/{name}")
}

fn root(world: &World) -> PathBuf {
    world.dir.path().join("node/local-path")
}

fn volume(path: &Path) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": NAME, "annotations": {"pv.kubernetes.io/provisioned-by": "berth.dev/local-path",
            "node.berth.dev/local-path-node": "n1"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "local": {"path": path},
            "persistentVolumeReclaimPolicy": "Delete", "volumeMode": "Filesystem",
            "claimRef": {"namespace": "default", "name": "data", "uid": UID}},
        "status": {"phase": "Bound"}})
}

fn claim() -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "default", "uid": UID},
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": NAME},
        "status": {"phase": "Bound"}})
}

fn with_claim() -> Value {
    pod(
        &json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}], "containers": [
        {"name": "c", "image": "busybox:1", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}]}),
    )
}

/// The volume as it is when it may go.
fn released(path: &Path) -> Value {
    let mut gone = volume(path);
    gone["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    gone["status"]["phase"] = json!("Released");
    gone
}

#[tokio::test]
async fn a_directory_is_made_for_who_may_and_with_no_name_of_a_users() {
    let world = World::started().await;
    for (user, wanted) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("mallory"), StatusCode::FORBIDDEN),
        (Some("system:node:n2,O=system:nodes"), StatusCode::FORBIDDEN),
    ] {
        for method in [Method::POST, Method::DELETE] {
            let (status, text) = ask(&world, user, method, &at(NAME)).await;
            assert_eq!(status, wanted, "{text}");
        }
    }
    // Who may read the node's pages still makes nothing.
    world.api.allow("get");
    let (status, _) = ask(&world, Some("reader"), Method::POST, &at(NAME)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(fs::read_dir(root(&world)).unwrap().count(), 0);
    for bad in [
        "data",
        "pvc-",
        "..",
        "%2e%2e",
        "pvc-..%2F..%2Fetc",
        "pvc-../../../../../../../../../../../../etc",
        "pvc-0B1C2D3E-0000-4000-8000-000000000001",
    ] {
        for method in [Method::POST, Method::DELETE] {
            let (status, _) = ask(&world, API_SERVER, method, &at(bad)).await;
            assert!(status.is_client_error(), "{bad}: {status}");
        }
    }
    assert_eq!(fs::read_dir(root(&world)).unwrap().count(), 0);
    for _ in 0..2 {
        let (status, text) = ask(&world, API_SERVER, Method::POST, &at(NAME)).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let made: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(made["path"], json!(root(&world).join(NAME)));
        assert!(made["freeBytes"].as_u64() > Some(0));
    }
}

#[tokio::test]
async fn data_is_removed_only_when_the_volume_itself_says_so() {
    let world = World::started().await;
    let (status, _) = ask(&world, API_SERVER, Method::POST, &at(NAME)).await;
    assert_eq!(status, StatusCode::OK);
    let dir = root(&world).join(NAME);
    fs::write(dir.join("precious"), "x").unwrap();
    let remove = async || ask(&world, API_SERVER, Method::DELETE, &at(NAME)).await;
    let kept = async |what: &str| {
        let (status, text) = remove().await;
        assert_eq!(status, StatusCode::CONFLICT, "{what}: {text}");
        assert!(dir.join("precious").exists(), "{what}");
    };
    // No object says nothing; it may be that the server has lost it.
    kept("no volume").await;
    let empty = format!("{}?empty=true", at(NAME));
    let (status, _) = ask(&world, API_SERVER, Method::DELETE, &empty).await;
    assert!(
        status.is_server_error(),
        "what is not empty is not discarded"
    );
    assert!(dir.join("precious").exists());
    let other = root(&world).join("pvc-x");
    for (what, at, value) in [
        ("bound", "/status/phase", json!("Bound")),
        ("stays", "/metadata/deletionTimestamp", Value::Null),
        (
            "retained",
            "/spec/persistentVolumeReclaimPolicy",
            json!("Retain"),
        ),
        ("everything", "/spec/local/path", json!("/")),
        ("the root", "/spec/local/path", json!(root(&world))),
        ("elsewhere", "/spec/local/path", json!(other)),
        (
            "another node's",
            "/metadata/annotations/node.berth.dev~1local-path-node",
            json!("n2"),
        ),
        (
            "another provisioner's",
            "/metadata/annotations/pv.kubernetes.io~1provisioned-by",
            json!("x"),
        ),
    ] {
        let mut changed = released(&dir);
        *changed.pointer_mut(at).unwrap() = value;
        world.api.put(&object(NAME), changed);
        kept(what).await;
    }
    world.api.put(&object(NAME), released(&dir));
    // What its pods have planted is removed as it is, and nothing that it names.
    let outside = world.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("theirs"), "x").unwrap();
    symlink(&outside, dir.join("link")).unwrap();
    symlink("/", dir.join("root")).unwrap();
    let (status, text) = remove().await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(!dir.exists() && outside.join("theirs").exists());
    // Half removed and asked again, or not there any more.
    assert_eq!(remove().await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_pod_gets_the_volume_of_its_claim_and_keeps_it() {
    let mut world = World::started().await;
    ask(&world, API_SERVER, Method::POST, &at(NAME)).await;
    let dir = root(&world).join(NAME);
    let mut unbound = claim();
    unbound["status"]["phase"] = json!("Pending");
    world.api.put(CLAIM, unbound);
    world.api.put(&object(NAME), volume(&dir));
    world.api.put(POD, with_claim());
    world.said("PVC \"data\" is not bound").await;
    // Somebody else's volume, named by a claim that says that it is bound.
    let mut theirs = volume(&dir);
    theirs["spec"]["claimRef"]["uid"] = json!("another");
    world.api.put(&object(NAME), theirs);
    world.api.put(CLAIM, claim());
    world.said("is not bound to PVC").await;
    // The directory is not there: that is told on the claim as well.
    fs::remove_dir(&dir).unwrap();
    world.api.put(&object(NAME), volume(&dir));
    world.said("is missing: somebody has removed it").await;
    let events = world.api.below("/api/v1/namespaces/default/events");
    let about = |kind: &str| {
        events.iter().any(|(_, event)| {
            event["involvedObject"]["kind"] == kind && event.to_string().contains("is missing")
        })
    };
    assert!(about("Pod") || about("PersistentVolumeClaim"), "{events:?}");
    ask(&world, API_SERVER, Method::POST, &at(NAME)).await;
    world.ready().await;
    let note = world
        .dir
        .path()
        .join("node/pods/u1/volumes/kubernetes.io~claim/v");
    assert_eq!(fs::read_to_string(&note).unwrap(), UID);
    // It is in use whatever the objects say, also for an agent that was started anew.
    world.api.put(&object(NAME), released(&dir));
    world.stop().await;
    // It registers anew, at another port.
    world.api.remove(NODE);
    world.start();
    let (status, text) = ask(&world, API_SERVER, Method::DELETE, &at(NAME)).await;
    assert_eq!(status, StatusCode::CONFLICT, "{text}");
    assert!(text.contains("uses it") && dir.exists(), "{text}");
    world.api.remove(POD);
    berth_testkit::wait_for_async("the removal", super::LIMIT, || async {
        match ask(&world, API_SERVER, Method::DELETE, &at(NAME)).await {
            (StatusCode::OK, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(!dir.exists());
}
