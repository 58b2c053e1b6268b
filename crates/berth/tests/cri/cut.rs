//! A start that a kill cuts short: a container of which no process has run may be started, and is started once.

use std::os::unix::fs::PermissionsExt;

use berth_cri_api::v1::*;
use berth_testkit::wait_for_async;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::{Daemon, LIMIT};
use crate::kill::{ended, nothing_left};
use crate::leftovers::{processes, remove_cgroup};
use crate::words::{pod, remove, run, shell, status};

/// A runtime that takes its time to create a container, until the gate opens; the sandbox's own it creates at once.
fn slow(daemon: &Daemon, runtime: &str) {
    let dir = daemon.path().display();
    let script = format!(
        "#!/bin/sh\n{runtime} \"$@\"\ncode=$?\ncase \" $* \" in *\" create \"*)\n\
         if [ -e {dir}/closed ]; then touch {dir}/made; until [ -e {dir}/open ]; do sleep 0.02; done; fi;;\n\
         esac\nexit $code\n"
    );
    let path = daemon.path().join("slow");
    std::fs::write(&path, script).expect("the runtime");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("it can be run");
}

const OWN_SHIM: &str = "[handlers.slow]\nbinary = \"@dir@/slow\"\n";
const CONTAINERDS_SHIM: &str = "[handlers.slow]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\n\
    runtime_binary = \"@dir@/slow\"\n";

/// The shim has created the container, and nobody has told it to start it, when the server is killed.
async fn cut_short(name: &str, handlers: &str, runtime: &str) {
    let mut daemon = Daemon::prepare(handlers);
    slow(&daemon, runtime);
    daemon.begin().await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-cut-{name}-{}", std::process::id());
    let config = pod("cut", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "slow").await.expect("a pod");
    let notes = daemon.path().join("notes");
    std::fs::create_dir(&notes).expect("a directory");
    let mut once = shell("once", "echo start >>/notes/starts; exit 5");
    once.mounts.push(Mount {
        container_path: "/notes".to_owned(),
        host_path: notes.to_string_lossy().into_owned(),
        ..Mount::default()
    });
    let request = CreateContainerRequest {
        pod_sandbox_id: id.clone(),
        config: Some(once),
        sandbox_config: Some(config.clone()),
    };
    let container = client.create_container(request).await.expect("a container");
    let container_id = container.into_inner().container_id;
    let request = StartContainerRequest {
        container_id: container_id.clone(),
    };
    std::fs::write(daemon.path().join("closed"), "").expect("the gate closes");
    let start = {
        let (mut client, request) = (client.clone(), request.clone());
        tokio::spawn(async move { client.start_container(request).await })
    };
    let made = daemon.path().join("made");
    wait_for_async("the container", LIMIT, async || {
        made.exists().then_some(()).ok_or("it is not made")
    })
    .await;
    daemon.kill();
    start.await.expect("a call").expect_err("nobody answers");
    // The shim is still at it, and whoever asks it for the container waits.
    std::fs::write(daemon.path().join("open"), "").expect("the gate opens");
    daemon.launch().await;
    let state = status(&mut client, &container_id).await.expect("a status");
    assert_eq!(state.state(), ContainerState::ContainerCreated, "{state:?}");
    assert!(!notes.join("starts").exists());
    client
        .start_container(request.clone())
        .await
        .expect("starts");
    assert_eq!(ended(&mut client, &container_id).await.exit_code, 5);
    client
        .start_container(request)
        .await
        .expect_err("only once");
    let starts = std::fs::read_to_string(notes.join("starts")).expect("a note");
    assert_eq!(starts, "start\n");
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_cut_short_is_made_up_for() {
    cut_short("runc", OWN_SHIM, "runc").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_under_runsc() {
    cut_short("runsc", OWN_SHIM, "runsc").await;
}

/// It gives the creation up with its client, and knows nothing of what runc has made by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_under_containerds_shim() {
    cut_short("stranger", CONTAINERDS_SHIM, "runc").await;
}

/// The shim is killed while its runtime creates the container: that is created and not started, and never counts as one that ran.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_dies_during_a_creation_costs_no_run() {
    let mut daemon = Daemon::prepare(OWN_SHIM);
    slow(&daemon, "runc");
    daemon.begin().await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-cut-shim-{}", std::process::id());
    let config = pod("died", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "slow").await.expect("a pod");
    let request = CreateContainerRequest {
        pod_sandbox_id: id.clone(),
        config: Some(shell("once", "exit 5")),
        sandbox_config: Some(config.clone()),
    };
    let container = client.create_container(request).await.expect("a container");
    let container_id = container.into_inner().container_id;
    std::fs::write(daemon.path().join("closed"), "").expect("the gate closes");
    let start = {
        let (mut client, container_id) = (client.clone(), container_id.clone());
        let request = StartContainerRequest { container_id };
        tokio::spawn(async move { client.start_container(request).await })
    };
    let made = daemon.path().join("made");
    wait_for_async("the container", LIMIT, async || {
        made.exists().then_some(()).ok_or("it is not made")
    })
    .await;
    let shims = processes(&format!("-id {id} start"));
    let [shim] = &shims[..] else {
        panic!("{shims:?}")
    };
    let pid = shim
        .split(' ')
        .nth(1)
        .expect("a pid")
        .parse()
        .expect("a number");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it can be killed");
    start.await.expect("a call").expect_err("its shim is gone");
    let state = status(&mut client, &container_id).await.expect("a status");
    assert_eq!(state.state(), ContainerState::ContainerCreated, "{state:?}");
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}
