//! Device plugins from end to end: what they offer, what pods get of it, and what a plugin must not be able to do.

use std::path::PathBuf;

use berth_kubelet_api::device_plugin::{
    AllocateResponse, ContainerAllocateResponse, DevicePluginOptions, DeviceSpec, RegisterRequest,
};
use berth_kubelet_api::pod_resources::pod_resources_lister_client::PodResourcesListerClient;
use berth_kubelet_api::pod_resources::{
    AllocatableResourcesRequest, GetPodResourcesRequest, ListPodResourcesRequest,
};
use berth_testkit::wait_for_async;
use serde_json::{Value, json};

use super::fake_plugin::{Answers, FakePlugin, channel, device, healthy, register};
use super::{LIMIT, NODE, POD, World, condition, pod};

const GPU: &str = "vendor.com/gpu";

fn dir(world: &World) -> PathBuf {
    world.dir.path().join("node/device-plugins")
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/default/pods/{name}")
}

/// A pod with so many devices.
fn wants(name: &str, resource: &str, count: &str) -> Value {
    let amount = json!({ resource: count });
    let mut pod = pod(&json!({"containers": [{"name": "c", "image": "busybox:1",
        "env": [{"name": "OWN", "value": "mine"}],
        "resources": {"limits": amount, "requests": amount}}]}));
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["uid"] = json!(format!("uid-{name}"));
    pod
}

async fn has(world: &World, resource: &str, all: &str, free: &str) {
    let at = |part: &str| format!("/status/{part}/{}", resource.replace('/', "~1"));
    world
        .until(NODE, &format!("{resource} {all} {free}"), |node| {
            let of = |part: &str| node.pointer(&at(part)).and_then(Value::as_str);
            of("capacity") == Some(all) && of("allocatable") == Some(free)
        })
        .await;
}

async fn with(devices: &[&str]) -> (World, FakePlugin) {
    let world = World::started().await;
    world
        .until(NODE, "node Ready", |n| condition(n, "Ready") == "True")
        .await;
    let plugin = FakePlugin::new(&dir(&world), GPU, healthy(devices));
    plugin.start().await;
    let all = devices.len().to_string();
    has(&world, GPU, &all, &all).await;
    (world, plugin)
}

async fn ready(world: &World, name: &str) -> Value {
    world
        .until(&path(name), "Ready", |p| condition(p, "Ready") == "True")
        .await
}

async fn failed(world: &World, name: &str) -> Value {
    world
        .until(&path(name), "Failed", |p| p["status"]["phase"] == "Failed")
        .await
}

fn config(world: &World) -> berth_cri_api::v1::ContainerConfig {
    let id = world.cri.running("c").pop().unwrap();
    world.cri.state.lock().containers[&id].config.clone()
}

#[tokio::test]
async fn a_pod_gets_what_the_plugin_says_of_its_device() {
    let (world, plugin) = with(&["a", "b"]).await;
    world.api.put(&path("web"), wants("web", GPU, "1"));
    ready(&world, "web").await;
    assert_eq!(plugin.calls(), ["Allocate a"]);
    let config = config(&world);
    let env: Vec<_> = config
        .envs
        .iter()
        .map(|e| (e.key.as_str(), e.value.as_slice()))
        .collect();
    assert!(env.contains(&("DEVICES", b"a")) && env.contains(&("OWN", b"mine")));
    let node = &config.devices[0];
    assert_eq!(
        (
            node.host_path.as_str(),
            node.container_path.as_str(),
            node.permissions.as_str()
        ),
        ("/dev/null", "/dev/gpu0", "rw")
    );
    assert!(
        config
            .mounts
            .iter()
            .any(|m| m.container_path == "/opt/vendor" && m.readonly)
    );
    assert_eq!(config.cdi_devices[0].name, "vendor.com/gpu=a");
    assert_eq!(
        config.annotations.get("vendor.com/ids").map(String::as_str),
        Some("a")
    );
    // Who watches this machine's devices sees it.
    let socket = world.dir.path().join("node/pod-resources/kubelet.sock");
    let mut lister = PodResourcesListerClient::new(channel(&socket).await.unwrap());
    let list = lister
        .list(ListPodResourcesRequest {})
        .await
        .unwrap()
        .into_inner();
    let of_pod = &list.pod_resources[0];
    assert_eq!(
        (of_pod.name.as_str(), of_pod.namespace.as_str()),
        ("web", "default")
    );
    let held = &of_pod.containers[0].devices[0];
    assert_eq!(
        (held.resource_name.as_str(), held.device_ids.as_slice()),
        (GPU, ["a".to_owned()].as_slice())
    );
    let request = GetPodResourcesRequest {
        pod_name: "web".to_owned(),
        pod_namespace: "default".to_owned(),
    };
    let one = lister.get(request.clone()).await.unwrap().into_inner();
    assert_eq!(one.pod_resources.as_ref(), Some(of_pod));
    let other = GetPodResourcesRequest {
        pod_namespace: "other".to_owned(),
        ..request
    };
    let missing = lister.get(other).await.unwrap_err();
    assert_eq!(missing.message(), "pod web in namespace other not found");
    let all = lister
        .get_allocatable_resources(AllocatableResourcesRequest {})
        .await;
    assert_eq!(all.unwrap().into_inner().devices[0].device_ids, ["a", "b"]);
    // The device falls ill: the Node and the pod's status say so, and the pod runs on.
    let list = vec![device("a", "Unhealthy"), device("b", "Healthy")];
    plugin.devices.send_replace(list);
    has(&world, GPU, "2", "1").await;
    let ill = "/status/containerStatuses/0/allocatedResourcesStatus/0/resources/0/health";
    world
        .until(&path("web"), "ill", |p| {
            p.pointer(ill).and_then(Value::as_str) == Some("Unhealthy")
                && condition(p, "Ready") == "True"
        })
        .await;
}

#[tokio::test]
async fn no_device_is_given_twice_also_after_a_restart_and_one_that_is_given_back_is() {
    let (mut world, plugin) = with(&["a", "b"]).await;
    world.api.put(&path("one"), wants("one", GPU, "1"));
    ready(&world, "one").await;
    world.stop().await;
    world.start();
    // Before the plugin is back its resource is nobody's to give, and what runs runs.
    world.api.put(&path("early"), wants("early", GPU, "1"));
    let early = failed(&world, "early").await;
    assert_eq!(early["status"]["reason"], "UnexpectedAdmissionError");
    assert_eq!(
        early["status"]["message"],
        "Pod was rejected: Allocate failed due to cannot allocate unregistered device vendor.com/gpu, which is unexpected"
    );
    plugin.start().await;
    has(&world, GPU, "2", "2").await;
    world.api.put(&path("two"), wants("two", GPU, "1"));
    ready(&world, "two").await;
    assert_eq!(plugin.calls(), ["Allocate a", "Allocate b"]);
    world.api.put(&path("three"), wants("three", GPU, "1"));
    let three = failed(&world, "three").await;
    assert_eq!(
        three["status"]["message"],
        "Pod was rejected: Allocate failed due to requested number of devices unavailable for vendor.com/gpu. Requested: 1, Available: 0, which is unexpected"
    );
    world
        .said("UnexpectedAdmissionError: Allocate failed due to requested number")
        .await;
    // A container that is started again keeps its own.
    let id = world.cri.running("c").remove(0);
    world.cri.exit(&id, 1);
    world
        .until(&path("one"), "restart", |p| {
            p["status"]["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    world.api.remove(&path("one"));
    let tries = std::sync::atomic::AtomicUsize::new(0);
    wait_for_async("device a for another pod", LIMIT, || async {
        let number = tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let name = format!("next{number}");
        world.api.put(&path(&name), wants(&name, GPU, "1"));
        let pod = world
            .until(&path(&name), "verdict", |p| {
                condition(p, "Ready") == "True" || p["status"]["phase"] == "Failed"
            })
            .await;
        (pod["status"]["phase"] != "Failed")
            .then_some(())
            .ok_or_else(|| pod["status"]["message"].to_string())
    })
    .await;
    assert_eq!(plugin.calls(), ["Allocate a", "Allocate b", "Allocate a"]);
}

#[tokio::test]
async fn a_plugin_is_asked_what_it_prefers_and_told_of_each_start() {
    let world = World::started().await;
    let mut plugin = FakePlugin::new(&dir(&world), GPU, healthy(&["a", "b", "c"]));
    plugin.options = DevicePluginOptions {
        pre_start_required: true,
        get_preferred_allocation_available: true,
    };
    *plugin.prefers.lock() = vec!["nobody's".to_owned(), "c".to_owned()];
    plugin.start().await;
    has(&world, GPU, "3", "3").await;
    // The init container's device is the app container's next; a sidecar's is not.
    let mut pod = wants("web", GPU, "1");
    let container = pod["spec"]["containers"][0].clone();
    let mut init = container.clone();
    init["name"] = json!("i");
    pod["spec"]["initContainers"] = json!([init]);
    world.api.put(&path("web"), pod);
    world.called("CreateContainer c2 i 0").await;
    wait_for_async("exit", LIMIT, || async {
        let running = world.cri.running("i");
        let id = running.first().ok_or("not yet")?;
        world.cri.exit(id, 0);
        Ok::<_, String>(())
    })
    .await;
    ready(&world, "web").await;
    assert_eq!(
        plugin.calls(),
        [
            "Prefer 1 of a,b,c",
            "Allocate c",
            "Allocate c",
            "PreStart c",
            "PreStart c"
        ]
    );
}

#[tokio::test]
async fn a_plugin_that_ends_takes_its_devices_along() {
    let (world, plugin) = with(&["a"]).await;
    plugin.stop();
    has(&world, GPU, "1", "0").await;
    world.api.put(&path("web"), wants("web", GPU, "1"));
    let pod = failed(&world, "web").await;
    let message = pod["status"]["message"].as_str().unwrap();
    assert!(
        message.contains(
            "no healthy devices present; cannot allocate unhealthy devices vendor.com/gpu"
        ),
        "{message}"
    );
    plugin.start().await;
    has(&world, GPU, "1", "1").await;
}

#[tokio::test]
async fn a_plugin_that_hangs_holds_up_nobody_else_and_no_deletion() {
    let (world, plugin) = with(&["a"]).await;
    *plugin.answers.lock() = Answers::Never;
    world.api.put(&path("hangs"), wants("hangs", GPU, "1"));
    wait_for_async("the call", LIMIT, || async {
        (plugin.calls() == ["Allocate a"])
            .then_some(())
            .ok_or("not yet")
    })
    .await;
    let other = FakePlugin::new(&dir(&world), "vendor.com/nic", healthy(&["x"]));
    other.start().await;
    has(&world, "vendor.com/nic", "1", "1").await;
    world
        .api
        .put(&path("works"), wants("works", "vendor.com/nic", "1"));
    ready(&world, "works").await;
    world.api.put(POD, pod(&json!({})));
    world.ready().await;
    let mut hangs = world.api.get(&path("hangs")).unwrap();
    hangs["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    hangs["metadata"]["deletionGracePeriodSeconds"] = json!(1);
    world.api.put(&path("hangs"), hangs);
    wait_for_async("deletion", LIMIT, || async {
        let pod = world.api.get(&path("hangs"));
        pod.is_none().then_some(()).ok_or("still there")
    })
    .await;
}

#[tokio::test]
async fn what_a_plugin_lies_about_reaches_no_container() {
    let (world, plugin) = with(&["a"]).await;
    let device = |path: &str, permissions: &str| AllocateResponse {
        container_responses: vec![ContainerAllocateResponse {
            devices: vec![DeviceSpec {
                container_path: path.to_owned(),
                host_path: path.to_owned(),
                permissions: permissions.to_owned(),
            }],
            ..Default::default()
        }],
    };
    let large = AllocateResponse {
        container_responses: vec![ContainerAllocateResponse {
            envs: [("BIG".to_owned(), "x".repeat(3 << 20))].into(),
            ..Default::default()
        }],
    };
    for (n, answer, said) in [
        (0, AllocateResponse::default(), "allocated 0 containers"),
        (1, device("../dev/null", "rw"), "is not an absolute path"),
        (
            2,
            device("/dev/null", "rwx"),
            "of which only r, w and m are known",
        ),
        (3, large, "more than 1048576"),
    ] {
        *plugin.answers.lock() = Answers::Bad(answer);
        let name = format!("web{n}");
        world.api.put(&path(&name), wants(&name, GPU, "1"));
        let pod = failed(&world, &name).await;
        let message = pod["status"]["message"].as_str().unwrap();
        assert!(message.contains(said), "{message}");
    }
    *plugin.answers.lock() = Answers::Good;
    world.api.put(&path("good"), wants("good", GPU, "1"));
    ready(&world, "good").await;
    // A list of megabytes is not taken, and ten thousand devices are.
    let long = (0..6_000).map(|n| device_with(&format!("{}{n}", "x".repeat(900))));
    plugin.devices.send_replace(long.collect());
    has(&world, GPU, "1", "0").await;
    plugin.stop();
    let many = (0..10_000).map(|n| device_with(&format!("d{n:05}")));
    plugin.devices.send_replace(many.collect());
    plugin.start().await;
    has(&world, GPU, "10000", "10000").await;
}

fn device_with(id: &str) -> berth_kubelet_api::device_plugin::Device {
    device(id, "Healthy")
}

#[tokio::test]
async fn nobody_registers_what_is_not_a_plugins_to_have() {
    let (world, _plugin) = with(&["a"]).await;
    let dir = dir(&world);
    let request = |resource: &str, endpoint: &str| RegisterRequest {
        version: "v1beta1".to_owned(),
        endpoint: endpoint.to_owned(),
        resource_name: resource.to_owned(),
        options: None,
    };
    for (resource, endpoint, said) in [
        ("cpu", "x.sock", "the ResourceName \"cpu\" is invalid"),
        ("kubernetes.io/x", "x.sock", "is invalid"),
        ("v.com/x", "../cri.sock", "is not the name of a socket"),
        ("v.com/x", "kubelet.sock", "is not the name of a socket"),
    ] {
        let refused = register(&dir, request(resource, endpoint))
            .await
            .unwrap_err();
        assert!(refused.message().contains(said), "{}", refused.message());
    }
    // A link to somebody else's socket leads nowhere, and nothing is offered.
    std::os::unix::fs::symlink(&world.cri.socket, dir.join("link.sock")).unwrap();
    register(&dir, request("v.com/x", "link.sock"))
        .await
        .unwrap();
    register(&dir, request("v.com/none", "none.sock"))
        .await
        .unwrap();
    has(&world, "v.com/x", "0", "0").await;
    has(&world, "v.com/none", "0", "0").await;
    world.api.put(&path("web"), wants("web", "v.com/x", "1"));
    let pod = failed(&world, "web").await;
    assert_eq!(pod["status"]["reason"], "UnexpectedAdmissionError");
    // Nobody but root gets at the sockets.
    use std::os::unix::fs::PermissionsExt;
    for socket in ["device-plugins/kubelet.sock", "pod-resources/kubelet.sock"] {
        let path = world.dir.path().join("node").join(socket);
        let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{socket}");
    }
}
