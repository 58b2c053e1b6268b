//! What survives: pods and acknowledged objects, whatever happens to berth's process.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use berth_testkit::wait_for;
use serde_json::Value;

use crate::cluster::{Cluster, FOREVER, LIMIT, class, pod, short_dir};

/// What must not change while berth is away: the container and when it started.
fn identity(pod: &Value) -> (String, String, String) {
    let container = &pod["status"]["containerStatuses"][0];
    (
        container["containerID"].to_string(),
        container["state"]["running"]["startedAt"].to_string(),
        container["restartCount"].to_string(),
    )
}

/// The process in the container, as the host sees it, by what only it has in its environment.
fn host_process(mark: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|word| word == format!("MARK={mark}").as_bytes())
        })
        .collect()
}

#[test]
fn pods_survive_a_kill_and_a_stop_of_berth() {
    let mut cluster = Cluster::start();
    cluster.apply(&class("gvisor", "runsc"));
    let mark = format!("e2e-{}", cluster.port());
    let command = format!("export MARK={mark}; exec sh -c {FOREVER:?}");
    cluster.apply(&pod("plain", None, &command));
    cluster.apply(&pod("boxed", Some("gvisor"), FOREVER));
    cluster.wait_ready(&["plain", "boxed"]);
    let before = [
        cluster.json(&["pod", "plain"]),
        cluster.json(&["pod", "boxed"]),
    ];
    let processes = host_process(&mark);
    assert!(!processes.is_empty(), "the pod's process is on the host");

    cluster.kill();
    assert_eq!(
        host_process(&mark),
        processes,
        "the pod runs on without berth"
    );
    cluster.launch();
    cluster.wait_ready(&["plain", "boxed"]);
    for old in &before {
        let name = old["metadata"]["name"].as_str().expect("a name");
        assert_eq!(
            identity(&cluster.json(&["pod", name])),
            identity(old),
            "{name} was taken over"
        );
    }
    assert_eq!(host_process(&mark), processes);
    let said = cluster.kube(&["exec", "boxed", "--", "echo", "still here"]);
    assert_eq!(said.trim(), "still here");
    assert_eq!(
        cluster.kube(&["logs", "plain"]).matches("up").count(),
        1,
        "no log line twice"
    );

    let took = cluster.stop();
    assert!(took < Duration::from_secs(10), "SIGTERM took {took:?}");
    assert_eq!(
        host_process(&mark),
        processes,
        "SIGTERM leaves pods running"
    );
    cluster.launch();
    cluster.wait_ready(&["plain", "boxed"]);
    assert_eq!(
        identity(&cluster.json(&["pod", "plain"])),
        identity(&before[0])
    );

    // A pod that ends while berth is away is seen to have ended.
    cluster.kill();
    for pid in host_process(&mark) {
        let _gone = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    cluster.launch();
    cluster.wait_pod("plain", "restarted after its end", |found| {
        let container = &found["status"]["containerStatuses"][0];
        container["restartCount"] == 1 && container["lastState"]["terminated"]["exitCode"] == 137
    });
    cluster.kube(&["delete", "pod", "plain", "boxed", "--timeout=60s"]);
    assert!(host_process(&mark).is_empty());
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let mut cluster = Cluster::start();
    let mut answered = Vec::new();
    for round in 0..3 {
        for number in 0..5 {
            let name = format!("map-{round}-{number}");
            let made = cluster.try_kubectl(&["create", "configmap", &name, "--from-literal=a=b"]);
            if made.status.success() {
                answered.push(name);
            }
        }
        cluster.kill();
        cluster.launch();
    }
    assert_eq!(answered.len(), 15);
    for name in answered {
        let map = cluster.json(&["configmap", &name]);
        assert_eq!(map["data"]["a"], "b", "{name}");
    }
}

#[test]
fn a_pod_deleted_while_berth_is_away_goes_when_it_is_back() {
    let mut cluster = Cluster::start();
    cluster.apply(&pod("going", None, FOREVER));
    cluster.wait_ready(&["going"]);
    cluster.kube(&["delete", "pod", "going", "--wait=false"]);
    cluster.kill();
    cluster.launch();
    wait_for("the pod to be gone", LIMIT, || {
        let left = cluster.kube(&["get", "pods", "-o", "name"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

/// systemd's `Type=notify`.
#[test]
fn a_service_manager_hears_when_berth_is_ready_and_when_it_stops() {
    let dir = short_dir();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let heard = || {
        let mut text = [0; 64];
        let length = socket.recv(&mut text).expect("a message");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let setting: &'static str = format!("NOTIFY_SOCKET={}", path.display()).leak();
    let mut cluster = Cluster::through(vec!["env", setting], &[]);
    assert_eq!(heard(), "READY=1");
    cluster.apply(&pod("plain", None, FOREVER));
    cluster.wait_ready(&["plain"]);
    // A shim or a runtime that has it would wait for its container to say that it is ready.
    let has_it = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|word| word == setting.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").expect("/proc");
    let with_it: Vec<u32> = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(has_it)
        .collect();
    assert_eq!(with_it, [cluster.pid()]);
    cluster.kube(&["delete", "pod", "plain", "--grace-period=0"]);
    cluster.stop();
    assert_eq!(heard(), "STOPPING=1");
}
