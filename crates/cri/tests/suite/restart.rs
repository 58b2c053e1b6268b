//! A server that ends, in order or not, and the next one on the same directories.

use berth_cri_api::v1::*;

use crate::client::{options, pod, shell, until};
use crate::server::Server;

async fn survives(handler: &str) {
    let mut server = Server::start().await;
    let config = pod(&server, "survivor");
    let id = server.run(&config, handler).await;
    let lasting = server
        .launch(
            &id,
            &config,
            shell("lasting", "echo before; exec sleep 1000"),
        )
        .await;
    let created = server
        .try_create(&id, &config, shell("created", "exit 6"))
        .await
        .unwrap();
    let gate = server.path().join("gate/open");
    std::fs::create_dir(server.path().join("gate")).unwrap();
    let mut gone = shell(
        "gone",
        "until [ -e /gate/open ]; do sleep 0.05; done; exit 7",
    );
    gone.mounts = vec![Mount {
        container_path: "/gate".to_owned(),
        host_path: server.path().join("gate").to_string_lossy().into_owned(),
        readonly: true,
        ..Mount::default()
    }];
    let gone = server.launch(&id, &config, gone).await;
    server.kill().await;
    // It ends while nobody serves: its shim notes that.
    std::fs::write(&gate, "").unwrap();
    let note = server.bundle(&gone).join("exit.json");
    until("end of the container", async || match note.exists() {
        true => Ok(()),
        false => Err(format!("{} is not there", note.display())),
    })
    .await;
    server.resume().await;

    assert_eq!(
        server.sandbox(&id).await.state(),
        PodSandboxState::SandboxReady
    );
    assert_eq!(server.ended(&gone).await.exit_code, 7);
    assert_eq!(
        server.container(&lasting).await.state(),
        ContainerState::ContainerRunning
    );
    server.start_container(&created).await.unwrap();
    assert_eq!(server.ended(&created).await.exit_code, 6);
    assert_eq!(server.exec(&lasting, "echo alive").await, "alive\n");
    server.stop_container(&lasting, 0).await;
    assert_eq!(server.ended(&lasting).await.exit_code, 137);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runc_pods_survive() {
    survives("runc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runsc_pods_survive() {
    survives("runsc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_shim_is_noticed() {
    let mut server = Server::start().await;
    let config = pod(&server, "orphan");
    let id = server.run(&config, "").await;
    let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;
    server.stop().await;
    kill_shim(&server, &id);
    server.resume().await;
    assert_eq!(
        server.sandbox(&id).await.state(),
        PodSandboxState::SandboxNotready
    );
    let status = server.ended(&container).await;
    assert_ne!(status.exit_code, 0, "{status:?}");
    server.finish().await;
}

/// Nothing tells of the end of a pod without containers but the shim itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_empty_pods_shim_is_noticed_at_once() {
    let mut server = Server::start().await;
    for (handler, restarted) in [("runc", false), ("runc", true), ("runsc", false)] {
        let config = pod(&server, "empty");
        let id = server.run(&config, handler).await;
        if restarted {
            server.kill().await;
            server.resume().await;
        }
        kill_shim(&server, &id);
        until("end of the pod", async || {
            match server.sandbox(&id).await.state() {
                PodSandboxState::SandboxNotready => Ok(()),
                ready => Err(format!("{ready:?}")),
            }
        })
        .await;
        let request = RemovePodSandboxRequest { pod_sandbox_id: id };
        server.client.remove_pod_sandbox(request).await.unwrap();
    }
    server.finish().await;
}

fn kill_shim(server: &Server, id: &str) {
    let pid = std::fs::read_to_string(server.bundle(id).join("shim.pid")).unwrap();
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// A shim dies under a server that lives: what it ran is ended, not only forgotten.
async fn nothing_outlives_its_shim(handler: &str, share: NamespaceMode) {
    let mut server = Server::start().await;
    let mut config = pod(&server, "orphan");
    let linux = config.linux.as_mut().unwrap();
    let security = linux.security_context.as_mut().unwrap();
    security.namespace_options = Some(options(share));
    let id = server.run(&config, handler).await;
    let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;
    let late = server.try_create(&id, &config, shell("late", "true")).await;
    let process = std::path::PathBuf::from(format!("/proc/{}", server.pid(&container).await));
    kill_shim(&server, &id);
    let status = server.ended(&container).await;
    assert_ne!(status.exit_code, 0, "{status:?}");
    let ready = PodSandboxState::SandboxNotready;
    until("end of the pod", async || {
        match server.sandbox(&id).await.state() {
            state if state != ready => Err(format!("{state:?}")),
            _ if process.exists() => Err(format!("{} lives", process.display())),
            _ => Ok(()),
        }
    })
    .await;
    let error = server.start_container(&late.unwrap()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_its_shim_under_runc() {
    nothing_outlives_its_shim("runc", NamespaceMode::Container).await;
    nothing_outlives_its_shim("runc", NamespaceMode::Pod).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_its_shim_under_runsc() {
    nothing_outlives_its_shim("runsc", NamespaceMode::Container).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_pod_that_lost_its_shim_is_not_ready() {
    let mut server = Server::start().await;
    let config = pod(&server, "empty");
    let id = server.run(&config, "").await;
    let container = server.try_create(&id, &config, shell("c", "true")).await;
    kill_shim(&server, &id);
    server
        .start_container(&container.unwrap())
        .await
        .unwrap_err();
    let state = server.sandbox(&id).await.state();
    assert_eq!(state, PodSandboxState::SandboxNotready);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_whole_is_removed() {
    let mut server = Server::start().await;
    let config = pod(&server, "half");
    let id = server.run(&config, "").await;
    server.stop().await;
    // As a kill in the middle of RunPodSandbox leaves it.
    let record = server
        .path()
        .join(format!("d/cri/sandboxes/{id}/record.json"));
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.contains("\"phase\":\"Ready\""), "{text}");
    std::fs::write(
        &record,
        text.replace("\"phase\":\"Ready\"", "\"phase\":\"Creating\""),
    )
    .unwrap();
    // And things without any record.
    std::fs::create_dir_all(server.path().join("r/cri/bundles/stray/rootfs")).unwrap();
    std::fs::create_dir_all(server.path().join("d/cri/containers/empty")).unwrap();
    let torn = server.path().join("d/cri/containers/torn");
    std::fs::create_dir_all(&torn).unwrap();
    std::fs::write(torn.join("record.json"), "{\"id\":").unwrap();
    server.resume().await;
    let pods = server
        .client
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await
        .unwrap();
    assert!(pods.into_inner().items.is_empty());
    assert!(!server.path().join("d/cri/containers/empty").exists());
    // One that stands for something nobody knows is a person's to remove.
    assert!(torn.join("record.json.unreadable").exists());
    std::fs::remove_dir_all(&torn).unwrap();
    // Its name is free again.
    server.run(&config, "").await;
    server.finish().await;
}
