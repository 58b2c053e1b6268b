//! What third-party shims publish: ends and that memory ran out.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use berth_cri_api::v1::*;
use berth_testkit::wait_for_async;
use containerd_shim_protos::events::task::{TaskExit, TaskOOM};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::EventsClient;
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};
use ttrpc::asynchronous::Client as TtrpcClient;

use crate::daemon::{Daemon, LIMIT};
use crate::kill::{ended, nothing_left};
use crate::leftovers::remove_cgroup;
use crate::strangers::Gate;
use crate::testvm;
use crate::words::{launch, pod, remove, run, shell, status};

/// The socket is there, closed to others, and named to the shim, which would not live without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_insists_on_its_publisher_starts() {
    let mut daemon = Daemon::start(&testvm::handler("")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-publisher-{}", std::process::id());
    let config = pod("publisher", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let socket = daemon.path().join("cri.sock.ttrpc");
    let mode = socket.metadata().expect("a socket").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let starts = testvm::calls(&daemon, "start");
    let start = starts.first().expect("a start");
    assert_eq!(start["TTRPC_ADDRESS"], socket.to_str().expect("UTF-8"));
    // A program that exists and a socket that somebody serves, or nothing.
    let publisher = start["publish_binary"].as_str().expect("a program");
    assert_eq!(publisher, env!("CARGO_BIN_EXE_berth"));
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    assert!(!socket.exists());
    remove_cgroup(&parent);
}

/// A shim whose `Wait` is never answered: its events are all that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_is_published_is_known_at_once() {
    let mut daemon = Daemon::start(&testvm::handler("")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-published-{}", std::process::id());
    let config = pod("published", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    std::fs::write(testvm::dir(&daemon).join("mute"), "").expect("a file");
    let container = shell("end", "sleep 0.2; exit 9");
    let container = launch(&mut client, &id, &config, container)
        .await
        .expect("starts");
    let state = ended(&mut client, &container).await;
    assert_eq!((state.exit_code, state.reason.as_str()), (9, "Error"));
    std::fs::remove_file(testvm::dir(&daemon).join("mute")).expect("the file");
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// Also when it is published while nobody serves: the shim connects again to the same socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_ran_out_in_a_guest_is_the_reason() {
    let mut daemon = Daemon::start(&testvm::handler("")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-guest-oom-{}", std::process::id());
    let config = pod("guest-oom", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let gate = Gate::new(&daemon);
    let mut containers = Vec::new();
    for name in ["before", "away", "fine"] {
        let container = gate.container(name, "exit 137");
        let container = launch(&mut client, &id, &config, container).await;
        containers.push(container.expect("starts"));
    }
    testvm::run_out_of_memory(&daemon, &containers[0]).await;
    daemon.kill();
    testvm::run_out_of_memory(&daemon, &containers[1]).await;
    daemon.launch().await;
    wait_for_async("the event", LIMIT, async || {
        let log = daemon.log();
        let noted = |line: &str| {
            line.contains("a container ran out of memory") && line.contains(&containers[1])
        };
        if log.lines().any(noted) {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    gate.open();
    let mut reasons = Vec::new();
    for container in &containers {
        let state = ended(&mut client, container).await;
        reasons.push((state.exit_code, state.reason));
    }
    let wanted = ["OOMKilled", "OOMKilled", "Error"].map(|reason| (137, reason.to_owned()));
    assert_eq!(reasons, wanted);
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

fn forward(namespace: &str, name: &str, event: &impl Message) -> ForwardRequest {
    let event = Any {
        type_url: format!("containerd.events.{name}"),
        value: event.write_to_bytes().expect("encodes"),
        ..Any::default()
    };
    ForwardRequest {
        envelope: MessageField::some(Envelope {
            namespace: namespace.to_owned(),
            event: MessageField::some(event),
            ..Envelope::default()
        }),
        ..ForwardRequest::default()
    }
}

/// Whoever reaches the socket, be it another pod's shim or a container with the directory mounted, says nothing of
/// containers that it does not run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_s_events_are_ignored() {
    let handlers = format!("[handlers.runc]\n{}", testvm::handler(""));
    let mut daemon = Daemon::start(&handlers).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-forged-{}", std::process::id());
    let socket = daemon.path().join("cri.sock.ttrpc");
    let address = format!("unix://{}", socket.display());
    let forger = EventsClient::new(TtrpcClient::connect(&address).await.expect("root may"));
    let gate = Gate::new(&daemon);
    let mut pods = Vec::new();
    for handler in ["runc", "testvm"] {
        let config = pod(handler, &daemon.path().join("logs"), &parent);
        let id = run(&mut client, &config, handler).await.expect("a pod");
        let container = gate.container("c", "exit 1");
        let container = launch(&mut client, &id, &config, container)
            .await
            .expect("starts");
        for of in [&container, &id, &"0".repeat(64)] {
            let exit = TaskExit {
                container_id: of.clone(),
                id: of.clone(),
                exit_status: 7,
                ..TaskExit::default()
            };
            let oom = TaskOOM {
                container_id: of.clone(),
                ..TaskOOM::default()
            };
            for request in [
                forward("k8s.io", "TaskOOM", &oom),
                forward("k8s.io", "TaskExit", &exit),
            ] {
                let context = ttrpc::context::with_duration(LIMIT);
                forger.forward(context, &request).await.expect("received");
            }
        }
        pods.push((id, container));
    }
    wait_for_async("the refusals", LIMIT, async || {
        let log = daemon.log();
        let of_ours = |line: &&str| {
            line.contains("an event of a shim was ignored")
                && line.contains(&format!("pid={}", std::process::id()))
        };
        let seen = log.lines().filter(of_ours).count();
        // What of one connection is logged has an end.
        if seen == 10 { Ok(()) } else { Err(log) }
    })
    .await;
    let log = daemon.log();
    assert!(log.contains("is not run by the shim that sent it"), "{log}");
    assert!(log.contains(&format!("container {} is not known", "0".repeat(64))));
    for (_, container) in &pods {
        let state = status(&mut client, container).await.expect("a status");
        assert_eq!(state.state(), ContainerState::ContainerRunning);
    }
    gate.open();
    for (id, container) in &pods {
        let state = ended(&mut client, container).await;
        assert_eq!((state.exit_code, state.reason.as_str()), (1, "Error"));
        remove(&mut client, id).await.expect("it can be removed");
    }
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// A shim that can only run a program publishes by ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_publishes_for_its_shim() {
    let daemon = Daemon::start(&testvm::handler("")).await;
    let event = Any {
        type_url: "containerd.events.TaskOOM".to_owned(),
        value: TaskOOM {
            container_id: "nobody".to_owned(),
            ..TaskOOM::default()
        }
        .write_to_bytes()
        .expect("encodes"),
        ..Any::default()
    };
    let run = |address: String| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_berth"));
        command
            .args(["--address", &address, "publish"])
            .args(["--topic", "/tasks/oom", "--namespace", "k8s.io"])
            .env_remove("TTRPC_ADDRESS")
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let bytes = event.write_to_bytes().expect("encodes");
        std::io::Write::write_all(&mut stdin, &bytes).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("it ends")
    };
    let socket = daemon.path().join("cri.sock").display().to_string();
    let output = run(socket.clone());
    assert!(output.status.success(), "{output:?}");
    wait_for_async("the event", LIMIT, async || {
        let log = daemon.log();
        if log.contains("container nobody is not known") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    let output = run(format!("{socket}-nowhere"));
    assert!(!output.status.success(), "{output:?}");
}

/// A command that takes too long ends, and its container goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_takes_too_long_is_ended_alone() {
    let mut daemon = Daemon::start(&testvm::handler("")).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-exec-late-{}", std::process::id());
    let config = pod("exec-late", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let container = shell("last", "exec sleep 10000");
    let container = launch(&mut client, &id, &config, container)
        .await
        .expect("starts");
    let request = |timeout| ExecSyncRequest {
        container_id: container.clone(),
        // More than a pipe holds: what nobody reads would hold the shim up.
        cmd: ["sh", "-c", "head -c 300000 /dev/zero; exec sleep 1000"]
            .map(str::to_owned)
            .to_vec(),
        timeout,
    };
    let late = client.exec_sync(request(1)).await.expect_err("too long");
    assert_eq!(late.code(), tonic::Code::DeadlineExceeded, "{late}");
    // The next one is left behind by a server that is killed.
    let mut other = client.clone();
    let left = request(2);
    tokio::spawn(async move { other.exec_sync(left).await });
    wait_for_async("the command", LIMIT, async || {
        let seen = testvm::calls(&daemon, "Start");
        let seen = seen.iter().filter(|call| call["exec_id"] != "").count();
        if seen == 2 { Ok(()) } else { Err(seen) }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    daemon.kill();
    daemon.launch().await;
    wait_for_async("the end of the commands", LIMIT, async || {
        let seen = testvm::calls(&daemon, "Delete");
        let seen = seen.iter().filter(|call| call["exec_id"] != "").count();
        if seen == 2 { Ok(()) } else { Err(seen) }
    })
    .await;
    let kills = testvm::calls(&daemon, "Kill");
    assert_eq!(kills.len(), 2, "{kills:?}");
    for kill in kills {
        assert_ne!(kill["exec_id"], "");
        assert_eq!(kill["all"], false, "{kill}");
    }
    let state = status(&mut client, &container).await.expect("a status");
    assert_eq!(state.state(), ContainerState::ContainerRunning);
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}
