//! What people and their scripts read with `crictl`: inspection, checkpoints, figures of gVisor pods.

use std::os::unix::fs::PermissionsExt;

use berth_cri_api::v1::*;

use crate::client::{pod, shell};
use crate::image;
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn inspection_shows_documents_as_they_are() {
    let mut server = Server::start().await;
    let request = ImageStatusRequest {
        image: Some(ImageSpec {
            image: image::NAME.to_owned(),
            ..ImageSpec::default()
        }),
        verbose: true,
    };
    let answer = server.images.image_status(request).await.unwrap();
    let info: serde_json::Value = serde_json::from_str(&answer.into_inner().info["info"]).unwrap();
    assert_eq!(
        info["imageSpec"]["config"]["Env"][1], "FROM=image",
        "{info}"
    );
    assert_eq!(info["imageSpec"]["os"], "linux");
    assert!(info["chainID"].as_str().unwrap().starts_with("sha256:"));

    let config = pod(&server, "inspected");
    let id = server.run(&config, "").await;
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: id.clone(),
        verbose: true,
    };
    let answer = server.client.pod_sandbox_status(request).await.unwrap();
    let info: serde_json::Value = serde_json::from_str(&answer.into_inner().info["info"]).unwrap();
    let namespaces = info["runtimeSpec"]["linux"]["namespaces"]
        .as_array()
        .unwrap();
    let network = namespaces
        .iter()
        .find(|ns| ns["type"] == "network")
        .unwrap();
    assert_eq!(network["path"], info["netns"]);

    let mut container = shell("c", "sleep 1000");
    container.mounts = vec![Mount {
        container_path: "/volume".to_owned(),
        readonly: true,
        image: Some(ImageSpec {
            image: image::NAME.to_owned(),
            ..ImageSpec::default()
        }),
        ..Mount::default()
    }];
    let container = server.try_create(&id, &config, container).await.unwrap();
    let status = server.container(&container).await;
    let volume = status.mounts[0].image.as_ref().unwrap();
    assert_eq!(volume.image_ref, status.image_id);
    server.finish().await;
}

/// A runc whose `checkpoint` writes two files, as CRIU would.
fn checkpointer(config: &mut berth_cri::Config, dir: &std::path::Path) {
    let path = dir.join("runc-checkpointer");
    let script = "#!/bin/sh\nfor word; do\n  case $word in\n\
        checkpoint) verb=1;; --image-path) next=1;; *) [ -n \"$next\" ] && images=$word; next=;;\n  esac\ndone\n\
        [ -z \"$verb\" ] && exec runc \"$@\"\n\
        [ -e $images/../../refuse ] && { echo '(00.1) Error (x.c:1): no' > $images/dump.log; exit 1; }\n\
        echo memory > $images/pages.img; echo fine > $images/dump.log\n";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.join("config.toml");
    let text =
        format!("default_handler = \"r\"\n[handlers.r]\nbinary = {path:?}\n[handlers.runsc]\n");
    std::fs::write(&file, text).unwrap();
    config.handlers = berth_cri::HandlerSource::Berth(file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_one_archive_or_nothing() {
    let mut server = Server::start_with(checkpointer).await;
    let config = pod(&server, "checkpoint");
    let id = server.run(&config, "r").await;
    let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;
    let location = server.path().join("c.tar");
    let request = |location: &std::path::Path| CheckpointContainerRequest {
        container_id: container.clone(),
        location: location.to_string_lossy().into_owned(),
        timeout: 20,
    };
    server
        .client
        .checkpoint_container(request(&location))
        .await
        .unwrap();
    assert_eq!(
        location.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mut archive = tar::Archive::new(std::fs::File::open(&location).unwrap());
    let mut names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .filter(|name| name != "./")
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "checkpoint",
            "checkpoint/dump.log",
            "checkpoint/pages.img",
            "config.dump",
            "spec.dump"
        ]
    );

    let bundle = server.path().join("r/cri/bundles").join(&container);
    std::fs::write(bundle.join("refuse"), "").unwrap();
    let other = server.path().join("other.tar");
    server
        .client
        .checkpoint_container(request(&other))
        .await
        .unwrap_err();
    assert!(!other.exists() && !bundle.join("checkpoint").exists());

    // gVisor's checkpoint would end the pod.
    let config = pod(&server, "gvisor");
    let id = server.run(&config, "runsc").await;
    let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;
    let request = CheckpointContainerRequest {
        container_id: container.clone(),
        ..request(&other)
    };
    let error = server
        .client
        .checkpoint_container(request)
        .await
        .unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unimplemented, "{error}");
    assert_eq!(
        server.container(&container).await.state(),
        ContainerState::ContainerRunning
    );

    // And its figures are those of the sandbox's cgroup, with what gVisor itself needs.
    let request = PodSandboxStatsRequest { pod_sandbox_id: id };
    let stats = server.client.pod_sandbox_stats(request).await.unwrap();
    let linux = stats.into_inner().stats.unwrap().linux.unwrap();
    let used = |memory: Option<MemoryUsage>| memory.unwrap().usage_bytes.unwrap().value;
    let of_container = used(linux.containers[0].memory);
    assert!(used(linux.memory) >= of_container);
    assert!(linux.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    server.finish().await;
}
