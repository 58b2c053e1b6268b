//! Short words for what a kubelet says.

use berth_cri_api::v1::*;
use tonic::Status;

use crate::daemon::{Client, IMAGE};

pub(crate) fn pod(name: &str, logs: &std::path::Path, cgroup_parent: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            namespace: "test".to_owned(),
            uid: format!("uid-{name}"),
            attempt: 0,
        }),
        log_directory: logs.join(name).to_string_lossy().into_owned(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: cgroup_parent.to_owned(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(own_pids()),
                ..LinuxSandboxSecurityContext::default()
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

fn own_pids() -> NamespaceOption {
    NamespaceOption {
        pid: NamespaceMode::Container.into(),
        ..NamespaceOption::default()
    }
}

pub(crate) fn shell(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: IMAGE.to_owned(),
            ..ImageSpec::default()
        }),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(own_pids()),
                ..LinuxContainerSecurityContext::default()
            }),
            ..LinuxContainerConfig::default()
        }),
        ..ContainerConfig::default()
    }
}

pub(crate) async fn run(
    client: &mut Client,
    config: &PodSandboxConfig,
    handler: &str,
) -> Result<String, Status> {
    let request = RunPodSandboxRequest {
        config: Some(config.clone()),
        runtime_handler: handler.to_owned(),
    };
    let answer = client.run_pod_sandbox(request).await?;
    Ok(answer.into_inner().pod_sandbox_id)
}

/// Creates and starts.
pub(crate) async fn launch(
    client: &mut Client,
    sandbox: &str,
    pod: &PodSandboxConfig,
    config: ContainerConfig,
) -> Result<String, Status> {
    let request = CreateContainerRequest {
        pod_sandbox_id: sandbox.to_owned(),
        config: Some(config),
        sandbox_config: Some(pod.clone()),
    };
    let answer = client.create_container(request).await?;
    let container_id = answer.into_inner().container_id;
    let request = StartContainerRequest {
        container_id: container_id.clone(),
    };
    client.start_container(request).await?;
    Ok(container_id)
}

pub(crate) async fn exec(client: &mut Client, id: &str, script: &str) -> Result<String, Status> {
    let request = ExecSyncRequest {
        container_id: id.to_owned(),
        cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
        timeout: 20,
    };
    let answer = client.exec_sync(request).await?.into_inner();
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}

pub(crate) async fn remove(client: &mut Client, id: &str) -> Result<(), Status> {
    let pod_sandbox_id = id.to_owned();
    client
        .stop_pod_sandbox(StopPodSandboxRequest {
            pod_sandbox_id: pod_sandbox_id.clone(),
        })
        .await?;
    client
        .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id })
        .await?;
    Ok(())
}

pub(crate) async fn status(client: &mut Client, id: &str) -> Result<ContainerStatus, Status> {
    let request = ContainerStatusRequest {
        container_id: id.to_owned(),
        verbose: false,
    };
    let answer = client.container_status(request).await?.into_inner();
    Ok(answer.status.unwrap_or_default())
}

pub(crate) async fn sandboxes(client: &mut Client) -> Vec<PodSandbox> {
    let answer = client.list_pod_sandbox(ListPodSandboxRequest::default());
    answer.await.expect("a list").into_inner().items
}
