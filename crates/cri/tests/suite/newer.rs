//! What newer kubelets ask for: streamed lists, pod resources, stop signals, options and sub paths of mounts.

use berth_cri_api::v1::*;
use futures::StreamExt;
use tonic::Code;

use crate::client::{pod, shell};
use crate::image;
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn streamed_lists_say_what_plain_ones_do() {
    let mut server = Server::start().await;
    let request = StreamPodSandboxesRequest::default();
    let stream = server.client.stream_pod_sandboxes(request).await.unwrap();
    assert_eq!(stream.into_inner().count().await, 0);
    let config = pod(&server, "streamed");
    let id = server.run(&config, "").await;
    let container = server
        .launch(&id, &config, shell("c", "exec sleep 1000"))
        .await;

    let stream = server
        .client
        .stream_pod_sandboxes(StreamPodSandboxesRequest::default())
        .await;
    let got = stream.unwrap().into_inner().next().await.unwrap().unwrap();
    assert_eq!(got.pod_sandboxes[0].id, id);
    let stream = server
        .client
        .stream_containers(StreamContainersRequest::default())
        .await;
    let got = stream.unwrap().into_inner().next().await.unwrap().unwrap();
    assert_eq!(got.containers[0].id, container);
    let stream = server
        .client
        .stream_container_stats(StreamContainerStatsRequest::default())
        .await;
    let got = stream.unwrap().into_inner().next().await.unwrap().unwrap();
    assert!(got.container_stats[0].memory.is_some());
    let stream = server
        .client
        .stream_pod_sandbox_stats(StreamPodSandboxStatsRequest::default())
        .await;
    let got = stream.unwrap().into_inner().next().await.unwrap().unwrap();
    assert_eq!(got.pod_sandbox_stats.len(), 1);
    let stream = server
        .client
        .stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest {})
        .await;
    let got = stream.unwrap().into_inner().next().await.unwrap().unwrap();
    assert_eq!(got.pod_sandbox_metrics[0].pod_sandbox_id, id);
    let stream = server
        .images
        .stream_images(StreamImagesRequest::default())
        .await;
    let got = stream.unwrap().into_inner().next().await.unwrap().unwrap();
    assert_eq!(got.images[0].repo_tags, [image::NAME]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_resources_are_kept() {
    let mut server = Server::start().await;
    let config = pod(&server, "resized");
    let id = server.run(&config, "").await;
    let request = |id: &str| UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: id.to_owned(),
        resources: Some(LinuxContainerResources {
            memory_limit_in_bytes: 77 << 20,
            ..LinuxContainerResources::default()
        }),
        overhead: None,
    };
    server
        .client
        .update_pod_sandbox_resources(request(&id))
        .await
        .unwrap();
    server.stop().await;
    server.resume().await;
    let status = PodSandboxStatusRequest {
        pod_sandbox_id: id,
        verbose: true,
    };
    let status = server
        .client
        .pod_sandbox_status(status)
        .await
        .unwrap()
        .into_inner();
    let info: serde_json::Value = serde_json::from_str(&status.info["info"]).unwrap();
    assert_eq!(
        info["config"]["linux"]["resources"]["memory_limit_in_bytes"],
        77 << 20
    );
    let error = server
        .client
        .update_pod_sandbox_resources(request("none"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chosen_stop_signal_is_sent_and_told() {
    let mut server = Server::start().await;
    let config = pod(&server, "signalled");
    let id = server.run(&config, "").await;
    let mut container = shell(
        "c",
        "trap 'exit 5' USR1; trap 'exit 6' TERM; echo ready; while true; do sleep 0.1; done",
    );
    container.stop_signal = Signal::Sigusr1.into();
    let container = server.launch(&id, &config, container).await;
    server.speaks(&config, "c").await;
    assert_eq!(
        server.container(&container).await.stop_signal(),
        Signal::Sigusr1
    );
    server.stop_container(&container, 30).await;
    assert_eq!(server.container(&container).await.exit_code, 5);
    let plain = server
        .try_create(&id, &config, shell("plain", "true"))
        .await
        .unwrap();
    assert_eq!(
        server.container(&plain).await.stop_signal(),
        Signal::Sigterm
    );
    server.finish().await;
}

fn mount(container_path: &str) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        ..Mount::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_have_options_and_images_sub_paths() {
    let mut server = Server::start().await;
    let config = pod(&server, "mounts");
    let id = server.run(&config, "").await;
    let tools = server.path().join("tools");
    std::fs::create_dir(&tools).unwrap();
    std::fs::copy("/bin/busybox", tools.join("echo")).unwrap();
    let image = |sub_path: &str| Mount {
        image: Some(ImageSpec {
            image: image::NAME.to_owned(),
            ..ImageSpec::default()
        }),
        image_sub_path: sub_path.to_owned(),
        readonly: true,
        ..mount("/volume")
    };
    let mut container = shell("c", "exec sleep 1000");
    container.mounts = vec![
        Mount {
            host_path: tools.to_string_lossy().into_owned(),
            mount_options: vec!["noexec".to_owned(), "nosuid".to_owned()],
            ..mount("/tools")
        },
        image("/etc"),
    ];
    let container = server.launch(&id, &config, container).await;
    let (code, said) = server
        .try_exec(&container, "/tools/echo hi", 30)
        .await
        .unwrap();
    assert_eq!(code, 126, "{said}");
    assert!(
        server
            .exec(&container, "cat /volume/passwd")
            .await
            .contains("web:x:33")
    );
    for (sub_path, code) in [
        ("none", Code::InvalidArgument),
        ("../../none", Code::InvalidArgument),
    ] {
        let mut container = shell("no", "true");
        container.mounts = vec![image(sub_path)];
        let error = server
            .try_create(&id, &config, container)
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    let mut container = shell("no", "true");
    container.mounts = vec![Mount {
        readonly: false,
        ..image("")
    }];
    let error = server
        .try_create(&id, &config, container)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let mut container = shell("no", "true");
    container.mounts = vec![Mount {
        host_path: "/tmp".to_owned(),
        mount_options: vec!["bind,upperdir=/".to_owned()],
        ..mount("/x")
    }];
    let error = server
        .try_create(&id, &config, container)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    server.finish().await;
}
