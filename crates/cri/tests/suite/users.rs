//! Pods with a user namespace of their own.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use berth_cri_api::v1::*;
use tonic::Code;

use crate::client::{pod, security, shell, until};
use crate::image;
use crate::server::{Server, handlers};

/// Who root of the pod is on the host.
const ROOT: u32 = 1_700_000;

fn map() -> Vec<IdMapping> {
    vec![IdMapping {
        host_id: ROOT,
        container_id: 0,
        length: 65536,
    }]
}

fn with_users(server: &Server, name: &str) -> PodSandboxConfig {
    let mut config = pod(server, name);
    let linux = config.linux.as_mut().unwrap();
    let options = linux
        .security_context
        .as_mut()
        .and_then(|security| security.namespace_options.as_mut());
    options.unwrap().userns_options = Some(UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: map(),
        gids: map(),
    });
    config
}

async fn root_is_nobody_special(handler: &str) {
    let mut server = Server::start_with(handlers(
        "[handlers.runc]\n[handlers.crun]\n[handlers.shim]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\n\
         runtime_binary = \"runc\"\n",
    ))
    .await;
    // The pod's root has to get to its files.
    std::fs::set_permissions(server.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let mut config = with_users(&server, "users");
    let linux = config.linux.as_mut().unwrap();
    linux.sysctls.insert(
        "net.ipv4.ip_unprivileged_port_start".to_owned(),
        "7".to_owned(),
    );
    let id = server.run(&config, handler).await;
    let data = server.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("given"), "given\n").unwrap();
    std::fs::set_permissions(data.join("given"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut container = shell(
        "c",
        "echo to stdout; echo anew > /dev/stdout; exec sleep 1000",
    );
    container.mounts = vec![
        Mount {
            container_path: "/data".to_owned(),
            host_path: data.to_string_lossy().into_owned(),
            uid_mappings: map(),
            gid_mappings: map(),
            ..Mount::default()
        },
        Mount {
            container_path: "/volume".to_owned(),
            image: Some(ImageSpec {
                image: image::NAME.to_owned(),
                ..ImageSpec::default()
            }),
            readonly: true,
            ..Mount::default()
        },
    ];
    let container = server.launch(&id, &config, container).await;
    let maps = server.exec(&container, "cat /proc/self/uid_map").await;
    let maps: Vec<&str> = maps.split_whitespace().collect();
    assert_eq!(maps, ["0", "1700000", "65536"]);
    // Root of the image, of volumes and of what it makes itself, but not of the host.
    let seen = server
        .exec(
            &container,
            "id -u; cat /data/given; touch /root/mine /data/mine /dev/shm/mine; \
             ls -ln /bin/busybox /root/mine /data/given /volume/etc/passwd | while read a b uid rest; do echo $uid; done; \
             cat /etc/hostname; ls /sys/class/net; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
             echo x > /proc/sysrq-trigger || echo barred",
        )
        .await;
    let lines: Vec<&str> = seen
        .lines()
        .filter(|line| !line.starts_with("sh:"))
        .collect();
    assert_eq!(
        lines,
        [
            "0",
            "given",
            "0",
            "0",
            "0",
            "0",
            "host-users",
            "eth0",
            "lo",
            "7",
            "barred"
        ],
        "{seen}"
    );
    assert_eq!(std::fs::metadata(data.join("mine")).unwrap().uid(), 0);
    let status = ContainerStatusRequest {
        container_id: container.clone(),
        verbose: true,
    };
    let status = server
        .client
        .container_status(status)
        .await
        .unwrap()
        .into_inner();
    let info: serde_json::Value = serde_json::from_str(&status.info["info"]).unwrap();
    let process = std::fs::metadata(format!("/proc/{}", info["pid"])).unwrap();
    assert_eq!(process.uid(), ROOT);
    until("log with both lines", async || {
        match server.log(&config, "c") {
            log if log == "to stdout\nanew\n" => Ok(()),
            // This shim's pipes are root's unless it is told otherwise: they can be written to, but not opened anew. What
            // the shell says of that comes by another pipe, before or after.
            log if handler == "shim" && log.contains("to stdout\n") => Ok(()),
            log => Err(log),
        }
    })
    .await;
    // It lives through a restart, as others do.
    server.stop().await;
    server.resume().await;
    assert_eq!(server.exec(&container, "id -u").await, "0\n");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_share_pids_under_other_users() {
    for handler in ["runc", "crun"] {
        let mut server = Server::start().await;
        std::fs::set_permissions(server.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let mut config = with_users(&server, "shared");
        let linux = config.linux.as_mut().unwrap();
        let options = linux.security_context.as_mut().unwrap();
        let options = options.namespace_options.as_mut().unwrap();
        options.pid = NamespaceMode::Pod.into();
        let given = Some(options.clone());
        let id = server.run(&config, handler).await;
        let mut container = shell("c", "exec sleep 1000");
        security(&mut container).namespace_options = given;
        let container = server.launch(&id, &config, container).await;
        let first = server.exec(&container, "cat /proc/1/comm; id -u").await;
        assert!(!first.contains("sleep"), "{handler}: {first}");
        server.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn root_under_runc_is_nobody_special() {
    root_is_nobody_special("runc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_under_crun_is_nobody_special() {
    root_is_nobody_special("crun").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_under_containerd_s_shim_is_nobody_special() {
    root_is_nobody_special("shim").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_with_a_user_namespace_is_refused() {
    let mut server = Server::start().await;
    std::fs::set_permissions(server.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let status = server
        .client
        .status(StatusRequest::default())
        .await
        .unwrap()
        .into_inner();
    for handler in &status.runtime_handlers {
        let can = handler.features.as_ref().unwrap().user_namespaces;
        match handler.name.as_str() {
            "runc" | "crun" => assert!(can, "{}", handler.name),
            "runsc" => assert!(!can),
            _ => {}
        }
    }
    let config = with_users(&server, "refused");
    let error = server.try_run(&config, "runsc").await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(error.message().contains("\"runsc\""), "{error}");
    type Change = fn(&mut NamespaceOption);
    let changes: [(&str, Change); 4] = [
        ("network", |options| {
            options.network = NamespaceMode::Node.into()
        }),
        ("pid", |options| options.pid = NamespaceMode::Node.into()),
        ("ipc", |options| options.ipc = NamespaceMode::Node.into()),
        ("gids", |options| {
            options.userns_options.as_mut().unwrap().gids[0].container_id = 1;
        }),
    ];
    for (what, change) in changes {
        let mut config = config.clone();
        let security = config.linux.as_mut().unwrap().security_context.as_mut();
        change(security.unwrap().namespace_options.as_mut().unwrap());
        let error = server.try_run(&config, "runc").await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{what}: {error}");
        assert!(error.message().contains(what), "{what}: {error}");
    }
    // A volume to be mapped in a pod that has the host's users.
    let plain = pod(&server, "plain");
    let id = server.run(&plain, "runc").await;
    let mut container = shell("c", "true");
    container.mounts = vec![Mount {
        container_path: "/data".to_owned(),
        host_path: "/tmp".to_owned(),
        uid_mappings: map(),
        gid_mappings: map(),
        ..Mount::default()
    }];
    let error = server.try_create(&id, &plain, container).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    std::fs::set_permissions(server.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let error = server.try_run(&config, "runc").await.unwrap_err();
    assert!(error.message().contains("chmod o+x"), "{error}");
    server.finish().await;
}
