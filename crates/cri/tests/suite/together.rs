//! Many calls at once for the same things, and calls made twice.

use std::time::Duration;

use berth_cri_api::v1::*;
use tonic::Code;

use crate::client::{pod, shell};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_one_name_one_is_made() {
    let mut server = Server::start().await;
    let config = pod(&server, "twins");
    let runs = (0..4).map(|_| {
        let (mut client, config) = (server.client.clone(), config.clone());
        async move {
            let request = RunPodSandboxRequest {
                config: Some(config),
                runtime_handler: String::new(),
            };
            client.run_pod_sandbox(request).await
        }
    });
    let made = only(futures::future::join_all(runs).await).pod_sandbox_id;
    let creates = (0..4).map(|_| {
        let (mut client, config, made) = (server.client.clone(), config.clone(), made.clone());
        async move {
            let request = CreateContainerRequest {
                pod_sandbox_id: made,
                config: Some(shell("c", "exec sleep 1000")),
                sandbox_config: Some(config),
            };
            client.create_container(request).await
        }
    });
    let container_id = only(futures::future::join_all(creates).await).container_id;
    // Started by many, it runs once.
    let starts = (0..4).map(|_| {
        let (mut client, container_id) = (server.client.clone(), container_id.clone());
        async move {
            client
                .start_container(StartContainerRequest { container_id })
                .await
        }
    });
    for started in futures::future::join_all(starts).await {
        started.unwrap();
    }
    assert_eq!(server.exec(&container_id, "echo on").await, "on\n");
    server.finish().await;
}

/// The one answer; all others say that the name is taken.
fn only<T>(answers: Vec<Result<tonic::Response<T>, tonic::Status>>) -> T {
    let mut made = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => made.push(answer.into_inner()),
            Err(error) => assert_eq!(error.code(), Code::AlreadyExists, "{error}"),
        }
    }
    assert_eq!(made.len(), 1);
    made.pop().unwrap()
}

/// Whatever overtakes what: once all calls have been answered, nothing of the pod is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_removed_while_containers_come() {
    let mut server = Server::start().await;
    for round in 0..6 {
        let config = pod(&server, &format!("race{round}"));
        let id = server.run(&config, "").await;
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..4 {
            let (mut client, config, id) = (server.client.clone(), config.clone(), id.clone());
            calls.spawn(async move {
                let request = CreateContainerRequest {
                    pod_sandbox_id: id,
                    config: Some(shell(&format!("c{number}"), "exec sleep 1000")),
                    sandbox_config: Some(config),
                };
                let container_id = client
                    .create_container(request)
                    .await?
                    .into_inner()
                    .container_id;
                client
                    .start_container(StartContainerRequest {
                        container_id: container_id.clone(),
                    })
                    .await?;
                client
                    .stop_container(StopContainerRequest {
                        container_id: container_id.clone(),
                        timeout: 0,
                    })
                    .await?;
                client
                    .remove_container(RemoveContainerRequest { container_id })
                    .await?;
                Ok::<(), tonic::Status>(())
            });
        }
        for _ in 0..2 {
            let (mut client, pod_sandbox_id) = (server.client.clone(), id.clone());
            calls.spawn(async move {
                tokio::time::sleep(Duration::from_millis(15 * round)).await;
                let request = StopPodSandboxRequest {
                    pod_sandbox_id: pod_sandbox_id.clone(),
                };
                client.stop_pod_sandbox(request).await.expect("a stop");
                let request = RemovePodSandboxRequest { pod_sandbox_id };
                client.remove_pod_sandbox(request).await.expect("a removal");
                Ok(())
            });
        }
        while let Some(done) = calls.join_next().await {
            if let Err(error) = done.unwrap() {
                let gone = matches!(error.code(), Code::NotFound | Code::FailedPrecondition);
                assert!(gone, "{error:?}");
            }
        }
    }
    let request = ListContainersRequest::default();
    let left = server
        .client
        .list_containers(request)
        .await
        .unwrap()
        .into_inner()
        .containers;
    assert!(left.is_empty(), "{left:?}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_removed_while_it_starts() {
    let mut server = Server::start().await;
    let config = pod(&server, "gone");
    let id = server.run(&config, "").await;
    for round in 0..5 {
        let container_id = server
            .try_create(&id, &config, shell(&format!("c{round}"), "exec sleep 1000"))
            .await
            .unwrap();
        let (mut one, mut other) = (server.client.clone(), server.client.clone());
        let (start, remove) = (container_id.clone(), container_id.clone());
        let (started, removed) = tokio::join!(
            one.start_container(StartContainerRequest {
                container_id: start
            }),
            async {
                tokio::time::sleep(Duration::from_millis(8 * round)).await;
                other
                    .remove_container(RemoveContainerRequest {
                        container_id: remove,
                    })
                    .await
            }
        );
        removed.unwrap();
        if let Err(error) = started {
            assert_eq!(error.code(), Code::NotFound, "{error}");
        }
        let request = ContainerStatusRequest {
            container_id,
            verbose: false,
        };
        let error = server.client.container_status(request).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
    }
    server.finish().await;
}
