//! Sandboxes that a shim makes by containerd's sandbox service.

use base64::Engine as _;
use berth_cri_api::v1::*;
use berth_testkit::wait_for_async;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost::Message;

use crate::daemon::{Daemon, LIMIT};
use crate::kill::{ended, nothing_left};
use crate::leftovers::{processes, remove_cgroup};
use crate::testvm;
use crate::words::{exec, launch, pod, remove, run, sandboxes, shell, status};

const SHIM: &str = "sandboxer = \"shim\"\npod_annotations = [\"io.katacontainers.*\"]";

/// The names of the calls of the sandbox service, in their order.
fn sandbox_calls(daemon: &Daemon) -> Vec<String> {
    let text = std::fs::read_to_string(testvm::dir(daemon).join("calls")).expect("calls");
    let calls = text.lines().map(|line| {
        let call: serde_json::Value = serde_json::from_str(line).expect("JSON");
        call["call"].as_str().expect("a name").to_owned()
    });
    calls.filter(|call| call.ends_with("Sandbox")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_makes_the_sandbox_without_a_container() {
    let mut daemon = Daemon::start(&testvm::handler(SHIM)).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-sandboxer-{}", std::process::id());
    let logs = daemon.path().join("logs");
    let mut config = pod("sandboxer", &logs, &parent);
    for (name, value) in [("io.katacontainers.x", "let through"), ("other", "not")] {
        config.annotations.insert(name.to_owned(), value.to_owned());
    }
    let linux = config.linux.as_mut().expect("linux");
    linux.sysctls = [("net.ipv4.ip_unprivileged_port_start", "77")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let record = testvm::record(&daemon, &id);
    assert_eq!(record["options"]["type_url"], "runtime.v1.PodSandboxConfig");
    let value = record["options"]["value"].as_str().expect("base64");
    let value = base64::engine::general_purpose::STANDARD.decode(value);
    let given = PodSandboxConfig::decode(&*value.expect("base64")).expect("a configuration");
    assert_eq!(given.metadata, config.metadata);
    assert!(!given.annotations.contains_key("other"));
    assert_eq!(given.annotations["io.kubernetes.cri.sandbox-id"], id);
    assert_eq!(
        given.annotations["io.kubernetes.cri.container-type"],
        "sandbox"
    );
    assert_eq!(record["annotations"]["io.katacontainers.x"], "let through");
    let netns = record["netns"].as_str().expect("a path");
    assert!(netns.contains(&id) && std::path::Path::new(netns).exists());
    assert!(testvm::calls(&daemon, "Create").is_empty());

    let ending = launch(&mut client, &id, &config, shell("end", "echo done; exit 4"));
    let ending = ending.await.expect("starts");
    // It says nothing of PIDs: what the pod wants counts, since the first container's end would be that of all.
    let mut silent = shell("last", "exec sleep 10000");
    let linux = silent.linux.as_mut().expect("linux");
    linux.security_context = Some(LinuxContainerSecurityContext::default());
    let lasting = launch(&mut client, &id, &config, silent).await;
    let lasting = lasting.expect("starts");
    let spec = &testvm::record(&daemon, &lasting)["spec"]["linux"];
    let namespaces = spec["namespaces"].as_array().expect("namespaces");
    assert!(namespaces.contains(&serde_json::json!({"type": "pid"})));
    // Without a sandbox container the containers bring the pod's sysctls into the guest.
    assert_eq!(spec["sysctl"]["net.ipv4.ip_unprivileged_port_start"], "77");
    assert_eq!(ended(&mut client, &ending).await.exit_code, 4);
    daemon.kill();
    daemon.launch().await;
    let said = exec(&mut client, &lasting, "echo on").await;
    assert_eq!(said.expect("an exec"), "on\n");
    let pods = sandboxes(&mut client).await;
    assert_eq!(pods[0].state(), PodSandboxState::SandboxReady);

    remove(&mut client, &id).await.expect("it can be removed");
    let calls = sandbox_calls(&daemon);
    let mut calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    // The second server waits anew.
    calls.dedup();
    let wanted = [
        "CreateSandbox",
        "StartSandbox",
        "WaitSandbox",
        "StopSandbox",
        "ShutdownSandbox",
    ];
    assert_eq!(calls, wanted);
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// Whoever waits for the sandbox hears of it, and so do those who wait for its containers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_virtual_machine_has_died_is_not_ready() {
    let mut daemon = Daemon::start(&testvm::handler(SHIM)).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-vmdied-{}", std::process::id());
    let config = pod("vmdied", &daemon.path().join("logs"), &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let lasting = launch(&mut client, &id, &config, shell("last", "exec sleep 10000"));
    let lasting = lasting.await.expect("starts");
    let vmm = processes(&format!("vmm -name sandbox-{id}"));
    let pid = vmm[0].split(' ').nth(1).expect("a PID");
    kill(
        Pid::from_raw(pid.parse().expect("a number")),
        Signal::SIGKILL,
    )
    .expect("killed");
    wait_for_async("the pod's end", LIMIT, async || {
        let pods = sandboxes(&mut client.clone()).await;
        if pods[0].state() == PodSandboxState::SandboxNotready {
            Ok(())
        } else {
            Err("it is ready")
        }
    })
    .await;
    assert_eq!(ended(&mut client, &lasting).await.exit_code, 137);
    let state = status(&mut client, &lasting).await.expect("a status");
    assert_eq!(state.state(), ContainerState::ContainerExited);
    remove(&mut client, &id).await.expect("it can be removed");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}

/// Debian's shim for runc is older than the service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_without_the_service_is_told_apart() {
    let handlers = "[handlers.old]\nkind = \"shim\"\nbinary = \"containerd-shim-runc-v2\"\n\
                    runtime_binary = \"runc\"\nsandboxer = \"shim\"\n";
    let mut daemon = Daemon::start(handlers).await;
    let mut client = daemon.client.clone();
    let parent = format!("berth-noservice-{}", std::process::id());
    let config = pod("noservice", &daemon.path().join("logs"), &parent);
    let error = run(&mut client, &config, "old").await.expect_err("no pod");
    assert_eq!(error.code(), tonic::Code::Unimplemented, "{error}");
    let said = error.message();
    assert!(said.contains("leave out sandboxer = \"shim\""), "{said}");
    nothing_left(&daemon, &parent).await;
    daemon.stop();
    remove_cgroup(&parent);
}
