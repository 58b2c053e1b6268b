//! Handlers as pods see them.

use berth_cri_api::v1::{CgroupDriver, Mount, RuntimeConfigRequest, StatusRequest};

use crate::client::{pod, shell, until};
use crate::server::{Server, handlers};

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_cannot_run_is_refused_by_name() {
    let text = "default_handler = \"runc\"\n[handlers.runc]\n[handlers.kata]\nkind = \"shim\"\nbinary = \"containerd-shim-kata-v2\"\n";
    let mut server = Server::start_with(handlers(text)).await;
    let config = pod(&server, "refused");
    let error = server.try_run(&config, "kata").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition);
    assert!(
        error.message().contains("\"kata\"") && error.message().contains("config.toml:3"),
        "{error}"
    );
    let error = server.try_run(&config, "nope").await.unwrap_err();
    assert!(error.message().contains("\"nope\""), "{error}");
    let status = server
        .client
        .status(StatusRequest { verbose: true })
        .await
        .unwrap()
        .into_inner();
    let names: Vec<&str> = status
        .runtime_handlers
        .iter()
        .map(|handler| handler.name.as_str())
        .collect();
    assert_eq!(names, ["", "runc"]);
    assert!(
        status
            .status
            .unwrap()
            .conditions
            .iter()
            .all(|condition| condition.status)
    );
    let info: serde_json::Value = serde_json::from_str(&status.info["handlers"]).unwrap();
    assert_eq!(info["default"], "runc");
    assert!(
        info["handlers"]["kata"]["error"]
            .as_str()
            .unwrap()
            .contains("containerd-shim-kata-v2")
    );
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_shim_runs_pods() {
    let text = "[handlers.stranger]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\nruntime_binary = \"runc\"\n";
    let mut server = Server::start_with(handlers(text)).await;
    let config = pod(&server, "stranger");
    let id = server.run(&config, "stranger").await;
    let container = server
        .launch(&id, &config, shell("c", "echo from a stranger; exit 3"))
        .await;
    assert_eq!(server.ended(&container).await.exit_code, 3);
    assert_eq!(server.log(&config, "c"), "from a stranger\n");
    server.finish().await;
}

/// Read-only is not read-only all the way down, unless that is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn mounts_below_a_read_only_one_stay_writable_under_a_third_party_shim() {
    let text = "[handlers.stranger]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\nruntime_binary = \"runc\"\n";
    let mut server = Server::start_with(handlers(text)).await;
    let config = pod(&server, "below");
    let id = server.run(&config, "stranger").await;
    let volume = server.path().join("volume");
    let below = volume.join("below");
    std::fs::create_dir_all(&below).unwrap();
    let (tmpfs, flags) = (Some("tmpfs"), nix::mount::MsFlags::empty());
    nix::mount::mount(tmpfs, &below, tmpfs, flags, None::<&str>).unwrap();
    let mount = |path: &str, recursive| Mount {
        container_path: path.to_owned(),
        host_path: volume.to_string_lossy().into_owned(),
        readonly: true,
        recursive_read_only: recursive,
        ..Mount::default()
    };
    let mut container = shell("c", "sleep 1000");
    container.mounts = vec![mount("/plain", false), mount("/whole", true)];
    let container = server.launch(&id, &config, container).await;
    for (script, wanted) in [
        ("touch /plain/x", "Read-only"),
        ("touch /plain/below/x", ""),
        ("touch /whole/below/y", "Read-only"),
    ] {
        let (code, text) = server.try_exec(&container, script, 30).await.unwrap();
        assert_eq!(code == 0, wanted.is_empty(), "{script}: {text}");
        assert!(text.contains(wanted), "{script}: {text}");
    }
    assert!(below.join("x").exists() && !below.join("y").exists());
    nix::mount::umount2(&below, nix::mount::MntFlags::MNT_DETACH).unwrap();
    server.finish().await;
}

/// As under containerd: the machine's own name, in the kernel, in the file and in the environment.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_a_hostname_has_the_machines() {
    let text = "[handlers.runc]\n[handlers.runsc]\n[handlers.stranger]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\nruntime_binary = \"runc\"\n";
    let mut server = Server::start_with(handlers(text)).await;
    let own = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for handler in ["runc", "runsc", "stranger"] {
        let mut config = pod(&server, handler);
        config.hostname = String::new();
        let id = server.run(&config, handler).await;
        let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;
        let names = server
            .exec(&container, "hostname; cat /etc/hostname; echo $HOSTNAME")
            .await;
        assert_eq!(names, format!("{own}\n{own}\n{own}\n"), "{handler}");
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_changes_the_table_and_no_pod() {
    let text = "[handlers.runc]\n[handlers.other]\nbinary = \"runc\"\n";
    let mut server = Server::start_with(handlers(text)).await;
    let config = pod(&server, "reload");
    let id = server.run(&config, "other").await;
    let path = server.path().join("config.toml");

    std::fs::write(
        &path,
        "[handlers.runc]\n[handlers.new]\nbinary = \"crun\"\n",
    )
    .unwrap();
    names_become(&mut server, &["", "new", "runc"]).await;
    let container = server.launch(&id, &config, shell("c", "exit 4")).await;
    assert_eq!(server.ended(&container).await.exit_code, 4);
    let late = pod(&server, "late");
    server.try_run(&late, "other").await.unwrap_err();

    // A file that is no good changes nothing; a good one after it does.
    std::fs::write(&path, "default_handler = \"none\"\n[handlers.bad]\n").unwrap();
    std::fs::write(path.with_extension("tmp"), "[handlers.runc]\n").unwrap();
    // Longer than the server takes to look.
    let end = std::time::Instant::now() + std::time::Duration::from_millis(2500);
    while std::time::Instant::now() < end {
        assert_eq!(names(&mut server).await, ["", "new", "runc"]);
    }
    std::fs::rename(path.with_extension("tmp"), &path).unwrap();
    names_become(&mut server, &["", "runc"]).await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubelet_is_told_who_makes_cgroups() {
    let text = "default_handler = \"sd\"\n[handlers.sd]\nbinary = \"runc\"\nsystemd_cgroup = true\n[handlers.runc]\n";
    let mut server = Server::start_with(handlers(text)).await;
    let answer = server.client.runtime_config(RuntimeConfigRequest {}).await;
    let linux = answer.unwrap().into_inner().linux.unwrap();
    assert_eq!(linux.cgroup_driver(), CgroupDriver::Systemd);
    let mut config = pod(&server, "slice");
    config.linux.as_mut().unwrap().cgroup_parent = "/kubepods/pod1".to_owned();
    let error = server.try_run(&config, "sd").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("no slice"), "{error}");
    server.finish().await;
    let mut server = Server::start().await;
    let answer = server.client.runtime_config(RuntimeConfigRequest {}).await;
    let linux = answer.unwrap().into_inner().linux.unwrap();
    assert_eq!(linux.cgroup_driver(), CgroupDriver::Cgroupfs);
    server.finish().await;
}

async fn names(server: &mut Server) -> Vec<String> {
    let request = StatusRequest { verbose: false };
    let status = server.client.status(request).await.unwrap().into_inner();
    status
        .runtime_handlers
        .into_iter()
        .map(|handler| handler.name)
        .collect()
}

async fn names_become(server: &mut Server, wanted: &[&str]) {
    until("new table of handlers", async || {
        match names(server).await {
            names if names == wanted => Ok(()),
            names => Err(format!("{names:?} are not {wanted:?}")),
        }
    })
    .await;
}

/// A gVisor's network stack and platform are found by running it; one that can't run says why.
#[test]
fn gvisors_are_tried_out() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("runsc-broken");
    let script = "#!/bin/sh\n\
        log=${2#--log=}\n\
        case $1 in --version) echo runsc version 1;; flags) ;;\n\
        *) echo '{\"msg\":\"no such luck\"}' > $log; exit 128;; esac\n";
    std::fs::write(&broken, script).unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("config.toml");
    let text = format!(
        "default_handler = \"runc\"\n[handlers.runc]\n[handlers.runsc]\n\
         [handlers.fixed]\nbinary = \"runsc\"\nargs = [\"--network=host\"]\n\
         [handlers.broken]\nbinary = {broken:?}\n"
    );
    std::fs::write(&file, text).unwrap();
    let table = berth_cri::HandlerSource::Berth(file).load(&[]).unwrap();
    assert!(table.find("broken").is_ok(), "not tried out yet");
    table.try_out();
    let error = table.find("broken").unwrap_err().to_string();
    assert!(error.contains("no such luck"), "{error}");
    let text = table.render();
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(
        line("runsc ").contains("network=sandbox,platform="),
        "{text}"
    );
    assert!(line("fixed ").contains("network=host,platform="), "{text}");
    assert!(!line("runc ").contains("network="), "{text}");
}
