//! Images that are made to harm, through `CreateContainer`.

use std::time::Duration;

use berth_cri_api::v1::ContainerConfig;
use tonic::{Code, Status};

use crate::client::{pod, shell};
use crate::image::{self, Passwd};
use crate::server::Server;

const NAME: &str = "localhost/hostile:1";

fn of(name: &str) -> ContainerConfig {
    let mut container = shell(name, "true");
    container.image.as_mut().unwrap().image = NAME.to_owned();
    container
}

/// Creates one; what takes long hangs.
async fn create(server: &mut Server, name: &str) -> Result<String, Status> {
    let config = pod(server, name);
    let id = server.run(&config, "runc").await;
    let created = server.try_create(&id, &config, of(name));
    tokio::time::timeout(Duration::from_secs(20), created)
        .await
        .expect("CreateContainer answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_s_passwd_holds_nothing_up_and_shows_nothing_of_the_host() {
    let mut server = Server::start().await;
    for (number, (passwd, refused)) in [
        (Passwd::Fifo, Some("not a regular file")),
        (Passwd::Bytes(2 << 20), Some("more than")),
        (Passwd::Link("passwd"), Some("symbolic links")),
        // Not the host's device, but a place in the image where nothing is.
        (Passwd::Link("/dev/zero"), None),
        (Passwd::Link("../../../../../../../../dev/zero"), None),
    ]
    .into_iter()
    .enumerate()
    {
        let archive = image::hostile(server.path(), NAME, &passwd);
        server.import(&archive).await;
        let created = create(&mut server, &format!("passwd-{number}")).await;
        match refused {
            None => drop(created.unwrap()),
            Some(why) => {
                let error = created.unwrap_err();
                assert_eq!(error.code(), Code::InvalidArgument, "{error}");
                let message = error.message();
                assert!(
                    message.contains("/etc/passwd") && message.contains(why),
                    "{message}"
                );
            }
        }
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_s_volumes_do_not_multiply_it_without_bound() {
    let mut server = Server::start().await;
    let archive = image::of_volumes(server.path(), NAME, 5000);
    server.import(&archive).await;
    let error = create(&mut server, "many").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("5000 volumes"), "{error}");
    let archive = image::of_volumes(server.path(), NAME, 20);
    server.import(&archive).await;
    create(&mut server, "some").await.unwrap();
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_leaves_is_counted_and_removed_however_deep_it_is() {
    let mut server = Server::start().await;
    let config = pod(&server, "deep");
    let id = server.run(&config, "runc").await;
    // In its root file system and in a volume that its image declares: deeper than a path can say, and than a stack is.
    let script = "p=d; i=0; while [ $i -lt 10 ]; do p=$p/$p; i=$((i+1)); done; \
                  for at in /root /data; do cd $at; for n in 1 2 3; do mkdir -p $p && cd -P $p || exit 9; done; done; \
                  echo up; exec sleep 1000";
    let container = server.launch(&id, &config, shell("c", script)).await;
    server.speaks(&config, "c").await;
    let request = berth_cri_api::v1::ContainerStatsRequest {
        container_id: container.clone(),
    };
    let stats = server.client.container_stats(request).await.unwrap();
    let layer = stats.into_inner().stats.unwrap().writable_layer.unwrap();
    assert!(layer.used_bytes.unwrap().value > 1 << 50);
    let (bundle, kept) = (
        server.bundle(&container),
        server.path().join("d/cri/containers").join(&container),
    );
    server.stop_pod(&id).await;
    let request = berth_cri_api::v1::RemoveContainerRequest {
        container_id: container,
    };
    server.client.remove_container(request).await.unwrap();
    assert!(!bundle.exists() && !kept.exists());
    let trash = server.path().join("d/cri/images/trash");
    crate::client::until("an empty trash", async || {
        match std::fs::read_dir(&trash).unwrap().count() {
            0 => Ok(()),
            left => Err(format!("{left} entries")),
        }
    })
    .await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_with_large_annotations_do_not_hide_the_others() {
    let mut server = Server::start().await;
    server.client = server.client.clone().max_decoding_message_size(64 << 20);
    // Each of them as large as the API server takes one.
    for number in 0..18 {
        let mut config = pod(&server, &format!("large-{number}"));
        config
            .annotations
            .insert("note".to_owned(), "x".repeat(1 << 20));
        server.run(&config, "runc").await;
    }
    let request = berth_cri_api::v1::ListPodSandboxRequest { filter: None };
    let listed = server.client.list_pod_sandbox(request).await.unwrap();
    assert_eq!(listed.into_inner().items.len(), 18);
    server.finish().await;
}
