//! Short words for what a kubelet says.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use berth_cri_api::v1::*;
use tonic::Status;

use crate::image;
use crate::server::Server;

pub(crate) fn options(pid: NamespaceMode) -> NamespaceOption {
    NamespaceOption {
        pid: pid.into(),
        ..NamespaceOption::default()
    }
}

/// Asks again and again until the answer is good; panics with the last one when that takes too long.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(answer) => assert!(Instant::now() < end, "no {what}: {answer}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A slice for a pod alone, as a kubelet names one; without systemd the choice is the runtime's.
fn cgroup_parent(server: &Server, name: &str) -> String {
    if !server.has_slices() {
        return String::new();
    }
    format!(
        "berthtest-{}_{}.slice",
        server.bridge,
        name.replace('-', "_")
    )
}

/// A pod with a PID namespace for each container.
pub(crate) fn pod(server: &Server, name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            namespace: "test".to_owned(),
            uid: format!("uid-{name}"),
            attempt: 0,
        }),
        hostname: format!("host-{name}"),
        log_directory: server
            .path()
            .join("log")
            .join(name)
            .to_string_lossy()
            .into_owned(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent(server, name),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(options(NamespaceMode::Container)),
                ..LinuxSandboxSecurityContext::default()
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

/// A container that runs a shell script.
pub(crate) fn shell(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: image::NAME.to_owned(),
            ..ImageSpec::default()
        }),
        command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(options(NamespaceMode::Container)),
                ..LinuxContainerSecurityContext::default()
            }),
            ..LinuxContainerConfig::default()
        }),
        ..ContainerConfig::default()
    }
}

/// What a container of [`shell`] may do and whom it runs as, to be changed.
pub(crate) fn security(container: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    let linux = container.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap()
}

impl Server {
    pub(crate) async fn try_run(
        &mut self,
        config: &PodSandboxConfig,
        handler: &str,
    ) -> Result<String, Status> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        Ok(self
            .client
            .run_pod_sandbox(request)
            .await?
            .into_inner()
            .pod_sandbox_id)
    }

    pub(crate) async fn run(&mut self, config: &PodSandboxConfig, handler: &str) -> String {
        self.try_run(config, handler).await.unwrap()
    }

    pub(crate) async fn try_create(
        &mut self,
        id: &str,
        pod: &PodSandboxConfig,
        config: ContainerConfig,
    ) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: id.to_owned(),
            config: Some(config),
            sandbox_config: Some(pod.clone()),
        };
        Ok(self
            .client
            .create_container(request)
            .await?
            .into_inner()
            .container_id)
    }

    pub(crate) async fn start_container(&mut self, id: &str) -> Result<(), Status> {
        let request = StartContainerRequest {
            container_id: id.to_owned(),
        };
        self.client.start_container(request).await.map(|_| ())
    }

    /// Creates and starts.
    pub(crate) async fn launch(
        &mut self,
        id: &str,
        pod: &PodSandboxConfig,
        config: ContainerConfig,
    ) -> String {
        let container = self.try_create(id, pod, config).await.unwrap();
        self.start_container(&container).await.unwrap();
        container
    }

    pub(crate) async fn container(&mut self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        self.client
            .container_status(request)
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap()
    }

    /// The host's pid of a container's first process, as the verbose status tells it.
    pub(crate) async fn pid(&mut self, id: &str) -> u32 {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: true,
        };
        let answer = self.client.container_status(request).await.unwrap();
        let info = &answer.into_inner().info["info"];
        let info: serde_json::Value = serde_json::from_str(info).unwrap();
        info["pid"].as_u64().unwrap().try_into().unwrap()
    }

    pub(crate) async fn sandbox(&mut self, id: &str) -> PodSandboxStatus {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        self.client
            .pod_sandbox_status(request)
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap()
    }

    /// Waits for a container's end.
    pub(crate) async fn ended(&mut self, id: &str) -> ContainerStatus {
        until(&format!("the end of container {id}"), async || {
            let status = self.container(id).await;
            match status.state() {
                ContainerState::ContainerExited => Ok(status),
                _ => Err(format!("{status:?}")),
            }
        })
        .await
    }

    /// Waits for a container's first line.
    pub(crate) async fn speaks(&self, pod: &PodSandboxConfig, name: &str) {
        until("a container's first line", async || {
            match self.log(pod, name) {
                log if log.is_empty() => Err(format!("container {name} says nothing")),
                _ => Ok(()),
            }
        })
        .await;
    }

    pub(crate) async fn stop_container(&mut self, id: &str, timeout: i64) {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout,
        };
        self.client.stop_container(request).await.unwrap();
    }

    pub(crate) async fn stop_pod(&mut self, id: &str) {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.client.stop_pod_sandbox(request).await.unwrap();
    }

    pub(crate) async fn try_exec(
        &mut self,
        id: &str,
        script: &str,
        timeout: i64,
    ) -> Result<(i32, String), Status> {
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            timeout,
        };
        let answer = self.client.exec_sync(request).await?.into_inner();
        let text = String::from_utf8_lossy(&answer.stdout).into_owned()
            + &String::from_utf8_lossy(&answer.stderr);
        Ok((answer.exit_code, text))
    }

    /// The output of a command that must succeed.
    pub(crate) async fn exec(&mut self, id: &str, script: &str) -> String {
        let (code, text) = self.try_exec(id, script, 30).await.unwrap();
        assert_eq!(code, 0, "{script}: {text}");
        text
    }

    /// The messages in a container's log, without time and tags.
    pub(crate) fn log(&self, pod: &PodSandboxConfig, name: &str) -> String {
        let path = PathBuf::from(&pod.log_directory).join(format!("{name}.log"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n")
            .collect()
    }
}
