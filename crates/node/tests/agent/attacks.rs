//! What pods and clients may try on a node, each with the least that it takes: files that are not what they seem, more
//! than their share of the disk, specs that this node does not understand, the node's port without the right.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use berth_testkit::wait_for_async;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::port_10250::{API_SERVER, get, port, send, tls};
use super::{LIMIT, POD, World, pod};

const LOGS: &str = "/containerLogs/default/web/c";

/// The most memory that this process ever had, in bytes.
fn memory_peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

/// A pod that runs, and the file for its container's last words.
async fn running(spec: &Value) -> (World, PathBuf) {
    let world = World::started().await;
    world.api.put(POD, pod(spec));
    world.ready().await;
    let file = world.dir.path().join("node/pods/u1/containers/c/0");
    assert!(file.exists());
    (world, file)
}

/// The message that the container's end leaves.
async fn message(world: &World) -> String {
    let id = world.cri.running("c").remove(0);
    world.cri.exit(&id, 1);
    let ended = world
        .until(POD, "the container's end", |p| {
            p["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 1
        })
        .await;
    let state = &ended["status"]["containerStatuses"][0]["state"]["terminated"];
    state["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_termination_log_of_20_gb_costs_a_few_kilobytes() {
    let (world, path) = running(&json!({"restartPolicy": "Never"})).await;
    let file = File::create(path).unwrap();
    file.set_len(20 << 30).unwrap();
    file.write_all_at(b"the end", (20 << 30) - 7).unwrap();
    let before = memory_peak();
    let text = message(&world).await;
    assert!(text.ends_with("the end"), "{}", text.len());
    assert_eq!(text.len(), 4096);
    assert!(memory_peak() - before < 256 << 20);
}

#[tokio::test]
async fn a_fifo_or_a_link_as_termination_log_holds_nothing_up() {
    for fifo in [true, false] {
        let (world, path) = running(&json!({"restartPolicy": "Never"})).await;
        fs::remove_file(&path).unwrap();
        let why = if fifo {
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            "it is not a regular file"
        } else {
            symlink("/dev/zero", &path).unwrap();
            "it is a symbolic link"
        };
        let text = message(&world).await;
        assert!(
            text.starts_with("Error on reading termination log"),
            "{text}"
        );
        assert!(text.ends_with(why), "{text}");
    }
}

#[tokio::test]
async fn a_log_line_of_300_mb_is_not_held_in_memory() {
    let (world, _) = running(&json!({})).await;
    let dir = world.dir.path().join("logs/default_web_u1/c");
    fs::create_dir_all(&dir).unwrap();
    let log = File::create(dir.join("0.log")).unwrap();
    log.write_all_at(b"2026-11-21T22:00:00Z stdout F begin", 0)
        .unwrap();
    log.write_all_at(b"\n2026-11-21T22:00:01Z stdout F last\n", 300 << 20)
        .unwrap();
    let before = memory_peak();
    let tail = format!("{LOGS}?tailLines=1");
    assert_eq!(get(&world, API_SERVER, &tail).await.1, "last\n");
    let two = format!("{LOGS}?tailLines=2&limitBytes=7");
    assert_eq!(get(&world, API_SERVER, &two).await.1, "begin\0\0");
    // All of it, to a reader that takes its time.
    let request = Request::get(LOGS).body(Empty::new()).unwrap();
    let mut body = send(&world, API_SERVER, request).await.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().data_ref().map_or(0, bytes::Bytes::len);
    }
    // The text without the heads of its two entries.
    assert!(bytes > 299 << 20, "{bytes}");
    let grown = memory_peak() - before;
    assert!(grown < 150 << 20, "{grown}");
}

#[tokio::test]
async fn a_log_that_is_a_link_shows_nothing() {
    let (world, _) = running(&json!({})).await;
    let dir = world.dir.path().join("logs/default_web_u1/c");
    fs::create_dir_all(&dir).unwrap();
    symlink("/etc/passwd", dir.join("0.log")).unwrap();
    let (status, text) = get(&world, API_SERVER, LOGS).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        text.ends_with("it is reached through a symbolic link")
            || text.ends_with("it is a symbolic link"),
        "{text}"
    );
    // A directory on the way is no better.
    fs::remove_dir_all(&dir).unwrap();
    let other = world.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("0.log"), "t stdout F secret\n").unwrap();
    symlink(&other, &dir).unwrap();
    let (status, text) = get(&world, API_SERVER, LOGS).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("symbolic link"), "{text}");
}

async fn evicted(world: &World, why: &str) {
    let failed = world.phase("Failed").await;
    assert_eq!(failed["status"]["reason"], "Evicted");
    let message = failed["status"]["message"].as_str().unwrap();
    assert!(message.contains(why), "{message}");
}

#[tokio::test]
async fn an_empty_dir_above_its_limit_ends_the_pod() {
    let volumes = json!([{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]);
    let (world, _) = running(&json!({"volumes": volumes})).await;
    let dir = world
        .dir
        .path()
        .join("node/pods/u1/volumes/kubernetes.io~empty-dir/v");
    // Not by its length, and not by a link to something large.
    File::create(dir.join("sparse"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    symlink("/usr", dir.join("link")).unwrap();
    let data = File::create(dir.join("data")).unwrap();
    data.write_all_at(&vec![1; 3 << 20], 0).unwrap();
    data.sync_all().unwrap();
    evicted(
        &world,
        "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\"",
    )
    .await;
}

#[tokio::test]
async fn a_container_above_its_limit_of_ephemeral_storage_ends_the_pod() {
    let containers = json!([{"name": "c", "image": "busybox:1",
        "resources": {"limits": {"ephemeral-storage": "2Mi"}}}]);
    let (world, _) = running(&json!({"containers": containers})).await;
    world.cri.state.lock().layer_bytes = 3 << 20;
    evicted(&world, "exceeds the total limit of containers 2Mi").await;
}

/// A pod that is refused before anything runs, with the reason in an event.
async fn refused(spec: &Value, why: &str) {
    let world = World::started().await;
    world.api.put(POD, pod(spec));
    world.said(why).await;
    let calls = world.cri.calls();
    let ran = |c: &String| c.starts_with("RunPodSandbox") || c.starts_with("CreateContainer");
    assert!(!calls.iter().any(ran), "{calls:?}");
}

#[tokio::test]
async fn what_is_not_understood_is_refused_and_never_left_out() {
    let seccomp = json!({"securityContext": {"seccompProfile": {"type": "Custom"}}});
    refused(&seccomp, "seccomp profile type \"Custom\" is not known").await;
    let limits = json!([{"name": "c", "image": "busybox:1",
        "resources": {"limits": {"memory": "64MiB"}}}]);
    let limits = json!({"containers": limits});
    refused(
        &limits,
        "resources.limits.memory: \"64MiB\" is not a quantity",
    )
    .await;
    let sysctl = json!([{"name": "kernel.msgmax", "value": "1"}]);
    let sysctl = json!({"securityContext": {"sysctls": sysctl}});
    refused(
        &sysctl,
        "forbidden sysctl: \"kernel.msgmax\" not allowlisted",
    )
    .await;
    let groups = json!({"securityContext": {"supplementalGroupsPolicy": "strict"}});
    refused(&groups, "supplementalGroupsPolicy \"strict\" is not known").await;
}

#[tokio::test]
async fn a_broken_record_of_user_ids_never_gives_a_pod_the_machines() {
    let mut world = World::new().await;
    world.cri.state.lock().user_namespaces = true;
    let dir = world.dir.path().join("node/pods/u1");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("userns"), "{").unwrap();
    world.api.put(POD, pod(&json!({"hostUsers": false})));
    world.start();
    world.said("userns is not understood").await;
    assert!(
        !world
            .cri
            .calls()
            .iter()
            .any(|c| c.starts_with("RunPodSandbox"))
    );
    // Whole again, it is what the sandbox gets.
    let mapping = r#"[{"hostId":131072,"containerId":0,"length":65536}]"#;
    let record = format!(r#"{{"uidMappings":{mapping},"gidMappings":{mapping}}}"#);
    fs::write(dir.join("userns"), record).unwrap();
    world.ready().await;
    let state = world.cri.state.lock();
    let config = &state.sandboxes.values().next().unwrap().config;
    let linux = config.linux.as_ref().unwrap();
    let options = linux
        .security_context
        .as_ref()
        .unwrap()
        .namespace_options
        .as_ref();
    let users = options.unwrap().userns_options.as_ref().unwrap();
    assert_eq!(users.uids[0].host_id, 131_072);
}

#[tokio::test]
async fn who_may_only_read_the_node_runs_nothing_by_any_method() {
    let (world, _) = running(&json!({})).await;
    world.api.allow("get");
    let eve = Some("eve");
    assert_eq!(get(&world, eve, "/pods").await.0, StatusCode::OK);
    let before = world.cri.calls().len();
    for path in [
        "/exec/default/web/c?command=id&output=1",
        "/attach/default/web/c?output=1",
        "/portForward/default/web?port=80",
        "//exec/default/web/c?command=id&output=1",
    ] {
        for method in ["GET", "POST"] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("connection", "Upgrade")
                .header("upgrade", "websocket")
                .body(Empty::new())
                .unwrap();
            let answer = send(&world, eve, request).await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{method} {path}");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            assert!(text.contains("verb=create, resource=nodes"), "{text}");
        }
    }
    assert_eq!(world.cri.calls().len(), before);
    // One question for each verb and subresource; the answers are kept.
    assert_eq!(world.api.reviews(), 2);
    // Without an answer nobody is let in.
    world.api.break_reviews();
    let (status, _) = get(&world, Some("mallory"), "/pods").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_not_kept() {
    let world = World::started().await;
    let address = ("127.0.0.1", port(&world).await);
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut slow = tls(&world, None).await;
    slow.write_all(b"GET /healthz HT").await.unwrap();
    let begun = Instant::now();
    let mut rest = Vec::new();
    let limit = Duration::from_secs(20);
    let end = tokio::time::timeout(limit, silent.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "no TLS handshake, and it is still there");
    let limit = Duration::from_secs(45).saturating_sub(begun.elapsed());
    let end = tokio::time::timeout(limit, slow.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "no headers, and it is still there");
}

#[tokio::test]
async fn those_without_a_certificate_leave_room_for_the_api_server() {
    let world = World::started().await;
    let address = ("127.0.0.1", port(&world).await);
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // From the same address there is none left until they are cut off, after ten seconds.
    wait_for_async("room for a handshake", LIMIT, || async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|e| e.to_string())?;
        let config = world.pki.config(API_SERVER);
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        connector
            .connect(name, stream)
            .await
            .map_err(|e| e.to_string())
    })
    .await;
}

/// A streaming server that takes every stream and leaves it open.
async fn holding() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/exec/token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
            stream.write_all(switch).await.unwrap();
            streams.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn open_streams_count_against_the_bound_on_connections() {
    let (world, _) = running(&json!({})).await;
    world.api.allow("create");
    world.cri.state.lock().stream_url = holding().await;
    let exec = || {
        Request::post("/exec/default/web/c?command=id&output=1")
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .header("authorization", "Bearer eve")
            .body(Empty::<bytes::Bytes>::new())
            .unwrap()
    };
    // As many as clients without a certificate may have.
    let mut open = Vec::new();
    for _ in 0..128 {
        let answer = send(&world, None, exec()).await;
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        open.push(hyper::upgrade::on(answer).await.unwrap());
    }
    let mut next = tls(&world, None).await;
    // It may be gone before it is asked.
    let _ = next
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let mut answer = [0; 12];
    let read = tokio::time::timeout(LIMIT, next.read_exact(&mut answer)).await;
    assert!(read.unwrap().is_err(), "a 129th was let in: {answer:?}");
    // The API server has its certificate and its own places.
    let (status, _) = get(&world, API_SERVER, "/healthz").await;
    assert_eq!(status, StatusCode::OK);
    drop(open);
    wait_for_async("a place that a stream gave back", LIMIT, || async {
        let mut stream = tls(&world, None).await;
        let _ = stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .await;
        let mut answer = [0; 12];
        let read = stream.read_exact(&mut answer).await;
        read.map(drop).map_err(|e| e.to_string())
    })
    .await;
}

#[tokio::test]
async fn an_environment_that_multiplies_itself_is_refused() {
    let reference = |n: usize| format!("$(V{n})").repeat(10);
    let mut variables = vec![json!({"name": "V0", "value": "x".repeat(10)})];
    variables.extend((1..30).map(|n| json!({"name": format!("V{n}"), "value": reference(n - 1)})));
    let world = World::started().await;
    let before = memory_peak();
    world.api.put(
        POD,
        pod(&json!({"containers": [{"name": "c", "image": "busybox:1", "env": variables}]})),
    );
    world.said("once all $(NAME) are expanded").await;
    assert!(memory_peak() - before < 256 << 20);
}

#[tokio::test]
async fn one_key_under_many_paths_fills_neither_memory_nor_disk() {
    let world = World::started().await;
    let map = "/api/v1/namespaces/default/configmaps/big";
    let value = "x".repeat(1 << 20);
    let metadata = json!({"name": "big", "namespace": "default"});
    world
        .api
        .put(map, json!({"metadata": metadata, "data": {"k": value}}));
    let items: Vec<Value> = (0..5000)
        .map(|n| json!({"key": "k", "path": format!("p{n}")}))
        .collect();
    let before = memory_peak();
    let volumes = json!([{"name": "v", "configMap": {"name": "big", "items": items}}]);
    world.api.put(POD, pod(&json!({"volumes": volumes})));
    world.said("have more than 64 MiB together").await;
    assert!(memory_peak() - before < 400 << 20);
    let dir = world
        .dir
        .path()
        .join("node/pods/u1/volumes/kubernetes.io~configmap/v");
    let written = fs::read_dir(dir).map_or(0, Iterator::count);
    assert_eq!(written, 0);
}

#[tokio::test]
async fn a_spec_s_length_is_not_an_event_s_or_a_status_s() {
    let path = format!("../{}", "x".repeat(1 << 20));
    let mounts = json!([{"name": "v", "mountPath": "/m", "subPath": path}]);
    let containers = json!([{"name": "c", "image": "busybox:1", "volumeMounts": mounts}]);
    let volumes = json!([{"name": "v", "emptyDir": {}}]);
    let world = World::started().await;
    let spec = json!({"containers": containers, "volumes": volumes});
    world.api.put(POD, pod(&spec));
    world.said("subPath \"../xxx").await;
    assert!(world.api.events().iter().all(|e| e.len() < 8 << 10));
    let waiting = |p: &Value| {
        let state = &p["status"]["containerStatuses"][0]["state"]["waiting"];
        (state["reason"] == "CreateContainerConfigError").then(|| state["message"].to_string())
    };
    let seen = world
        .until(POD, "the reason in the status", |p| waiting(p).is_some())
        .await;
    assert!(waiting(&seen).unwrap().len() < 8 << 10);
}
