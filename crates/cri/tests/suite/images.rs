//! The image service over an imported image.

use berth_cri_api::v1::*;

use crate::client::{pod, shell};
use crate::image;
use crate::server::Server;

fn spec(name: &str) -> Option<ImageSpec> {
    Some(ImageSpec {
        image: name.to_owned(),
        ..ImageSpec::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_listed_measured_and_removed() {
    let mut server = Server::start().await;
    let listed = server
        .images
        .list_images(ListImagesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .images;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].repo_tags, [image::NAME]);
    assert!(listed[0].size > 0 && listed[0].uid.as_ref().is_some_and(|uid| uid.value == 0));
    // By the beginning of its id, as a person types it.
    let id = listed[0].id.trim_start_matches("sha256:");
    let request = ImageStatusRequest {
        image: spec(&id[..12]),
        verbose: false,
    };
    let found = server
        .images
        .image_status(request)
        .await
        .unwrap()
        .into_inner()
        .image;
    assert_eq!(found.map(|image| image.id), Some(listed[0].id.clone()));
    let info = server
        .images
        .image_fs_info(ImageFsInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(
        info.image_filesystems[0]
            .used_bytes
            .as_ref()
            .is_some_and(|used| used.value > 0)
    );
    for _ in 0..2 {
        let request = RemoveImageRequest {
            image: spec(image::NAME),
        };
        server.images.remove_image(request).await.unwrap();
    }
    let listed = server
        .images
        .list_images(ListImagesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .images;
    assert!(listed.is_empty());
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_images_volumes_are_each_containers_own() {
    let mut server = Server::start().await;
    let config = pod(&server, "volumes");
    let id = server.run(&config, "").await;
    let mut one = shell("one", "exec sleep 1000");
    let linux = one.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().readonly_rootfs = true;
    let one = server.launch(&id, &config, one).await;
    assert_eq!(
        server
            .exec(&one, "cat /data/seed; echo mine > /data/mine; ls /data")
            .await,
        "seed\nmine\nseed\n"
    );
    let mode = server.exec(&one, "ls -l /data/seed").await;
    assert!(mode.starts_with("-rw-r-----"), "{mode}");
    let two = server
        .launch(&id, &config, shell("two", "exec sleep 1000"))
        .await;
    assert_eq!(server.exec(&two, "ls /data").await, "seed\n");

    // What the pod mounts there wins.
    let own = server.path().join("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("pods"), "").unwrap();
    let mut three = shell("three", "exec sleep 1000");
    three.mounts.push(Mount {
        container_path: "/data/".to_owned(),
        host_path: own.to_string_lossy().into_owned(),
        ..Mount::default()
    });
    let three = server.launch(&id, &config, three).await;
    assert_eq!(server.exec(&three, "ls /data").await, "pods\n");

    let kept = server.path().join("d/cri/containers").join(&one);
    assert!(kept.join("volumes/0/mine").exists());
    let request = RemoveContainerRequest { container_id: one };
    server.client.remove_container(request).await.unwrap();
    assert!(!kept.exists());
    server.finish().await;
}
