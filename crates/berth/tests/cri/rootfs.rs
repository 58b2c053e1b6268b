//! Root file systems and volumes of a shim that has a private mount namespace of its own.

use std::process::Command;

use berth_cri_api::v1::*;

use crate::daemon::{Daemon, IMAGE};
use crate::kill::nothing_left;
use crate::leftovers::remove_cgroup;
use crate::testvm;
use crate::words::{exec, launch, pod, remove, run, shell};

fn host_mounts(wanted: &str) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let lines = table.lines().filter(|line| line.contains(wanted));
    lines.map(str::to_owned).collect()
}

/// An image of the demo's layer and so many more, the last of which has `/number`.
fn import_layers(daemon: &Daemon, name: &str, count: usize) {
    let script = r#"set -euo pipefail
        dir=$1 name=$2 count=$3
        mkdir "$dir/many"; cd "$dir/many"
        tar -xf "$dir/image.tar" layer.tar
        mv layer.tar layer1.tar
        for number in $(seq 2 "$count"); do
            echo "$number" >number
            tar -cf "layer$number.tar" number
        done
        ids= names=
        for number in $(seq "$count"); do
            ids+="${ids:+,}\"sha256:$(sha256sum "layer$number.tar" | cut -d' ' -f1)\""
            names+="${names:+,}\"layer$number.tar\""
        done
        arch=$(uname -m); case "$arch" in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; esac
        echo '{"architecture":"'$arch'","os":"linux","config":{"Env":["PATH=/bin"],"Volumes":{"/etc":{}}},"rootfs":{"type":"layers","diff_ids":['"$ids"']}}' >config.json
        echo '[{"Config":"config.json","RepoTags":["'"$name"'"],"Layers":['"$names"']}]' >manifest.json
        tar -cf "$dir/many.tar" manifest.json config.json layer*.tar"#;
    let dir = daemon.path();
    let status = Command::new("bash")
        .args(["-c", script, "bash"])
        .arg(dir)
        .args([name, &count.to_string()])
        .status();
    assert!(status.expect("bash runs").success());
    daemon.import(&dir.join("many.tar"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_of_a_private_namespace_mounts_root_file_systems_and_sees_image_volumes() {
    let mut daemon = Daemon::start(&testvm::handler("")).await;
    import_layers(&daemon, "localhost/many:1", 120);
    let mut client = daemon.client.clone();
    let parent = format!("berth-rootfs-{}", std::process::id());
    let config = pod("rootfs", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let sandbox = &testvm::record(&daemon, &id)["rootfs"][0];
    assert_eq!(
        (&sandbox["type"], &sandbox["options"]),
        (&"bind".into(), &serde_json::json!(["rbind", "rw"]))
    );
    let mut container = shell("last", "exec sleep 10000");
    let image = |name: &str| {
        Some(ImageSpec {
            image: name.to_owned(),
            ..ImageSpec::default()
        })
    };
    container.image = image("localhost/many:1");
    let linux = container.linux.as_mut().expect("linux");
    let security = linux.security_context.as_mut().expect("a context");
    security.run_as_username = "nobody".to_owned();
    container.mounts.push(Mount {
        container_path: "/volume".to_owned(),
        image: image(IMAGE),
        readonly: true,
        ..Mount::default()
    });
    let container = launch(&mut client, &id, &config, container)
        .await
        .expect("starts");
    let rootfs = &testvm::record(&daemon, &container)["rootfs"][0];
    let options: Vec<&str> = rootfs["options"]
        .as_array()
        .expect("options")
        .iter()
        .filter_map(serde_json::Value::as_str)
        .collect();
    assert_eq!(rootfs["type"], "overlay");
    for start in ["lowerdir=", "upperdir=", "workdir="] {
        assert!(options.iter().any(|option| option.starts_with(start)));
    }
    assert!(options.join(",").len() < 4096);
    // Only the shim has mounted it; only what is no root file system is the host's.
    let on_host = host_mounts(&container);
    assert!(
        on_host.iter().all(|line| line.contains("/volumes/0 ")) && on_host.len() == 1,
        "{on_host:?}"
    );
    let seen = exec(
        &mut client,
        &container,
        "cat /number; id -u; head -n 1 /etc/passwd; ls /volume/bin/busybox; mkdir /volume/x 2>/dev/null || echo read-only",
    )
    .await
    .expect("an exec");
    assert_eq!(
        seen,
        "120\n65534\nroot:x:0:0:root:/root:/bin/sh\n/volume/bin/busybox\nread-only\n"
    );
    // A container that goes while its pod stays leaves nothing in the shim's namespace.
    let shim = crate::leftovers::processes(&format!("-id {id} -namespace"));
    let shim = shim[0].split(' ').nth(1).expect("a pid");
    let request = RemoveContainerRequest {
        container_id: container.clone(),
    };
    client.remove_container(request).await.expect("it goes");
    let table = std::fs::read_to_string(format!("/proc/{shim}/mountinfo")).expect("its mounts");
    assert!(!table.contains(&container), "{table}");
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}
