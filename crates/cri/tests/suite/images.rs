//! The image service over an imported image.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use berth_cri::HandlerSource;
use berth_cri_api::v1::*;

use crate::client::{pod, shell, until};
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

/// A registry that has nothing; it gives the paths that it was asked for.
fn empty_registry() -> (std::net::SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let (mut text, mut part) = (Vec::new(), [0; 4096]);
            while !text.windows(4).any(|end| end == b"\r\n\r\n") {
                match client.read(&mut part).unwrap_or(0) {
                    0 => break,
                    n => text.extend_from_slice(&part[..n]),
                }
            }
            let text = String::from_utf8_lossy(&text).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _gone = client.write_all(answer.as_bytes());
            if tell.send(path).is_err() {
                return;
            }
        }
    });
    (address, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_are_found_where_the_table_of_handlers_says() {
    let (address, asked) = empty_registry();
    let mut server = Server::start_with(|config, dir| {
        let hosts = dir.join("hosts/registry.invalid");
        std::fs::create_dir_all(&hosts).unwrap();
        let toml = format!("server = \"http://{address}\"\n");
        std::fs::write(hosts.join("hosts.toml"), toml).unwrap();
        let table = dir.join("config.toml");
        std::fs::write(&table, "").unwrap();
        config.handlers = HandlerSource::Berth(table);
    })
    .await;
    let pull = async |server: &mut Server| {
        let request = PullImageRequest {
            image: spec("registry.invalid/a/b:1"),
            ..PullImageRequest::default()
        };
        let refused = server.images.pull_image(request).await.unwrap_err();
        refused.message().to_owned()
    };
    pull(&mut server).await;
    assert!(asked.try_recv().is_err(), "nothing leads there yet");
    // The directory is named while the server runs.
    let (dir, table) = (
        server.path().join("hosts"),
        server.path().join("config.toml"),
    );
    std::fs::write(table, format!("[registry]\nhosts_dirs = [{dir:?}]\n")).unwrap();
    until("a request at the registry", async || {
        let said = pull(&mut server).await;
        match asked.try_recv() {
            Ok(path) => {
                assert!(path.starts_with("/v2/a/b/manifests/1"), "{path}");
                Ok(())
            }
            Err(_) => Err(said),
        }
    })
    .await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_image_name_is_told_as_such() {
    let mut server = Server::start().await;
    for name in ["registry.test/Not_A_Name:1", "a b", "x:y:z", "@sha256:1"] {
        let request = PullImageRequest {
            image: spec(name),
            ..PullImageRequest::default()
        };
        let refused = server.images.pull_image(request).await.unwrap_err();
        // By these words the node's agent knows that trying again is in vain.
        let message = refused.message();
        assert!(
            message.contains("image reference ") && message.contains(" is not valid: "),
            "{name}: {message}"
        );
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{name}");
    }
    server.finish().await;
}
