//! The life of a pod under each runtime.

use berth_cri_api::v1::*;

use crate::client::{options, pod, shell};
use crate::server::Server;

async fn life(handler: &str) {
    let mut server = Server::start().await;
    let config = pod(&server, "life");
    let id = server.run(&config, handler).await;
    let status = server.sandbox(&id).await;
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    assert_eq!(status.runtime_handler, handler);
    let ip = status.network.unwrap().ip;
    assert!(ip.starts_with("10."), "{ip}");

    let long = server
        .launch(
            &id,
            &config,
            shell(
                "long",
                "echo out; echo err >&2; trap 'exit 5' TERM; sleep 1000 & wait",
            ),
        )
        .await;
    let short = server
        .launch(
            &id,
            &config,
            shell("short", "echo $FROM; pwd; hostname; exit 3"),
        )
        .await;
    let ended = server.ended(&short).await;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (3, "Error"));
    assert!(ended.created_at <= ended.started_at && ended.started_at <= ended.finished_at);
    assert_eq!(server.log(&config, "short"), "image\n/tmp\nhost-life\n");

    let running = server.container(&long).await;
    assert_eq!(running.state(), ContainerState::ContainerRunning);
    assert!(running.image_id.starts_with("sha256:"));
    // By its name; by its digest, too, where a registry has it (`images.rs`).
    assert_eq!(running.image.unwrap().image, crate::image::NAME);
    assert_eq!(running.image_ref, running.image_id);
    let (code, text) = server
        .try_exec(&long, "echo a; echo b >&2; exit 9", 30)
        .await
        .unwrap();
    assert_eq!((code, text.as_str()), (9, "a\nb\n"));
    let kernel = server.exec(&long, "uname -v").await;
    let own = std::fs::read_to_string("/proc/sys/kernel/version").unwrap();
    assert_eq!(kernel == own, handler != "runsc", "{handler}: {kernel}");

    // The grace period is the container's to use.
    server.stop_container(&long, 30).await;
    assert_eq!(server.ended(&long).await.exit_code, 5);
    let mut lines: Vec<String> = server
        .log(&config, "long")
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, ["err", "out"]);

    server.stop_pod(&id).await;
    server.stop_pod(&id).await;
    assert_eq!(
        server.sandbox(&id).await.state(),
        PodSandboxState::SandboxNotready
    );
    server.finish().await;
}

/// What a client leaves out has the CRI's defaults: one PID namespace for the pod.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_says_nothing() {
    for handler in ["runc", "runsc"] {
        let mut server = Server::start().await;
        let mut config = pod(&server, "plain");
        config.linux = None;
        let id = server.run(&config, handler).await;
        let mut container = shell("c", "exec sleep 1000");
        container.linux = None;
        let container = server.launch(&id, &config, container).await;
        let first = server.exec(&container, "cat /proc/1/comm").await;
        assert_ne!(first, "sleep\n", "{handler}");
        server.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn life_under_runc() {
    life("runc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn life_under_crun() {
    life("crun").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn life_under_the_runtime_inside() {
    life("berth").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn life_under_runsc() {
    life("runsc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_for_what_is_not_there() {
    let mut server = Server::start().await;
    server.stop_pod("0123").await;
    server.stop_container("0123", 1).await;
    let request = RemoveContainerRequest {
        container_id: "0123".to_owned(),
    };
    server.client.remove_container(request).await.unwrap();
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: "0123".to_owned(),
        verbose: false,
    };
    let error = server.client.pod_sandbox_status(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::NotFound);
    let config = pod(&server, "images");
    let id = server.run(&config, "").await;
    let mut container = shell("c", "true");
    container.image.as_mut().unwrap().image = "localhost/none:1".to_owned();
    let error = server
        .try_create(&id, &config, container)
        .await
        .unwrap_err();
    assert_eq!(error.code(), tonic::Code::NotFound);
    let error = server.try_run(&config, "").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::AlreadyExists, "{error}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_missing_is_told_and_noted() {
    let mut server = Server::start().await;
    let config = pod(&server, "missing");
    let id = server.run(&config, "").await;
    let mut container = shell("c", "");
    container.command = vec!["/no/such/program".to_owned()];
    let container = server.try_create(&id, &config, container).await.unwrap();
    let error = server.start_container(&container).await.unwrap_err();
    assert!(error.message().contains("/no/such/program"), "{error}");
    let status = server.container(&container).await;
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (128, "StartError")
    );
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_share_what_they_should() {
    let mut server = Server::start().await;
    let mut config = pod(&server, "shared");
    let security = config
        .linux
        .as_mut()
        .unwrap()
        .security_context
        .as_mut()
        .unwrap();
    security.namespace_options = Some(options(NamespaceMode::Pod));
    config.linux.as_mut().unwrap().sysctls.insert(
        "net.ipv4.ip_unprivileged_port_start".to_owned(),
        "7".to_owned(),
    );
    config.dns_config = Some(DnsConfig {
        servers: vec!["10.9.8.7".to_owned()],
        searches: vec!["x.y".to_owned()],
        options: vec![],
    });
    let id = server.run(&config, "").await;
    let share = |mut container: ContainerConfig| {
        let security = container
            .linux
            .as_mut()
            .unwrap()
            .security_context
            .as_mut()
            .unwrap();
        security.namespace_options = Some(options(NamespaceMode::Pod));
        container
    };
    let one = server
        .launch(
            &id,
            &config,
            share(shell("one", "echo shm > /dev/shm/file; exec sleep 1001")),
        )
        .await;
    let two = server
        .launch(&id, &config, share(shell("two", "exec sleep 1002")))
        .await;
    // A start is over a moment before the runtime has become the process.
    let wanted = ["/pause", "sleep 1001", "sleep 1002"];
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let processes = server.exec(&two, "ps -o args").await;
        if wanted.iter().all(|process| processes.contains(process)) {
            break;
        }
        assert!(std::time::Instant::now() < end, "{processes}");
    }
    assert_eq!(server.exec(&two, "cat /dev/shm/file").await, "shm\n");
    assert_eq!(
        server
            .exec(&one, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start")
            .await,
        "7\n"
    );
    assert_eq!(
        server.exec(&one, "cat /etc/resolv.conf").await,
        "search x.y\nnameserver 10.9.8.7\n"
    );
    assert_eq!(
        server.exec(&one, "cat /etc/hostname").await,
        "host-shared\n"
    );
    // The first container's end is not the pod's.
    server.stop_container(&one, 0).await;
    assert_eq!(server.ended(&one).await.exit_code, 137);
    assert_eq!(
        server.container(&two).await.state(),
        ContainerState::ContainerRunning
    );
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pods_at_once() {
    let mut server = Server::start().await;
    let runs = (0..8).map(|n| {
        let config = pod(&server, &format!("many{n}"));
        let mut client = server.client.clone();
        async move {
            let request = RunPodSandboxRequest {
                config: Some(config.clone()),
                runtime_handler: String::new(),
            };
            let id = client
                .run_pod_sandbox(request)
                .await?
                .into_inner()
                .pod_sandbox_id;
            let request = CreateContainerRequest {
                pod_sandbox_id: id.clone(),
                config: Some(shell("c", "sleep 1000")),
                sandbox_config: Some(config),
            };
            let container_id = client
                .create_container(request)
                .await?
                .into_inner()
                .container_id;
            client
                .start_container(StartContainerRequest { container_id })
                .await?;
            let request = PodSandboxStatusRequest {
                pod_sandbox_id: id,
                verbose: false,
            };
            let status = client
                .pod_sandbox_status(request)
                .await?
                .into_inner()
                .status
                .unwrap_or_default();
            Ok::<_, tonic::Status>(status.network.unwrap_or_default().ip)
        }
    });
    let ips: std::collections::BTreeSet<String> = futures::future::try_join_all(runs)
        .await
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(ips.len(), 8);
    let request = ListContainersRequest::default();
    assert_eq!(
        server
            .client
            .list_containers(request)
            .await
            .unwrap()
            .into_inner()
            .containers
            .len(),
        8
    );
    server.finish().await;
}
