//! A CRI server, and what a kubelet says to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use berth_cri_api::v1::*;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};

use crate::Options;

#[derive(Clone)]
pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    /// The process that listens.
    pub(crate) pid: i32,
    image: String,
    /// All pods' cgroups lie below it.
    cgroup: String,
    client: RuntimeServiceClient<Channel>,
}

/// A pod with its one container.
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) container: String,
}

/// How long each call of a pod's life took.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) run: Duration,
    pub(crate) create: Duration,
    pub(crate) start: Duration,
    pub(crate) stop: Duration,
    pub(crate) remove: Duration,
}

impl Daemon {
    pub(crate) async fn connect(name: &'static str, socket: &Path, options: &Options) -> Self {
        let pid = tokio::net::UnixStream::connect(socket)
            .await
            .unwrap_or_else(|error| panic!("{name} at {}: {error}", socket.display()))
            .peer_cred()
            .expect("the peer's credentials")
            .pid()
            .expect("the peer's pid");
        let path = PathBuf::from(socket);
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(
            tower::service_fn(move |_| {
                let path = path.clone();
                async move {
                    tokio::net::UnixStream::connect(path)
                        .await
                        .map(TokioIo::new)
                }
            }),
        );
        Self {
            name,
            pid,
            image: options.image.clone(),
            cgroup: options.cgroup.clone(),
            client: RuntimeServiceClient::new(channel),
        }
    }

    fn sandbox_config(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                namespace: "bench".to_owned(),
                uid: format!("uid-{name}"),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: std::env::temp_dir()
                .join("log")
                .join(self.name)
                .join(name)
                .to_string_lossy()
                .into_owned(),
            dns_config: Some(DnsConfig {
                servers: vec!["10.96.0.10".to_owned()],
                searches: vec!["default.svc.cluster.local".to_owned()],
                options: vec!["ndots:5".to_owned()],
            }),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup.clone(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces()),
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        }
    }

    fn container_config(&self) -> ContainerConfig {
        let script = "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done";
        ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: "main".to_owned(),
                attempt: 0,
            }),
            image: Some(ImageSpec {
                image: self.image.clone(),
                ..ImageSpec::default()
            }),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: "main.log".to_owned(),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    cpu_shares: 102,
                    oom_score_adj: 999,
                    ..LinuxContainerResources::default()
                }),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces()),
                    ..LinuxContainerSecurityContext::default()
                }),
            }),
            ..ContainerConfig::default()
        }
    }

    /// Starts a pod; the times of RunPodSandbox, CreateContainer and StartContainer.
    pub(crate) async fn start(&mut self, name: &str, handler: &str) -> (Pod, [Duration; 3]) {
        let config = self.sandbox_config(name);
        let who = self.name;
        let at = Instant::now();
        let id = self
            .client
            .run_pod_sandbox(RunPodSandboxRequest {
                config: Some(config.clone()),
                runtime_handler: handler.to_owned(),
            })
            .await
            .unwrap_or_else(|error| panic!("{who}: RunPodSandbox: {error}"))
            .into_inner()
            .pod_sandbox_id;
        let run = at.elapsed();
        let at = Instant::now();
        let container = self
            .client
            .create_container(CreateContainerRequest {
                pod_sandbox_id: id.clone(),
                config: Some(self.container_config()),
                sandbox_config: Some(config),
            })
            .await
            .unwrap_or_else(|error| panic!("{who}: CreateContainer: {error}"))
            .into_inner()
            .container_id;
        let create = at.elapsed();
        let at = Instant::now();
        self.client
            .start_container(StartContainerRequest {
                container_id: container.clone(),
            })
            .await
            .unwrap_or_else(|error| panic!("{who}: StartContainer: {error}"));
        (Pod { id, container }, [run, create, at.elapsed()])
    }

    /// Ends a pod; the times of StopPodSandbox and RemovePodSandbox.
    pub(crate) async fn end(&mut self, pod: &Pod) -> [Duration; 2] {
        let who = self.name;
        let at = Instant::now();
        self.client
            .stop_pod_sandbox(StopPodSandboxRequest {
                pod_sandbox_id: pod.id.clone(),
            })
            .await
            .unwrap_or_else(|error| panic!("{who}: StopPodSandbox: {error}"));
        let stop = at.elapsed();
        let at = Instant::now();
        self.client
            .remove_pod_sandbox(RemovePodSandboxRequest {
                pod_sandbox_id: pod.id.clone(),
            })
            .await
            .unwrap_or_else(|error| panic!("{who}: RemovePodSandbox: {error}"));
        [stop, at.elapsed()]
    }

    /// Starts and ends a pod.
    pub(crate) async fn life(&mut self, name: &str, handler: &str) -> Life {
        let (pod, [run, create, start]) = self.start(name, handler).await;
        let [stop, remove] = self.end(&pod).await;
        Life {
            run,
            create,
            start,
            stop,
            remove,
        }
    }

    /// Runs `true` in a container.
    pub(crate) async fn exec(&mut self, pod: &Pod) -> Duration {
        let at = Instant::now();
        let answer = self
            .client
            .exec_sync(ExecSyncRequest {
                container_id: pod.container.clone(),
                cmd: vec!["true".to_owned()],
                timeout: 30,
            })
            .await
            .unwrap_or_else(|error| panic!("{}: ExecSync: {error}", self.name))
            .into_inner();
        let took = at.elapsed();
        assert_eq!(answer.exit_code, 0, "{answer:?}");
        took
    }
}

fn namespaces() -> NamespaceOption {
    NamespaceOption {
        pid: NamespaceMode::Container.into(),
        ..NamespaceOption::default()
    }
}
