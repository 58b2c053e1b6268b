//! What a container's process is given, and how its end is told.

use std::time::{Duration, Instant};

use berth_cri_api::v1::*;

use crate::client::{pod, security, shell};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn users_by_number_and_name() {
    let mut server = Server::start().await;
    let config = pod(&server, "users");
    let id = server.run(&config, "").await;
    let mut by_name = shell("name", "id");
    security(&mut by_name).run_as_username = "web".to_owned();
    security(&mut by_name).supplemental_groups = vec![77];
    let container = server.launch(&id, &config, by_name).await;
    server.ended(&container).await;
    assert_eq!(
        server.log(&config, "name"),
        "uid=33(web) gid=34(web) groups=34(web),77,500(extra)\n"
    );
    let user = server
        .container(&container)
        .await
        .user
        .unwrap()
        .linux
        .unwrap();
    assert_eq!(
        (user.uid, user.gid, user.supplemental_groups),
        (33, 34, vec![34, 500, 77])
    );

    let mut by_number = shell("number", "id -u; id -g");
    security(&mut by_number).run_as_user = Some(Int64Value { value: 1234 });
    security(&mut by_number).run_as_group = Some(Int64Value { value: 99 });
    let container = server.launch(&id, &config, by_number).await;
    server.ended(&container).await;
    assert_eq!(server.log(&config, "number"), "1234\n99\n");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_out_of_memory_says_so() {
    let mut server = Server::start().await;
    let config = pod(&server, "oom");
    let id = server.run(&config, "").await;
    let mut container = shell("c", "dd if=/dev/zero of=/dev/null bs=64M count=1");
    container.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
        memory_limit_in_bytes: 16 << 20,
        ..LinuxContainerResources::default()
    });
    let container = server.launch(&id, &config, container).await;
    let status = server.ended(&container).await;
    assert_eq!(status.reason, "OOMKilled", "{status:?}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_ends_with_its_timeout_and_all_it_started() {
    let mut server = Server::start().await;
    let config = pod(&server, "timeout");
    let id = server.run(&config, "").await;
    let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;
    let before = Instant::now();
    let error = server
        .try_exec(&container, "sleep 777 & sleep 778", 1)
        .await
        .unwrap_err();
    assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error}");
    assert!(before.elapsed() < Duration::from_secs(10));
    let processes = server.exec(&container, "ps -o args").await;
    assert!(!processes.contains("sleep 77"), "{processes}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ignores_the_signal_is_killed() {
    let mut server = Server::start().await;
    let config = pod(&server, "kill");
    let id = server.run(&config, "").await;
    let container = server
        .launch(
            &id,
            &config,
            shell(
                "c",
                "trap '' TERM; echo ready; while true; do sleep 1000; done",
            ),
        )
        .await;
    server.speaks(&config, "c").await;
    server.stop_container(&container, 1).await;
    assert_eq!(server.container(&container).await.exit_code, 137);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_while_it_runs() {
    let mut server = Server::start().await;
    let config = pod(&server, "update");
    let id = server.run(&config, "").await;
    let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;
    let request = UpdateContainerResourcesRequest {
        container_id: container.clone(),
        linux: Some(LinuxContainerResources {
            memory_limit_in_bytes: 48 << 20,
            ..LinuxContainerResources::default()
        }),
        ..UpdateContainerResourcesRequest::default()
    };
    server
        .client
        .update_container_resources(request)
        .await
        .unwrap();
    let resources = server
        .container(&container)
        .await
        .resources
        .unwrap()
        .linux
        .unwrap();
    assert_eq!(resources.memory_limit_in_bytes, 48 << 20);
    let seen = server
        .exec(&container, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true")
        .await;
    assert_eq!(seen.trim(), (48 << 20).to_string());
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_statistics() {
    use tokio_stream::StreamExt;
    let mut server = Server::start().await;
    let mut events = server
        .client
        .get_container_events(GetEventsRequest {})
        .await
        .unwrap()
        .into_inner();
    let config = pod(&server, "events");
    let id = server.run(&config, "").await;
    let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;
    let request = ContainerStatsRequest {
        container_id: container.clone(),
    };
    let stats = server
        .client
        .container_stats(request)
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap();
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    let request = PodSandboxStatsRequest {
        pod_sandbox_id: id.clone(),
    };
    let stats = server
        .client
        .pod_sandbox_stats(request)
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap()
        .linux
        .unwrap();
    assert_eq!(
        stats.network.unwrap().default_interface.unwrap().name,
        "eth0"
    );
    assert_eq!(stats.process.unwrap().process_count.unwrap().value, 1);
    server.stop_container(&container, 0).await;
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let event = tokio::time::timeout(Duration::from_secs(20), events.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let of_pod = event.container_id == id;
        assert_eq!(
            event
                .pod_sandbox_status
                .as_ref()
                .unwrap()
                .metadata
                .as_ref()
                .unwrap()
                .uid,
            "uid-events"
        );
        if event.container_event_type() != ContainerEventType::ContainerCreatedEvent || !of_pod {
            // A kubelet takes it for all that there is in the pod.
            let told: Vec<&str> = event
                .containers_statuses
                .iter()
                .map(|status| status.id.as_str())
                .collect();
            assert!(
                told == [container.as_str()] || (of_pod && told.is_empty()),
                "{told:?}"
            );
        }
        seen.push((of_pod, event.container_event_type()));
    }
    use ContainerEventType::{
        ContainerCreatedEvent as Created, ContainerStartedEvent as Started,
        ContainerStoppedEvent as Stopped,
    };
    assert_eq!(
        seen,
        [
            (true, Created),
            (true, Started),
            (false, Created),
            (false, Started),
            (false, Stopped)
        ]
    );
    server.finish().await;
}
