//! A CRI runtime without processes: it remembers what it is told and does what a test says.
//!
//! gRPC by hand (one framed message each way), so that a test's runtime is a `match` on the method.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_cri_api::v1::{self as cri, ContainerState, PodSandboxState};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::broadcast;

const UNIMPLEMENTED: &str = "12";
const NOT_FOUND: &str = "5";
const UNKNOWN: &str = "2";
const UNAVAILABLE: &str = "14";

/// How a container's start fails.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// With the runtime's words; the container stays as it was.
    Refused,
    /// The runtime was killed before it began.
    Cut,
}

#[derive(Clone)]
pub(crate) struct Sandbox {
    pub(crate) config: cri::PodSandboxConfig,
    pub(crate) handler: String,
    pub(crate) ready: bool,
}

#[derive(Clone)]
pub(crate) struct Container {
    pub(crate) config: cri::ContainerConfig,
    pub(crate) sandbox: String,
    pub(crate) state: ContainerState,
    pub(crate) exit_code: i32,
    finished: i64,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) sandboxes: BTreeMap<String, Sandbox>,
    pub(crate) containers: BTreeMap<String, Container>,
    /// Every call that changes something: `RunPodSandbox runsc`, `StopContainer c1 5`.
    pub(crate) calls: Vec<String>,
    pub(crate) handlers: Vec<String>,
    pub(crate) images: Vec<String>,
    pub(crate) ready: bool,
    /// Images that cannot be pulled.
    pub(crate) unpullable: Vec<String>,
    /// What each container's writable layer holds.
    pub(crate) layer_bytes: u64,
    /// All handlers have user namespaces.
    pub(crate) user_namespaces: bool,
    /// Whether there was a folder for the log of each container that was made.
    pub(crate) log_folders: Vec<bool>,
    /// How the next starts fail, the last first.
    pub(crate) start_fails: Vec<Fault>,
    /// Why no container's resources can be changed.
    pub(crate) not_resized: Option<String>,
    /// What each container uses of memory.
    pub(crate) memory_used: u64,
    /// Statistics of pods are known, with a network of so many interfaces.
    pub(crate) pod_stats: bool,
    pub(crate) interfaces: u32,
    /// What Exec answers.
    pub(crate) stream_url: String,
    next: u32,
}

/// A running fake; it ends with its task's runtime.
#[derive(Clone)]
pub(crate) struct FakeCri {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) socket: PathBuf,
    events: broadcast::Sender<String>,
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap()
}

type Reply = Result<Vec<u8>, (&'static str, String)>;

impl FakeCri {
    pub(crate) fn start(dir: &Path) -> Self {
        let socket = dir.join("cri.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let fake = Self {
            state: Arc::new(Mutex::new(State {
                handlers: vec![String::new(), "runc".into()],
                images: vec!["busybox:1".into()],
                ready: true,
                ..State::default()
            })),
            socket,
            events: broadcast::channel(64).0,
        };
        let served = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = served.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let fake = fake.clone();
                        async move { Ok::<_, std::convert::Infallible>(fake.serve(request).await) }
                    });
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        fake
    }

    /// A process ends by itself.
    pub(crate) fn exit(&self, container: &str, code: i32) {
        let uid = {
            let mut state = self.state.lock();
            let c = state.containers.get_mut(container).unwrap();
            c.state = ContainerState::ContainerExited;
            c.exit_code = code;
            c.finished = now();
            c.config.labels["io.kubernetes.pod.uid"].clone()
        };
        let _ = self.events.send(uid);
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    /// Ids of containers that run, by name.
    pub(crate) fn running(&self, name: &str) -> Vec<String> {
        let state = self.state.lock();
        let of = |c: &Container| {
            c.state == ContainerState::ContainerRunning
                && c.config.metadata.as_ref().unwrap().name == name
        };
        state
            .containers
            .iter()
            .filter(|(_, c)| of(c))
            .map(|(id, _)| id.clone())
            .collect()
    }

    async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        if method == "GetContainerEvents" {
            return self.stream();
        }
        let answer = self.state.lock().answer(&method, &body[5..]);
        respond(answer)
    }

    fn stream(&self) -> Response<Body> {
        let events = self.events.subscribe();
        let frames = futures::stream::unfold(events, |mut events| async move {
            let uid = events.recv().await.ok()?;
            let event = cri::ContainerEventResponse {
                pod_sandbox_status: Some(cri::PodSandboxStatus {
                    metadata: Some(cri::PodSandboxMetadata {
                        uid,
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            };
            Some((Ok(Frame::data(framed(&event.encode_to_vec()))), events))
        });
        grpc(StreamBody::new(frames).boxed_unsync())
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap());
    out.extend_from_slice(message);
    out.freeze()
}

fn grpc(body: Body) -> Response<Body> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}

fn respond(answer: Reply) -> Response<Body> {
    let (data, code, message) = match answer {
        Ok(data) => (Some(framed(&data)), "0", String::new()),
        Err((code, message)) => (None, code, message),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers.insert("grpc-message", HeaderValue::from_str(&message).unwrap());
    let frames = data
        .map(Frame::data)
        .into_iter()
        .chain([Frame::trailers(trailers)])
        .map(Ok);
    grpc(StreamBody::new(futures::stream::iter(frames)).boxed_unsync())
}

fn read<M: Message + Default>(body: &[u8]) -> M {
    M::decode(body).unwrap()
}

fn ok(message: &impl Message) -> Reply {
    Ok(message.encode_to_vec())
}

impl State {
    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{}", self.next)
    }

    fn answer(&mut self, method: &str, body: &[u8]) -> Reply {
        match method {
            "Version" => ok(&cri::VersionResponse {
                runtime_name: "fake".into(),
                runtime_version: "1".into(),
                ..Default::default()
            }),
            "Status" => ok(&self.status()),
            "RunPodSandbox" => self.run_sandbox(read(body)),
            "StopPodSandbox" => {
                let id = read::<cri::StopPodSandboxRequest>(body).pod_sandbox_id;
                self.calls.push(format!("StopPodSandbox {id}"));
                if let Some(s) = self.sandboxes.get_mut(&id) {
                    s.ready = false;
                }
                ok(&cri::StopPodSandboxResponse {})
            }
            "RemovePodSandbox" => {
                let id = read::<cri::RemovePodSandboxRequest>(body).pod_sandbox_id;
                self.calls.push(format!("RemovePodSandbox {id}"));
                self.sandboxes.remove(&id);
                self.containers.retain(|_, c| c.sandbox != id);
                ok(&cri::RemovePodSandboxResponse {})
            }
            "PodSandboxStatus" => {
                self.sandbox_status(&read::<cri::PodSandboxStatusRequest>(body).pod_sandbox_id)
            }
            "ListPodSandbox" => self.list_sandboxes(read(body)),
            "CreateContainer" => self.create(read(body)),
            "StartContainer" => {
                let id = read::<cri::StartContainerRequest>(body).container_id;
                self.calls.push(format!("StartContainer {id}"));
                match self.start_fails.pop() {
                    Some(Fault::Refused) => return Err((UNKNOWN, "no such program".into())),
                    Some(Fault::Cut) => return Err((UNAVAILABLE, "the server is gone".into())),
                    None => {}
                }
                self.containers.get_mut(&id).unwrap().state = ContainerState::ContainerRunning;
                ok(&cri::StartContainerResponse {})
            }
            "StopContainer" => {
                let r: cri::StopContainerRequest = read(body);
                self.calls
                    .push(format!("StopContainer {} {}", r.container_id, r.timeout));
                if let Some(c) = self.containers.get_mut(&r.container_id) {
                    c.state = ContainerState::ContainerExited;
                    c.exit_code = 137;
                    c.finished = now();
                }
                ok(&cri::StopContainerResponse {})
            }
            "RemoveContainer" => {
                let id = read::<cri::RemoveContainerRequest>(body).container_id;
                self.calls.push(format!("RemoveContainer {id}"));
                self.containers.remove(&id);
                ok(&cri::RemoveContainerResponse {})
            }
            "ListContainers" => self.list_containers(read(body)),
            "ContainerStatus" => {
                self.container_status(&read::<cri::ContainerStatusRequest>(body).container_id)
            }
            "UpdateContainerResources" => {
                let r: cri::UpdateContainerResourcesRequest = read(body);
                let linux = r.linux.unwrap();
                self.calls.push(format!(
                    "UpdateContainerResources {} quota={} memory={}",
                    r.container_id, linux.cpu_quota, linux.memory_limit_in_bytes
                ));
                match &self.not_resized {
                    Some(why) => Err((UNKNOWN, why.clone())),
                    None => ok(&cri::UpdateContainerResourcesResponse {}),
                }
            }
            "ContainerStats" => {
                let used = self.memory_used;
                ok(&cri::ContainerStatsResponse {
                    stats: Some(cri::ContainerStats {
                        memory: Some(cri::MemoryUsage {
                            usage_bytes: Some(cri::UInt64Value { value: used }),
                            ..Default::default()
                        }),
                        ..Default::default()
                    }),
                })
            }
            "Exec" => {
                let r: cri::ExecRequest = read(body);
                self.calls.push(format!(
                    "Exec {:?} tty={} in={} out={} err={}",
                    r.cmd, r.tty, r.stdin, r.stdout, r.stderr
                ));
                ok(&cri::ExecResponse {
                    url: self.stream_url.clone(),
                })
            }
            "ListContainerStats" => self.stats(read(body)),
            "ListPodSandboxStats" if self.pod_stats => self.all_pod_stats(),
            "ListImages" => ok(&cri::ListImagesResponse::default()),
            "ImageStatus" => {
                let image = read::<cri::ImageStatusRequest>(body).image.unwrap().image;
                let there = self.images.contains(&image);
                ok(&cri::ImageStatusResponse {
                    image: there.then(|| cri::Image {
                        id: format!("sha256:{image}"),
                        ..Default::default()
                    }),
                    ..Default::default()
                })
            }
            "PullImage" => {
                let image = read::<cri::PullImageRequest>(body).image.unwrap().image;
                self.calls.push(format!("PullImage {image}"));
                if self.unpullable.contains(&image) {
                    return Err((NOT_FOUND, "no such image".into()));
                }
                self.images.push(image.clone());
                ok(&cri::PullImageResponse { image_ref: image })
            }
            other => Err((UNIMPLEMENTED, other.to_owned())),
        }
    }

    fn status(&self) -> cri::StatusResponse {
        let condition = |name: &str| cri::RuntimeCondition {
            r#type: name.into(),
            status: self.ready,
            reason: "Fake".into(),
            message: "said so".into(),
        };
        cri::StatusResponse {
            status: Some(cri::RuntimeStatus {
                conditions: vec![condition("RuntimeReady"), condition("NetworkReady")],
            }),
            runtime_handlers: self
                .handlers
                .iter()
                .map(|name| cri::RuntimeHandler {
                    name: name.clone(),
                    features: self.user_namespaces.then_some(cri::RuntimeHandlerFeatures {
                        user_namespaces: true,
                        ..Default::default()
                    }),
                })
                .collect(),
            ..Default::default()
        }
    }

    fn run_sandbox(&mut self, r: cri::RunPodSandboxRequest) -> Reply {
        self.calls
            .push(format!("RunPodSandbox {:?}", r.runtime_handler));
        let id = self.id("s");
        let sandbox = Sandbox {
            config: r.config.unwrap(),
            handler: r.runtime_handler,
            ready: true,
        };
        self.sandboxes.insert(id.clone(), sandbox);
        ok(&cri::RunPodSandboxResponse { pod_sandbox_id: id })
    }

    fn sandbox_status(&self, id: &str) -> Reply {
        let Some(s) = self.sandboxes.get(id) else {
            return Err((NOT_FOUND, id.to_owned()));
        };
        ok(&cri::PodSandboxStatusResponse {
            status: Some(cri::PodSandboxStatus {
                id: id.to_owned(),
                metadata: s.config.metadata.clone(),
                state: sandbox_state(s) as i32,
                network: Some(cri::PodSandboxNetworkStatus {
                    ip: "10.0.0.9".into(),
                    additional_ips: Vec::new(),
                }),
                runtime_handler: s.handler.clone(),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    fn list_sandboxes(&self, r: cri::ListPodSandboxRequest) -> Reply {
        let wanted = r.filter.map(|f| f.label_selector).unwrap_or_default();
        let items = self
            .sandboxes
            .iter()
            .filter(|(_, s)| {
                wanted
                    .iter()
                    .all(|(k, v)| s.config.labels.get(k) == Some(v))
            })
            .map(|(id, s)| cri::PodSandbox {
                id: id.clone(),
                metadata: s.config.metadata.clone(),
                state: sandbox_state(s) as i32,
                labels: s.config.labels.clone(),
                ..Default::default()
            })
            .collect();
        ok(&cri::ListPodSandboxResponse { items })
    }

    fn create(&mut self, r: cri::CreateContainerRequest) -> Reply {
        let config = r.config.unwrap();
        let meta = config.metadata.clone().unwrap();
        let id = self.id("c");
        let logs = r.sandbox_config.unwrap_or_default().log_directory;
        let log = std::path::Path::new(&logs).join(&config.log_path);
        self.log_folders.push(log.parent().unwrap().is_dir());
        self.calls.push(format!(
            "CreateContainer {id} {} {}",
            meta.name, meta.attempt
        ));
        let container = Container {
            config,
            sandbox: r.pod_sandbox_id,
            state: ContainerState::ContainerCreated,
            exit_code: 0,
            finished: 0,
        };
        self.containers.insert(id.clone(), container);
        ok(&cri::CreateContainerResponse { container_id: id })
    }

    fn list_containers(&self, r: cri::ListContainersRequest) -> Reply {
        let filter = r.filter.unwrap_or_default();
        let containers = self
            .containers
            .iter()
            .filter(|(_, c)| {
                let labels = &c.config.labels;
                filter
                    .label_selector
                    .iter()
                    .all(|(k, v)| labels.get(k) == Some(v))
                    && (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == c.sandbox)
            })
            .map(|(id, c)| cri::Container {
                id: id.clone(),
                pod_sandbox_id: c.sandbox.clone(),
                metadata: c.config.metadata.clone(),
                state: c.state as i32,
                labels: c.config.labels.clone(),
                ..Default::default()
            })
            .collect();
        ok(&cri::ListContainersResponse { containers })
    }

    fn stats(&self, r: cri::ListContainerStatsRequest) -> Reply {
        let wanted = r.filter.unwrap_or_default().label_selector;
        let fits = |c: &Container| {
            let labels = &c.config.labels;
            wanted.iter().all(|(k, v)| labels.get(k) == Some(v))
        };
        let one = |(id, c): (&String, &Container)| cri::ContainerStats {
            attributes: Some(cri::ContainerAttributes {
                id: id.clone(),
                metadata: c.config.metadata.clone(),
                labels: c.config.labels.clone(),
                ..Default::default()
            }),
            writable_layer: Some(cri::FilesystemUsage {
                used_bytes: Some(cri::UInt64Value {
                    value: self.layer_bytes,
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let stats = self.containers.iter().filter(|(_, c)| fits(c)).map(one);
        ok(&cri::ListContainerStatsResponse {
            stats: stats.collect(),
        })
    }

    fn all_pod_stats(&self) -> Reply {
        let value = |value| Some(cri::UInt64Value { value });
        let network = |name: String| cri::NetworkInterfaceUsage {
            name,
            rx_bytes: value(11),
            tx_bytes: value(12),
            ..Default::default()
        };
        let container = |(id, c): (&String, &Container)| cri::ContainerStats {
            attributes: Some(cri::ContainerAttributes {
                id: id.clone(),
                metadata: c.config.metadata.clone(),
                labels: c.config.labels.clone(),
                ..Default::default()
            }),
            cpu: Some(cri::CpuUsage {
                timestamp: now(),
                usage_core_nano_seconds: value(1_500_000_000),
                ..Default::default()
            }),
            memory: Some(cri::MemoryUsage {
                timestamp: now(),
                working_set_bytes: value(self.memory_used),
                ..Default::default()
            }),
            ..Default::default()
        };
        let stats = self.sandboxes.iter().map(|(id, s)| cri::PodSandboxStats {
            attributes: Some(cri::PodSandboxAttributes {
                id: id.clone(),
                labels: s.config.labels.clone(),
                ..Default::default()
            }),
            linux: Some(cri::LinuxPodSandboxStats {
                network: Some(cri::NetworkUsage {
                    default_interface: Some(network("eth0".into())),
                    interfaces: (0..self.interfaces)
                        .map(|n| network(format!("x\"{n}")))
                        .collect(),
                    ..Default::default()
                }),
                containers: self
                    .containers
                    .iter()
                    .filter(|(_, c)| c.sandbox == *id)
                    .map(container)
                    .collect(),
                ..Default::default()
            }),
        });
        ok(&cri::ListPodSandboxStatsResponse {
            stats: stats.collect(),
        })
    }

    fn container_status(&self, id: &str) -> Reply {
        let Some(c) = self.containers.get(id) else {
            return Err((NOT_FOUND, id.to_owned()));
        };
        let started = i64::from(c.state != ContainerState::ContainerCreated);
        ok(&cri::ContainerStatusResponse {
            status: Some(cri::ContainerStatus {
                id: id.to_owned(),
                metadata: c.config.metadata.clone(),
                state: c.state as i32,
                created_at: now(),
                started_at: started * now(),
                finished_at: c.finished,
                exit_code: c.exit_code,
                image: c.config.image.clone(),
                image_ref: "sha256:0".into(),
                labels: c.config.labels.clone(),
                annotations: c.config.annotations.clone(),
                ..Default::default()
            }),
            ..Default::default()
        })
    }
}

fn sandbox_state(s: &Sandbox) -> PodSandboxState {
    if s.ready {
        PodSandboxState::SandboxReady
    } else {
        PodSandboxState::SandboxNotready
    }
}
