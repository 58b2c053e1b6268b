//! The whole agent between an API and a runtime that are both fakes: what it asks of the one because
//! of the other.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on fails

#[path = "agent/attacks.rs"]
mod attacks;
#[path = "agent/authority.rs"]
mod authority;
#[path = "agent/certificates.rs"]
mod certificates;
#[path = "agent/conditions.rs"]
mod conditions;
#[path = "agent/devices.rs"]
mod devices;
#[path = "agent/fake_api.rs"]
mod fake_api;
#[path = "agent/fake_cri.rs"]
mod fake_cri;
#[path = "agent/fake_plugin.rs"]
mod fake_plugin;
#[path = "agent/gates.rs"]
mod gates;
#[path = "agent/local_path.rs"]
mod local_path;
#[path = "agent/port_10250.rs"]
mod port_10250;
#[path = "agent/resize.rs"]
mod resize;
#[path = "agent/starts.rs"]
mod starts;
#[path = "agent/static_pods.rs"]
mod static_pods;
#[path = "agent/usage.rs"]
mod usage;

use std::time::Duration;

use berth_node::{Config, Gates, UnsupportedHandler};
use berth_testkit::wait_for_async;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use fake_api::FakeApi;
use fake_cri::FakeCri;
use port_10250::Pki;

const LIMIT: Duration = Duration::from_secs(20);
const POD: &str = "/api/v1/namespaces/default/pods/web";
const NODE: &str = "/api/v1/nodes/n1";

struct World {
    api: FakeApi,
    cri: FakeCri,
    dir: TempDir,
    agent: Option<(CancellationToken, JoinHandle<()>)>,
    pki: std::sync::Arc<Pki>,
    unsupported: UnsupportedHandler,
    gates: Gates,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            api: FakeApi::start().await,
            cri: FakeCri::start(dir.path()),
            dir,
            agent: None,
            pki: std::sync::Arc::new(Pki::new()),
            unsupported: UnsupportedHandler::Fail,
            gates: Gates::default(),
        }
    }

    fn config(&self) -> Config {
        let path = self.dir.path();
        let mut config = Config::new(
            self.api.client(),
            "n1",
            &self.cri.socket,
            path.join("node"),
            self.pki.serving.clone(),
        );
        config.bind = ([127, 0, 0, 1], 0).into();
        config.node_ip = Some([127, 0, 0, 1].into());
        config.pod_logs_dir = path.join("logs");
        config.pod_cgroups = false;
        config.unsupported_handler = self.unsupported;
        config.gates = self.gates;
        config
    }

    fn start(&mut self) {
        self.start_with(self.config());
    }

    fn start_with(&mut self, config: Config) {
        let stop = CancellationToken::new();
        let token = stop.clone();
        let task = tokio::spawn(async move { berth_node::run(config, token).await.unwrap() });
        self.agent = Some((stop, task));
    }

    async fn stop(&mut self) {
        let (stop, task) = self.agent.take().unwrap();
        stop.cancel();
        tokio::time::timeout(LIMIT, task).await.unwrap().unwrap();
    }

    async fn started() -> Self {
        let mut world = Self::new().await;
        world.start();
        world
    }

    /// Waits until the object at `path` satisfies `good`.
    async fn until(&self, path: &str, what: &str, good: impl Fn(&Value) -> bool) -> Value {
        wait_for_async(what, LIMIT, || async {
            match self.api.get(path) {
                Some(object) if good(&object) => Ok(object),
                Some(object) => Err(object["status"].to_string()),
                None => Err("no such object".to_owned()),
            }
        })
        .await
    }

    async fn phase(&self, phase: &str) -> Value {
        self.until(POD, phase, |p| p["status"]["phase"] == phase)
            .await
    }

    async fn ready(&self) -> Value {
        self.until(POD, "Ready", |p| condition(p, "Ready") == "True")
            .await
    }

    async fn called(&self, call: &str) {
        wait_for_async(call, LIMIT, || async {
            let calls = self.cri.calls();
            if calls.iter().any(|c| c == call) {
                Ok(())
            } else {
                Err(format!("{calls:?}"))
            }
        })
        .await;
    }

    async fn said(&self, part: &str) {
        wait_for_async(part, LIMIT, || async {
            let events = self.api.events();
            if events.iter().any(|e| e.contains(part)) {
                Ok(())
            } else {
                Err(format!("{events:?}"))
            }
        })
        .await;
    }
}

fn condition(object: &Value, name: &str) -> String {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["type"] == name)
        .and_then(|c| c["status"].as_str())
        .unwrap_or_default()
        .to_owned()
}

fn pod(extra: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
        "spec": {"nodeName": "n1", "terminationGracePeriodSeconds": 7,
                 "containers": [{"name": "c", "image": "busybox:1"}]},
    });
    for (key, value) in extra.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

fn class(world: &World, name: &str, handler: &str) {
    let path = format!("/apis/node.k8s.io/v1/runtimeclasses/{name}");
    let object = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": {"name": name}, "handler": handler});
    world.api.put(&path, object);
}

#[tokio::test]
async fn the_node_reports_itself_and_its_handlers_and_renews_its_lease() {
    let world = World::started().await;
    let node = world
        .until(NODE, "node Ready", |n| condition(n, "Ready") == "True")
        .await;
    let handlers: Vec<&str> = node["status"]["runtimeHandlers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| h["name"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(handlers, ["", "runc"]);
    assert_eq!(
        node["status"]["nodeInfo"]["containerRuntimeVersion"],
        "fake://1"
    );
    assert!(node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64() > Some(0));
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/os"], "linux");
    // A stock API server takes it: its rules are those that berth's server has.
    let object: k8s_openapi::api::core::v1::Node = serde_json::from_value(node).unwrap();
    let errors = berth_rules::Rules::validate(&object);
    assert!(errors.is_empty(), "{errors:?}");
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";
    world
        .until(lease, "lease", |l| l["spec"]["holderIdentity"] == "n1")
        .await;
    // A runtime that is no longer ready makes the node not ready.
    world.cri.state.lock().ready = false;
    let node = world
        .until(NODE, "node not Ready", |n| condition(n, "Ready") == "False")
        .await;
    assert!(node.to_string().contains("NetworkReady"));
}

#[tokio::test]
async fn a_pod_runs_under_its_class_and_ends_with_its_grace_period() {
    let world = World::started().await;
    class(&world, "fast", "runc");
    world
        .api
        .put(POD, pod(&json!({"runtimeClassName": "fast"})));
    let running = world.ready().await;
    assert_eq!(running["status"]["phase"], "Running");
    assert_eq!(running["status"]["podIP"], "10.0.0.9");
    let c = &running["status"]["containerStatuses"][0];
    assert!(c["containerID"].as_str().unwrap().starts_with("fake://c"));
    world.called("RunPodSandbox \"runc\"").await;
    world
        .until(POD, "annotation", |p| {
            p["metadata"]["annotations"]["berth.dev/runtime"] == "runc"
        })
        .await;
    for event in [
        "Pulled: Container image \"busybox:1\" already present",
        "Created:",
        "Started: Started container c with runtime runc",
    ] {
        world.said(event).await;
    }

    let mut leaving = world.api.get(POD).unwrap();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-21T22:00:00Z");
    leaving["metadata"]["deletionGracePeriodSeconds"] = json!(5);
    world.api.put(POD, leaving);
    wait_for_async("the object's end", LIMIT, || async {
        world
            .api
            .get(POD)
            .map_or(Ok(()), |p| Err(p["status"].to_string()))
    })
    .await;
    let calls = world.cri.calls();
    let at = |prefix: &str| {
        calls
            .iter()
            .position(|c| c.starts_with(prefix))
            .unwrap_or_else(|| panic!("no {prefix} in {calls:?}"))
    };
    assert!(calls[at("StopContainer")].ends_with(" 5"), "{calls:?}");
    assert!(at("StopContainer") < at("StopPodSandbox"));
    assert!(at("StopPodSandbox") < at("RemovePodSandbox"));
    assert!(world.cri.state.lock().sandboxes.is_empty());
    assert!(!world.dir.path().join("node/pods/u1").exists());
    assert!(!world.dir.path().join("logs/default_web_u1").exists());
}

#[tokio::test]
async fn a_class_that_is_gone_fails_the_pod_and_names_it() {
    let world = World::started().await;
    world
        .api
        .put(POD, pod(&json!({"runtimeClassName": "gone"})));
    let failed = world.phase("Failed").await;
    assert_eq!(failed["status"]["reason"], "RuntimeClassNotFound");
    world
        .said("RuntimeClassNotFound: RuntimeClass \"gone\" does not exist")
        .await;
    assert!(world.cri.calls().is_empty());
}

#[tokio::test]
async fn a_handler_that_the_runtime_lacks_fails_the_pod() {
    let world = World::started().await;
    class(&world, "vm", "kata");
    world.api.put(POD, pod(&json!({"runtimeClassName": "vm"})));
    let failed = world.phase("Failed").await;
    assert_eq!(failed["status"]["reason"], "UnsupportedRuntimeHandler");
    assert_eq!(failed["status"]["containerStatuses"], Value::Null);
    world
        .said("RuntimeClass \"vm\" needs runtime handler \"kata\", which the runtime of node \"n1\" does not have (it has: runc)")
        .await;
    assert!(world.cri.calls().is_empty());
}

#[tokio::test]
async fn where_asked_a_lacking_handler_is_waited_for() {
    let mut world = World::new().await;
    world.unsupported = UnsupportedHandler::Retry;
    world.start();
    class(&world, "vm", "kata");
    world.api.put(POD, pod(&json!({"runtimeClassName": "vm"})));
    world.said("UnsupportedRuntimeHandler").await;
    world.phase("Pending").await;
    world.cri.state.lock().handlers.push("kata".into());
    world.ready().await;
    world.called("RunPodSandbox \"kata\"").await;
}

#[tokio::test]
async fn with_the_gate_off_a_class_means_nothing_to_the_node() {
    let mut world = World::new().await;
    world.gates.runtime_class = false;
    world.start();
    class(&world, "vm", "kata");
    world.api.put(POD, pod(&json!({"runtimeClassName": "vm"})));
    world.ready().await;
    world.called("RunPodSandbox \"\"").await;
}

#[tokio::test]
async fn overhead_reaches_the_runtime_unless_its_gate_is_off() {
    for counted in [true, false] {
        let mut world = World::new().await;
        world.gates.pod_overhead = counted;
        world.start();
        let containers = json!([{"name": "c", "image": "busybox:1",
            "resources": {"limits": {"cpu": "1", "memory": "64Mi"}}}]);
        let overhead = json!({"cpu": "250m", "memory": "16Mi"});
        world.api.put(
            POD,
            pod(&json!({"containers": containers, "overhead": overhead})),
        );
        world.ready().await;
        let state = world.cri.state.lock();
        let linux = state
            .sandboxes
            .values()
            .next()
            .unwrap()
            .config
            .linux
            .clone()
            .unwrap();
        let memory = |r: &berth_cri_api::v1::LinuxContainerResources| r.memory_limit_in_bytes;
        assert_eq!(linux.resources.as_ref().map(memory), Some(64 << 20));
        assert_eq!(
            linux.overhead.as_ref().map(memory),
            counted.then_some(16 << 20)
        );
    }
}

#[tokio::test]
async fn restart_policies_hold() {
    let world = World::started().await;
    world
        .api
        .put(POD, pod(&json!({"restartPolicy": "OnFailure"})));
    world.ready().await;
    let first = world.cri.running("c").remove(0);
    world.cri.exit(&first, 3);
    let again = world
        .until(POD, "a restart", |p| {
            p["status"]["containerStatuses"][0]["restartCount"] == 1
                && condition(p, "Ready") == "True"
        })
        .await;
    let last = &again["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 3);
    let second = world.cri.running("c").remove(0);
    world.cri.exit(&second, 0);
    let done = world.phase("Succeeded").await;
    assert_eq!(condition(&done, "Ready"), "False");
    assert!(world.cri.running("c").is_empty());
}

#[tokio::test]
async fn init_containers_go_first_and_their_failure_is_final_under_never() {
    let world = World::started().await;
    let spec = json!({"restartPolicy": "Never",
        "initContainers": [{"name": "i", "image": "busybox:1"}]});
    world.api.put(POD, pod(&spec));
    wait_for_async("the init container", LIMIT, || async {
        let ids = world.cri.running("i");
        if ids.is_empty() {
            Err("not yet")
        } else {
            Ok(())
        }
    })
    .await;
    assert!(world.cri.running("c").is_empty());
    let id = world.cri.running("i").remove(0);
    world.cri.exit(&id, 1);
    world.phase("Failed").await;
    assert!(!world.cri.calls().iter().any(|c| c.contains(" c 0")));
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_tried_again_later_and_not_at_once() {
    let world = World::started().await;
    world.cri.state.lock().unpullable.push("nope:1".into());
    let containers = json!([{"name": "c", "image": "nope:1"}]);
    world.api.put(POD, pod(&json!({"containers": containers})));
    world
        .until(POD, "ImagePullBackOff", |p| {
            p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"
        })
        .await;
    let pulls = world
        .cri
        .calls()
        .iter()
        .filter(|c| c.starts_with("PullImage"))
        .count();
    assert_eq!(pulls, 1);
    world.said("Failed: Error: ErrImagePull").await;
}

#[tokio::test]
async fn a_restarted_agent_takes_running_pods_over_and_ends_orphans() {
    let mut world = World::started().await;
    world.api.put(POD, pod(&json!({})));
    let other = "/api/v1/namespaces/default/pods/other";
    let mut second = pod(&json!({}));
    second["metadata"]["name"] = json!("other");
    second["metadata"]["uid"] = json!("u2");
    world.api.put(other, second);
    world.ready().await;
    world
        .until(other, "Ready", |p| condition(p, "Ready") == "True")
        .await;
    world.stop().await;
    let running = world.cri.running("c");
    assert_eq!(running.len(), 2, "pods outlive the agent");
    world.api.remove(other);
    let before = world.cri.calls().len();

    world.start();
    wait_for_async("the orphan's end", LIMIT, || async {
        let left = world.cri.state.lock().sandboxes.len();
        if left == 1 {
            Ok(())
        } else {
            Err(left.to_string())
        }
    })
    .await;
    world.ready().await;
    assert_eq!(world.cri.running("c").len(), 1);
    let after = world.cri.calls().split_off(before);
    assert!(
        !after
            .iter()
            .any(|c| c.starts_with("RunPodSandbox") || c.starts_with("Create")),
        "nothing was started anew: {after:?}"
    );
}

#[tokio::test]
async fn a_pod_that_does_not_fit_is_rejected() {
    let world = World::started().await;
    world
        .until(NODE, "node Ready", |n| condition(n, "Ready") == "True")
        .await;
    let containers = json!([{"name": "c", "image": "busybox:1",
        "resources": {"requests": {"cpu": "100000"}}}]);
    world.api.put(POD, pod(&json!({"containers": containers})));
    let failed = world.phase("Failed").await;
    assert_eq!(failed["status"]["reason"], "OutOfcpu");
    assert!(world.cri.calls().is_empty());
}

#[tokio::test]
async fn a_missing_secret_keeps_the_container_waiting_and_says_so() {
    let world = World::started().await;
    let containers = json!([{"name": "c", "image": "busybox:1", "env": [
        {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]);
    world.api.put(POD, pod(&json!({"containers": containers})));
    let waiting = world
        .until(POD, "CreateContainerConfigError", |p| {
            p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
                == "CreateContainerConfigError"
        })
        .await;
    let message = &waiting["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert_eq!(message, "secret \"s\" not found");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"},
        "data": {"k": "dg=="}});
    world
        .api
        .put("/api/v1/namespaces/default/secrets/s", secret);
    world.ready().await;
    let state = world.cri.state.lock();
    let envs = &state.containers.values().next().unwrap().config.envs;
    assert!(envs.iter().any(|e| e.key == "X" && e.value == b"v"));
}
