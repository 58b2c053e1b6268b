//! A device plugin and a class that goes with it, from the plugin's registration to what a container finds; static pods
//! beside an API server that is killed.

use std::path::{Path, PathBuf};
use std::pin::Pin;

use berth_kubelet_api::device_plugin::device_plugin_server::{DevicePlugin, DevicePluginServer};
use berth_kubelet_api::device_plugin::registration_client::RegistrationClient;
use berth_kubelet_api::device_plugin::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse, Device,
    DevicePluginOptions, DeviceSpec, Empty, ListAndWatchResponse, PreStartContainerRequest,
    PreStartContainerResponse, PreferredAllocationRequest, PreferredAllocationResponse,
    RegisterRequest,
};
use futures::{Stream, StreamExt, stream};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::cluster::{Cluster, FOREVER, LIMIT, class, pod};
use berth_testkit::wait_for;

/// A CDI file of this test's, gone with it.
struct CdiFile {
    path: PathBuf,
    kind: String,
}

impl CdiFile {
    fn new() -> Self {
        let own = std::process::id();
        let kind = format!("e2e{own}.berth.dev/gpu");
        let edits = json!({"env": ["FROM_CDI=yes"], "deviceNodes": [{"path": "/dev/cdi0", "hostPath": "/dev/zero"}]});
        let text = json!({"cdiVersion": "0.6.0", "kind": kind, "devices": [{"name": "a", "containerEdits": edits}]});
        let dir = Path::new("/var/run/cdi");
        std::fs::create_dir_all(dir).expect("the directory");
        let path = dir.join(format!("berth-e2e-{own}.json"));
        std::fs::write(&path, text.to_string()).expect("the file");
        Self { path, kind }
    }
}

impl Drop for CdiFile {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}

struct Plugin {
    kind: String,
}

type Lists = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl DevicePlugin for Plugin {
    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions::default()))
    }

    type ListAndWatchStream = Lists;

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Lists>, Status> {
        let device = Device {
            id: "a".to_owned(),
            health: "Healthy".to_owned(),
            topology: None,
        };
        let list = ListAndWatchResponse {
            devices: vec![device],
        };
        let lists = stream::iter([Ok(list)]).chain(stream::pending());
        Ok(Response::new(Box::pin(lists)))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let ids = request
            .into_inner()
            .container_requests
            .remove(0)
            .devices_ids;
        let answer = ContainerAllocateResponse {
            envs: [("FROM_PLUGIN".to_owned(), ids.join(","))].into(),
            devices: vec![DeviceSpec {
                container_path: "/dev/gpu0".to_owned(),
                host_path: "/dev/null".to_owned(),
                permissions: "rw".to_owned(),
            }],
            cdi_devices: ids
                .iter()
                .map(|id| CdiDevice {
                    name: format!("{}={id}", self.kind),
                })
                .collect(),
            ..ContainerAllocateResponse::default()
        };
        Ok(Response::new(AllocateResponse {
            container_responses: vec![answer],
        }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

/// Serves the plugin in `dir` and registers it.
async fn serve(dir: PathBuf, kind: String, resource: &str) {
    let listener = UnixListener::bind(dir.join("e2e.sock")).expect("the plugin's socket");
    let connections = stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(connection, _)| connection);
        Some((accepted, listener))
    });
    let service = DevicePluginServer::new(Plugin { kind });
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(Box::pin(connections)),
    );
    let socket = dir.join("kubelet.sock");
    let dial = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(dial)
        .await
        .expect("the node's socket");
    let request = RegisterRequest {
        version: "v1beta1".to_owned(),
        endpoint: "e2e.sock".to_owned(),
        resource_name: resource.to_owned(),
        options: None,
    };
    RegistrationClient::new(channel)
        .register(request)
        .await
        .expect("the registration");
}

fn node_has(cluster: &Cluster, resource: &str, count: &str) {
    wait_for(&format!("{count} {resource}"), LIMIT, || {
        let node = cluster.json(&["node", "n1"]);
        let free = node["status"]["allocatable"][resource].clone();
        (free == count).then_some(()).ok_or(free.to_string())
    });
}

#[test]
fn a_class_and_its_devices() {
    let file = CdiFile::new();
    let resource = "vendor.com/gpu";
    let mut cluster = Cluster::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = cluster.data().join("node/device-plugins");
    runtime.block_on(serve(dir.clone(), file.kind.clone(), resource));
    node_has(&cluster, resource, "1");
    cluster.apply(&class("nvidia", "runc"));
    let check = "test -c /dev/gpu0 && test -c /dev/cdi0 && echo \"$FROM_PLUGIN $FROM_CDI\"; exec sleep 1000";
    let limits = format!("    resources: {{limits: {{{resource}: 1}}}}\n");
    cluster.apply(&(pod("gpu", Some("nvidia"), check) + &limits));
    cluster.wait_ready(&["gpu"]);
    assert_eq!(cluster.kube(&["logs", "gpu"]), "a yes\n");
    let found = cluster.json(&["pod", "gpu"]);
    let health = &found["status"]["containerStatuses"][0]["allocatedResourcesStatus"];
    assert_eq!(
        health[0]["resources"][0],
        json!({"resourceID": "a", "health": "Healthy"})
    );
    // There is no second one: the scheduler knows.
    cluster.apply(&(pod("waits", Some("nvidia"), FOREVER) + &limits));
    cluster.wait_event(
        "waits",
        &["FailedScheduling", "Insufficient vendor.com/gpu"],
    );
    // Killed, and back: the pod runs on and keeps its device, also when it is bound to nobody's plugin.
    cluster.kill();
    cluster.launch();
    runtime.block_on(serve(dir, file.kind.clone(), resource));
    node_has(&cluster, resource, "1");
    let after = cluster.json(&["pod", "gpu"]);
    assert_eq!(
        after["status"]["containerStatuses"][0]["containerID"],
        found["status"]["containerStatuses"][0]["containerID"]
    );
    let mut by_hand: Value =
        serde_json::from_str(&cluster.kube(&["get", "pod", "waits", "-o", "json"])).expect("JSON");
    by_hand["metadata"] = json!({"name": "forced"});
    by_hand["spec"]["nodeName"] = json!("n1");
    cluster.apply(&by_hand.to_string());
    let forced = cluster.wait_phase("forced", "Failed");
    assert_eq!(forced["status"]["reason"], "UnexpectedAdmissionError");
    cluster.kube(&["delete", "pod", "gpu", "--now"]);
    cluster.wait_ready(&["waits"]);
}

#[test]
fn static_pods_have_their_mirrors() {
    let manifests = tempfile::tempdir().expect("a directory");
    let file = manifests.path().join("web.yaml");
    std::fs::write(&file, pod("web", None, "echo up; exec sleep 1000")).expect("the manifest");
    let dir = manifests.path().to_str().expect("a path");
    let mut cluster = Cluster::with(&["--pod-manifest-path", dir]);
    wait_for("the mirror", LIMIT, || {
        let got = cluster.try_kubectl(&["get", "pod", "web-n1"]);
        got.status.success().then_some(()).ok_or("not yet")
    });
    cluster.wait_ready(&["web-n1"]);
    assert_eq!(cluster.kube(&["logs", "web-n1"]), "up\n");
    assert_eq!(
        cluster.kube(&["exec", "web-n1", "--", "echo", "in"]),
        "in\n"
    );
    let first = cluster.json(&["pod", "web-n1"]);
    let managers = first["metadata"]["managedFields"].to_string();
    assert!(!managers.contains("unknown"), "{managers}");
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    cluster.kube(&["delete", "pod", "web-n1", "--wait=false"]);
    let second = cluster.wait_pod("web-n1", "another mirror", |pod| {
        pod["metadata"]["uid"] != first["metadata"]["uid"] && id(pod).is_string()
    });
    assert_eq!(id(&first), id(&second));
    cluster.kill();
    cluster.launch();
    cluster.wait_ready(&["web-n1"]);
    assert_eq!(id(&first), id(&cluster.json(&["pod", "web-n1"])));
    std::fs::remove_file(&file).expect("the manifest");
    wait_for("its end", LIMIT, || {
        let got = cluster.try_kubectl(&["get", "pod", "web-n1"]);
        (!got.status.success()).then_some(()).ok_or("still there")
    });
}
