//! Running pods get other resources, under runc and under gVisor, without a restart.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::{Cluster, FOREVER, class, pod};
use crate::overhead::cgroup;

/// Waits until the pod's cgroup is `want`.
fn wait_cgroup(uid: &str, want: &(String, String)) {
    let begun = Instant::now();
    loop {
        let found = cgroup("kubepods", uid);
        if &found == want {
            return;
        }
        let late = begun.elapsed() > Duration::from_secs(60);
        assert!(!late, "{found:?} is not {want:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn resize(cluster: &Cluster, name: &str, cpu: &str, memory: &str) {
    let amounts = json!({"cpu": cpu, "memory": memory});
    let patch = json!({"spec": {"containers": [{"name": "main", "resources": {"requests": amounts, "limits": amounts}}]}});
    let patch = patch.to_string();
    cluster.kube(&["patch", "pod", name, "--subresource=resize", "-p", &patch]);
}

#[test]
fn a_running_pod_grows_and_shrinks() {
    let cluster = Cluster::start();
    let limits = "    resources: {limits: {cpu: 200m, memory: 64Mi}}\n";
    cluster
        .apply(&(class("boxed", "runsc") + "overhead: {podFixed: {cpu: 100m, memory: 128Mi}}\n"));
    cluster.apply(&(pod("plain", None, FOREVER) + limits));
    cluster.apply(&(pod("boxed", Some("boxed"), FOREVER) + limits));
    cluster.wait_ready(&["plain", "boxed"]);
    for (name, cpu, memory) in [("plain", 0, 0), ("boxed", 10_000, 128)] {
        let found = cluster.json(&["pod", name]);
        let uid = found["metadata"]["uid"].as_str().expect("a uid").to_owned();
        let id = found["status"]["containerStatuses"][0]["containerID"].clone();
        for (to, quota, bytes) in [
            (("400m", "128Mi"), 40_000, 128),
            (("100m", "96Mi"), 10_000, 96),
        ] {
            resize(&cluster, name, to.0, to.1);
            let want = (
                (quota + cpu).to_string(),
                ((bytes + memory) << 20).to_string(),
            );
            wait_cgroup(&uid, &want);
            let status = cluster.wait_pod(name, "its new resources", |p| {
                p["status"]["containerStatuses"][0]["resources"]["limits"]["memory"] == to.1
            });
            let status = &status["status"]["containerStatuses"][0];
            assert_eq!(status["allocatedResources"]["cpu"], to.0);
            assert_eq!(status["restartCount"], 0);
            assert_eq!(status["containerID"], id);
        }
    }
    // The container's own limit, not only the pod's.
    let file = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true";
    let own = cluster.kube(&["exec", "plain", "--", "sh", "-c", file]);
    assert_eq!(own.trim(), (96 << 20).to_string());
    // It has no swap: none by itself, or no more with memory than without.
    let files = [
        (
            "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes",
            96 << 20,
        ),
        ("/sys/fs/cgroup/memory.swap.max", 0),
    ];
    for (file, want) in files {
        let found = cluster.kube(&[
            "exec",
            "plain",
            "--",
            "sh",
            "-c",
            &format!("cat {file} 2>/dev/null || true"),
        ]);
        assert!(
            found.is_empty() || found.trim() == want.to_string(),
            "{file}: {found}"
        );
    }
    cluster.wait_event("plain", &["ResizeCompleted"]);

    resize(&cluster, "plain", "1000", "96Mi");
    cluster.wait_event(
        "plain",
        &["ResizeInfeasible", "Node didn't have enough capacity: cpu"],
    );
    let found = cluster.json(&["pod", "plain"]);
    assert_eq!(
        found["status"]["containerStatuses"][0]["resources"]["limits"]["cpu"],
        "100m"
    );
    // It counts for what it has, so that another pod still fits.
    cluster.apply(&(pod("next", None, FOREVER) + limits));
    cluster.wait_ready(&["next"]);
}

#[test]
fn a_pod_as_a_whole_grows_and_shrinks() {
    let cluster = Cluster::start();
    cluster.apply(&class("boxed", "runsc"));
    let amounts = |cpu: &str, memory: &str| {
        format!(
            "{{requests: {{cpu: {cpu}, memory: {memory}}}, limits: {{cpu: {cpu}, memory: {memory}}}}}"
        )
    };
    let whole = |name: &str, class: Option<&str>| {
        pod(name, class, FOREVER) + "  resources: " + &amounts("200m", "128Mi") + "\n"
    };
    cluster.apply(&whole("plain", None));
    cluster.apply(&whole("boxed", Some("boxed")));
    cluster.wait_ready(&["plain", "boxed"]);
    for name in ["plain", "boxed"] {
        let found = cluster.json(&["pod", name]);
        let uid = found["metadata"]["uid"].as_str().expect("a uid").to_owned();
        let id = found["status"]["containerStatuses"][0]["containerID"].clone();
        assert_eq!(found["status"]["resources"]["limits"]["cpu"], "200m");
        wait_cgroup(&uid, &("20000".to_owned(), (128 << 20).to_string()));
        for (cpu, memory, quota, bytes) in [
            ("400m", "256Mi", 40_000, 256),
            ("100m", "160Mi", 10_000, 160),
        ] {
            let amounts = json!({"cpu": cpu, "memory": memory});
            let patch = json!({"spec": {"resources": {"requests": amounts, "limits": amounts}}});
            let patch = patch.to_string();
            cluster.kube(&["patch", "pod", name, "--subresource=resize", "-p", &patch]);
            wait_cgroup(&uid, &(quota.to_string(), (bytes << 20).to_string()));
            let status = cluster.wait_pod(name, "its new resources", |p| {
                p["status"]["resources"]["limits"]["memory"] == memory
            });
            assert_eq!(status["status"]["allocatedResources"]["cpu"], cpu);
            let container = &status["status"]["containerStatuses"][0];
            assert_eq!(container["restartCount"], 0);
            assert_eq!(container["containerID"], id);
        }
    }
    // A container without a limit of its own follows.
    let file = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true";
    let own = cluster.kube(&["exec", "plain", "--", "sh", "-c", file]);
    assert_eq!(own.trim(), (160 << 20).to_string());
    let amounts = json!({"cpu": "1000", "memory": "160Mi"});
    let patch = json!({"spec": {"resources": {"requests": amounts, "limits": amounts}}});
    cluster.kube(&[
        "patch",
        "pod",
        "plain",
        "--subresource=resize",
        "-p",
        &patch.to_string(),
    ]);
    cluster.wait_event(
        "plain",
        &["ResizeInfeasible", "Node didn't have enough capacity: cpu"],
    );
}
