//! Root file systems that another's shim mounts, here containerd's.

use std::path::{Path, PathBuf};

use berth_cri_api::v1::*;

use crate::client::{pod, security, shell};
use crate::image;
use crate::server::{Server, handlers};

const HANDLERS: &str = "[handlers.runc]\n[handlers.shim]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\nruntime_binary = \"runc\"\n";

const MANY: &str = "localhost/many-layers:1";

/// The lines of the mount table that name this.
fn mounts(wanted: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let wanted = wanted.to_string_lossy().into_owned();
    let lines = table.lines().filter(|line| line.contains(&wanted));
    lines.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn berth_mounts_nothing_for_another_s_shim_and_reads_the_image_all_the_same() {
    let mut server = Server::start_with(handlers(HANDLERS)).await;
    let config = pod(&server, "shim");
    let id = server.run(&config, "shim").await;
    // A user by name, and a volume that is filled from the image, are read from the image before anybody mounts it.
    let mut container = shell("c", "id -u; id -G; touch /tmp/x || echo no");
    container.command[2].push_str("; exec sleep 1000");
    security(&mut container).run_as_username = "web".to_owned();
    let container = server.try_create(&id, &config, container).await.unwrap();
    let bundle = server.bundle(&container);
    assert_eq!(mounts(&bundle), [""; 0]);
    server.start_container(&container).await.unwrap();
    let [mounted] = &mounts(&bundle.join("rootfs"))[..] else {
        panic!("{:?}", mounts(&bundle))
    };
    assert!(
        mounted.contains(" - overlay overlay ") && mounted.contains("upperdir="),
        "{mounted}"
    );
    crate::client::until("the container's lines", async || {
        match server.log(&config, "c") {
            // What touch says of it comes by another pipe, at any point.
            log if log.contains("33\n34 500\n") && log.contains("no\n") => Ok(()),
            log => Err(log),
        }
    })
    .await;
    // What it writes is in its writable layer, and counted.
    let root = shell("root", "echo text > /root/mine; exec sleep 1000");
    let root = server.launch(&id, &config, root).await;
    let seen = server.exec(&root, "cat /root/mine /data/seed").await;
    assert_eq!(seen, "text\nseed\n");
    let request = ContainerStatsRequest {
        container_id: root.clone(),
    };
    let stats = server.client.container_stats(request).await.unwrap();
    let layer = stats.into_inner().stats.unwrap().writable_layer.unwrap();
    assert!(layer.inodes_used.unwrap().value > 1);
    // A killed server's successor finds them, and gives all back.
    server.kill().await;
    server.resume().await;
    assert_eq!(server.exec(&root, "cat /root/mine").await, "text\n");
    server.finish().await;
}

async fn many_layers(handler: &str, count: usize) {
    let mut server = Server::start_with(handlers(HANDLERS)).await;
    let archive = image::of_layers(server.path(), MANY, count);
    server.import(&archive).await;
    let config = pod(&server, "many");
    let id = server.run(&config, handler).await;
    let mut container = shell("c", "exec sleep 1000");
    container.image.as_mut().unwrap().image = MANY.to_owned();
    let container = server.launch(&id, &config, container).await;
    let seen = server
        .exec(&container, "cat /number; ls / | grep -c layer-")
        .await;
    assert_eq!(seen, format!("{count}\n{}\n", count - 1));
    let links = server.path().join("r/cri/l");
    let named = std::fs::read_dir(links).unwrap().count();
    assert_eq!(named, if handler == "shim" { count } else { 0 });
    server.finish().await;
}

/// More than one page of mount options holds, in the image store's own names.
#[tokio::test(flavor = "multi_thread")]
async fn images_of_many_layers_run_under_containerd_s_shim() {
    many_layers("shim", 120).await;
}

/// As many as overlayfs takes. The names don't fit in any form but relative to their directory.
#[tokio::test(flavor = "multi_thread")]
async fn images_of_as_many_layers_as_there_can_be_run_under_containerd_s_shim() {
    many_layers("shim", 499).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_many_layers_run_under_berth_s_shim() {
    many_layers("runc", 499).await;
}

/// An older berth mounted the root file system for every shim, and its records say nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn containers_of_an_older_berth_are_started_and_removed() {
    let mut server = Server::start_with(handlers(HANDLERS)).await;
    let config = pod(&server, "older");
    let id = server.run(&config, "shim").await;
    let container = shell("c", "cat /etc/passwd | head -n 1; exec sleep 1000");
    let container = server.try_create(&id, &config, container).await.unwrap();
    server.stop().await;
    let path = server.path().join("d/cri/containers").join(&container);
    let path = path.join("record.json");
    let text = std::fs::read(&path).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let said = record.as_object_mut().unwrap().remove("rootfs");
    assert_eq!(said, Some(serde_json::json!("Shim")));
    std::fs::write(&path, record.to_string()).unwrap();
    let rootfs: PathBuf = server.bundle(&container).join("rootfs");
    let store = berth_image::ImageStore::open(
        server.path().join("d/cri/images"),
        berth_image::StoreOptions::default(),
    )
    .unwrap();
    store.mount(&container, &rootfs).unwrap();
    drop(store);
    server.resume().await;
    server.start_container(&container).await.unwrap();
    assert_eq!(mounts(&rootfs).len(), 1);
    server.speaks(&config, "c").await;
    assert_eq!(server.log(&config, "c"), "root:x:0:0::/root:/bin/sh\n");
    server.finish().await;
}

/// Images are read without following what they make of it, also where nobody has mounted them.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_image_shows_nothing_of_the_host_to_another_s_shim() {
    for (passwd, wanted) in [
        (image::Passwd::Fifo, "not a regular file"),
        (image::Passwd::Link("/proc/self/root/etc/passwd"), "web"),
        (image::Passwd::Link("../../../../../etc/passwd-"), "web"),
    ] {
        let mut server = Server::start_with(handlers(HANDLERS)).await;
        let archive = image::hostile(server.path(), MANY, &passwd);
        server.import(&archive).await;
        let config = pod(&server, "hostile");
        let id = server.run(&config, "shim").await;
        let mut container = shell("c", "true");
        container.image.as_mut().unwrap().image = MANY.to_owned();
        // Debian's base-passwd has it, the image hasn't.
        security(&mut container).run_as_username = "www-data".to_owned();
        let error = server
            .try_create(&id, &config, container)
            .await
            .unwrap_err();
        let wanted = wanted.replace("web", "\"www-data\" is not in the image's /etc/passwd");
        assert!(error.message().contains(&wanted), "{error}");
        server.finish().await;
    }
}
