//! What local users, pods and clients of other makes must not get, or must.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use berth_cri_api::v1::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tonic::Code;

use crate::client::{pod, security, shell};
use crate::server::Server;

/// A user without any right.
const NOBODY: u32 = 65_534;

fn mode(path: &Path) -> u32 {
    let found = path.symlink_metadata();
    found
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .mode()
        & 0o7777
}

/// Whether a local user, in these groups, gets something out of a command.
fn nobody_can(gid: u32, words: &[&str]) -> bool {
    Command::new(words[0])
        .args(&words[1..])
        .uid(NOBODY)
        .gid(gid)
        .output()
        // What can't even be executed is refused as well.
        .is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn local_users_see_nothing_of_a_pod() {
    let mut server = Server::start().await;
    std::fs::set_permissions(server.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for handler in ["runc", "crun", "berth", "runsc"] {
        let config = pod(&server, handler);
        let id = server.run(&config, handler).await;
        let mut container = shell("c", "echo up; exec sleep 1000");
        container.envs = vec![KeyValue {
            key: "TOKEN".to_owned(),
            value: b"secret".to_vec(),
        }];
        let container = server.launch(&id, &config, container).await;
        server.speaks(&config, "c").await;
        let state = server.path().join("r/cri");
        let bundle = server.bundle(&container);
        for (path, wanted) in [
            (bundle.clone(), 0o700),
            (bundle.join("config.json"), 0o600),
            (bundle.join("runtime.json"), 0o600),
            (server.bundle(&id), 0o700),
            (server.bundle(&id).join("config.json"), 0o600),
            (state.join("pods").join(&id), 0o700),
            (state.join("runtime"), 0o700),
            (state.join("s"), 0o700),
            (server.path().join("d/cri/images"), 0o700),
            (server.path().join("d/cri/sandboxes"), 0o700),
            (
                server
                    .path()
                    .join("d/cri/sandboxes")
                    .join(&id)
                    .join("record.json"),
                0o600,
            ),
            (
                server.path().join("d/cri/containers").join(&container),
                0o700,
            ),
            (server.path().join("r/cri.sock"), 0o600),
        ] {
            assert_eq!(mode(&path), wanted, "{handler}: {}", path.display());
        }
        for socket in std::fs::read_dir(state.join("s")).unwrap() {
            let path = socket.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let rootfs = text(&bundle.join("rootfs/bin/busybox"));
        // With the means to see it, so that the refusals say something.
        assert!(
            Command::new(&rootfs)
                .arg("true")
                .output()
                .unwrap()
                .status
                .success()
        );
        assert!(!nobody_can(NOBODY, &[&rootfs, "true"]), "{handler}");
        assert!(!nobody_can(
            NOBODY,
            &["cat", &text(&bundle.join("config.json"))]
        ));
        assert!(!nobody_can(
            NOBODY,
            &["ls", &text(&state.join("pods").join(&id))]
        ));
        // While programs of the image may still change the user inside: the mount has no nosuid there.
        if handler != "runsc" {
            let root = server
                .exec(
                    &container,
                    "grep ' / / ' /proc/self/mountinfo || cat /proc/self/mountinfo",
                )
                .await;
            let root = root
                .lines()
                .find(|line| line.split(' ').nth(4) == Some("/"));
            assert!(!root.unwrap().contains("nosuid"), "{handler}: {root:?}");
        }
    }
    // What an older version left open is closed by the next start.
    let pods = server.path().join("r/cri/pods");
    let bundles = server.path().join("r/cri/bundles");
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    server.stop().await;
    let mut opened = Vec::new();
    for entry in [&pods, &bundles]
        .into_iter()
        .flat_map(|dir| std::fs::read_dir(dir).unwrap())
    {
        let path = entry.unwrap().path();
        open(&path, 0o755);
        let spec = path.join("config.json");
        if spec.exists() {
            open(&spec, 0o644);
            opened.push((spec, 0o600));
        }
        opened.push((path, 0o700));
    }
    open(&pods, 0o755);
    opened.push((pods, 0o711));
    server.resume().await;
    for (path, wanted) in opened {
        assert_eq!(mode(&path), wanted, "{}", path.display());
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_own_root_passes_through_a_user_namespace_s_directories() {
    const ROOT: u32 = 1_800_000;
    for handler in ["runc", "crun"] {
        let mut server = Server::start().await;
        std::fs::set_permissions(server.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let mut config = pod(&server, handler);
        let map = vec![IdMapping {
            host_id: ROOT,
            container_id: 0,
            length: 65_536,
        }];
        let linux = config.linux.as_mut().unwrap();
        let options = linux.security_context.as_mut().unwrap();
        options.namespace_options.as_mut().unwrap().userns_options = Some(UserNamespace {
            mode: NamespaceMode::Pod.into(),
            uids: map.clone(),
            gids: map,
        });
        let id = server.run(&config, handler).await;
        let mut container = shell("c", "stty size; echo up; exec sleep 1000");
        // A terminal's socket is the runtime's to reach, whatever the namespace; so are the image's own volumes.
        container.tty = true;
        let container = server.launch(&id, &config, container).await;
        server.speaks(&config, "c").await;
        assert_eq!(server.exec(&container, "cat /data/seed").await, "seed\n");
        let bundle = server.bundle(&container);
        let pods = server.path().join("r/cri/pods").join(&id);
        for dir in [&bundle, &pods] {
            let found = dir.metadata().unwrap();
            let seen = (found.mode() & 0o7777, found.uid(), found.gid());
            assert_eq!(seen, (0o710, 0, ROOT), "{handler}: {}", dir.display());
        }
        assert_eq!(mode(&bundle.join("config.json")), 0o600);
        let config_json = bundle.join("config.json").to_string_lossy().into_owned();
        for gid in [NOBODY, ROOT] {
            assert!(!nobody_can(gid, &["cat", &config_json]), "{handler} {gid}");
        }
        server.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_s_path_leads_nowhere_else() {
    let mut server = Server::start().await;
    let config = pod(&server, "log");
    let id = server.run(&config, "runc").await;
    let logs = Path::new(&config.log_directory);
    std::fs::create_dir_all(logs).unwrap();
    let outside = server.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("cron"), "kept\n").unwrap();
    symlink(outside.join("cron"), logs.join("file.log")).unwrap();
    symlink(&outside, logs.join("dir")).unwrap();
    for (name, path) in [("file", "file.log"), ("dir", "dir/new.log")] {
        let mut container = shell(name, "echo '* * * * * root id'");
        container.log_path = path.to_owned();
        let container = server.try_create(&id, &config, container).await.unwrap();
        let error = server.start_container(&container).await.unwrap_err();
        assert!(error.message().contains("symbolic link"), "{error}");
    }
    for path in ["../other.log", "/etc/cron.d/x", "a/../../b.log"] {
        let mut container = shell("up", "true");
        container.log_path = path.to_owned();
        let error = server
            .try_create(&id, &config, container)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
    assert_eq!(
        std::fs::read_to_string(outside.join("cron")).unwrap(),
        "kept\n"
    );
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privileged_container_is_judged_by_the_request() {
    let mut server = Server::start().await;
    let config = pod(&server, "plain");
    let id = server.run(&config, "runc").await;
    let mut debug = shell("debug", "true");
    security(&mut debug).privileged = true;
    // The pod as it was made has none.
    let error = server
        .try_create(&id, &config, debug.clone())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    // `kubectl debug --profile=sysadmin`: by now it has.
    let mut now = config.clone();
    let linux = now.linux.as_mut().unwrap();
    linux.security_context.as_mut().unwrap().privileged = true;
    server.try_create(&id, &now, debug).await.unwrap();
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_is_refused() {
    let mut server = Server::start().await;
    let mut config = pod(&server, "newer");
    let change = |config: &mut PodSandboxConfig, pid| {
        let linux = config.linux.as_mut().unwrap();
        let security = linux.security_context.as_mut().unwrap();
        security.namespace_options.as_mut().unwrap().pid = pid;
    };
    change(&mut config, 97);
    let error = server.try_run(&config, "runc").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    change(&mut config, NamespaceMode::Container.into());
    let id = server.run(&config, "runc").await;
    let mut container = shell("c", "true");
    security(&mut container).seccomp = Some(SecurityProfile {
        profile_type: 97,
        ..SecurityProfile::default()
    });
    let error = server
        .try_create(&id, &config, container)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_costs_nobody_anything() {
    let mut server = Server::start().await;
    let config = pod(&server, "torn");
    let id = server.run(&config, "runc").await;
    let container = server
        .launch(&id, &config, shell("c", "echo up; exec sleep 1000"))
        .await;
    server.speaks(&config, "c").await;
    let pid = server.pid(&container).await;
    let folder = server.path().join("d/cri/sandboxes").join(&id);
    let (record, aside) = (
        folder.join("record.json"),
        folder.join("record.json.unreadable"),
    );
    server.stop().await;
    let whole = std::fs::read(&record).unwrap();
    std::fs::write(&record, &whole[..whole.len() / 2]).unwrap();
    // The second start finds it aside.
    for _ in 0..2 {
        server.resume().await;
        assert!(aside.exists() && !record.exists());
        let lives = Path::new("/proc").join(pid.to_string()).exists();
        assert!(
            lives
                && server
                    .bundle(&container)
                    .join("rootfs/bin/busybox")
                    .exists()
        );
        let state = server.container(&container).await.state();
        assert_eq!(state, ContainerState::ContainerUnknown);
        // It is listed as what it is, left as it is, and not made once more.
        let listed = server.client.list_pod_sandbox(ListPodSandboxRequest {
            filter: Some(PodSandboxFilter {
                label_selector: [("io.kubernetes.pod.uid".to_owned(), "uid-torn".to_owned())]
                    .into(),
                ..PodSandboxFilter::default()
            }),
        });
        let listed = listed.await.unwrap().into_inner().items;
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0].id, id);
        assert_eq!(listed[0].state(), PodSandboxState::SandboxNotready);
        let metadata = listed[0].metadata.clone().unwrap();
        assert_eq!(
            (metadata.name.as_str(), metadata.namespace.as_str()),
            ("torn", "test")
        );
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.clone(),
            verbose: true,
        };
        let status = server.client.pod_sandbox_status(request).await.unwrap();
        let status = status.into_inner().status.unwrap();
        assert_eq!(status.metadata, Some(metadata));
        let mut again = config.clone();
        again.metadata.as_mut().unwrap().attempt = 1;
        let pod_sandbox_id = id.clone();
        let stop = StopPodSandboxRequest { pod_sandbox_id };
        let pod_sandbox_id = id.clone();
        let remove = RemovePodSandboxRequest { pod_sandbox_id };
        for error in [
            server.try_run(&again, "runc").await.unwrap_err(),
            server.client.stop_pod_sandbox(stop).await.unwrap_err(),
            server.client.remove_pod_sandbox(remove).await.unwrap_err(),
        ] {
            assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
            assert!(
                error.message().contains("record.json.unreadable"),
                "{error}"
            );
        }
        let request = StatusRequest { verbose: true };
        let status = server.client.status(request).await.unwrap().into_inner();
        assert!(
            status.info["unreadableRecords"].contains(&id),
            "{:?}",
            status.info
        );
        server.stop().await;
    }
    // A newer server's record is not for us to touch.
    let newer = String::from_utf8(whole.clone()).unwrap();
    std::fs::remove_file(&aside).unwrap();
    std::fs::write(&record, newer.replace("\"version\":1", "\"version\":2")).unwrap();
    let refused = server.refuses().await;
    assert!(refused.contains("newer berth"), "{refused}");
    assert!(record.exists());
    // Repaired, all is as it was.
    std::fs::write(&record, &whole).unwrap();
    server.resume().await;
    assert_eq!(server.exec(&container, "echo on").await, "on\n");
    // A container's record: the pod goes on, and ends it with itself.
    let record = server
        .path()
        .join("d/cri/containers")
        .join(&container)
        .join("record.json");
    server.stop().await;
    std::fs::write(&record, "").unwrap();
    server.resume().await;
    assert!(Path::new("/proc").join(pid.to_string()).exists());
    let mut again = shell("c", "true");
    again.metadata.as_mut().unwrap().attempt = 1;
    let error = server.try_create(&id, &config, again).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    server.stop_pod(&id).await;
    crate::client::until("the end of the process", async || {
        match Path::new("/proc").join(pid.to_string()).exists() {
            true => Err(format!("{pid} lives")),
            false => Ok(()),
        }
    })
    .await;
    // Whoever has looked removes what is left of it, and the next server the rest.
    std::fs::remove_dir_all(record.parent().unwrap()).unwrap();
    server.stop().await;
    server.resume().await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_keep_streams_out() {
    let mut server = Server::start().await;
    let config = pod(&server, "idle");
    let id = server.run(&config, "runc").await;
    let container = server
        .launch(&id, &config, shell("c", "echo up; exec sleep 1000"))
        .await;
    let request = ExecRequest {
        container_id: container,
        cmd: vec!["echo".to_owned(), "through".to_owned()],
        stdout: true,
        ..ExecRequest::default()
    };
    let url = server.client.exec(request).await.unwrap().into_inner().url;
    let address = url.split('/').nth(2).unwrap().to_owned();
    let mut idle = Vec::new();
    for number in 0..300 {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        if number % 2 == 0 {
            // A head that never ends.
            socket
                .write_all(b"GET /exec/x HTTP/1.1\r\nhost: x\r\n")
                .await
                .unwrap();
        }
        idle.push(socket);
    }
    // All of them are sent away, and what waits behind them gets its turn within the token's minute.
    let through = async {
        let mut socket = crate::streams::websocket(&url, "v5.channel.k8s.io").await;
        let mut seen = Vec::new();
        while let Some(Ok(message)) = futures::StreamExt::next(&mut socket).await {
            seen.extend(message.into_data());
        }
        seen
    };
    let seen = tokio::time::timeout(Duration::from_secs(45), through)
        .await
        .unwrap();
    assert!(
        String::from_utf8_lossy(&seen).contains("through"),
        "{seen:?}"
    );
    for socket in &mut idle {
        let left = tokio::time::timeout(Duration::from_secs(45), async {
            let mut rest = Vec::new();
            // A reset is as good.
            let _ = socket.read_to_end(&mut rest).await;
        });
        left.await.expect("an idle connection is closed");
    }
    server.finish().await;
}

/// A connection as gRPC's C core makes it: by hand, since no client here would send such an authority.
struct Raw(UnixStream);

impl Raw {
    async fn send(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [
            length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
        ];
        self.0
            .write_all(&[&head[..], payload].concat())
            .await
            .unwrap();
    }

    /// Sends `Version` with a block of headers and reads until its stream ends; gives the message.
    async fn version(&mut self, stream: u8, block: &[u8]) -> Vec<u8> {
        self.send(1, 4, stream, block).await;
        self.send(0, 1, stream, &[0; 5]).await;
        let mut message = Vec::new();
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.unwrap();
            match (head[3], head[8]) {
                (3, _) => panic!("RST_STREAM {payload:?}"),
                (7, _) => panic!("GOAWAY {payload:?}"),
                (0, from) if from == stream => message.extend(payload),
                (1, from) if from == stream && head[4] & 1 != 0 => return message,
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_s_path_may_be_the_authority() {
    let server = Server::start().await;
    let socket = server.path().join("r/cri.sock");
    let path = socket.to_string_lossy().into_owned();
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    for authority in [
        path.replace('/', "%2F"),
        path.clone(),
        format!("unix:{path}"),
    ] {
        // As C core writes it, name and value in plain, and as others do, by the static table.
        for name in [[&[0x40][..], &text(":authority")].concat(), vec![0x41]] {
            let mut raw = Raw(UnixStream::connect(&socket).await.unwrap());
            raw.0
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                .await
                .unwrap();
            raw.send(4, 0, 0, &[]).await;
            let first = [
                &[0x83, 0x86, 0x44][..],
                &text("/runtime.v1.RuntimeService/Version"),
                &name,
                &text(&authority),
                &[0x5f],
                &text("application/grpc"),
                &[0x40],
                &text("te"),
                &text("trailers"),
            ]
            .concat();
            let answer = raw.version(1, &first).await;
            let said = String::from_utf8_lossy(&answer).into_owned();
            assert!(said.contains("berth"), "{authority}: {said:?}");
            // From the second on all of them stand in the table: te, content-type, authority, path.
            let second = [0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe];
            assert_eq!(raw.version(3, &second).await, answer, "{authority}");
        }
    }
    server.finish().await;
}
