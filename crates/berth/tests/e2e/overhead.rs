//! Overhead wherever it counts: the pod's cgroup, the scheduler, quotas, limit ranges.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::cluster::{Cluster, FOREVER, class, pod, words};

/// The first of these files that is there, trimmed.
fn read(candidates: &[PathBuf]) -> String {
    let found = candidates
        .iter()
        .find_map(|file| fs::read_to_string(file).ok());
    found
        .unwrap_or_else(|| panic!("none of {candidates:?}"))
        .trim()
        .to_owned()
}

/// `(cpu quota, memory limit)` of a pod's cgroup, in microseconds of 100 ms and bytes.
pub(crate) fn cgroup(parent: &str, uid: &str) -> (String, String) {
    let file = |controller: &str, name: &str| {
        PathBuf::from(format!(
            "/sys/fs/cgroup/{controller}/{parent}/pod{uid}/{name}"
        ))
    };
    let cpu = read(&[
        file("cpu", "cpu.cfs_quota_us"),
        file("cpu,cpuacct", "cpu.cfs_quota_us"),
        file("", "cpu.max"),
    ]);
    let memory = read(&[
        file("memory", "memory.limit_in_bytes"),
        file("", "memory.max"),
    ]);
    let quota = cpu.split(' ').next().unwrap_or_default().to_owned();
    (quota, memory)
}

fn limited(name: &str, class: &str) -> String {
    pod(name, Some(class), FOREVER) + "    resources: {limits: {cpu: 500m, memory: 128Mi}}\n"
}

#[test]
fn it_counts_wherever_requests_do() {
    let cluster = Cluster::start();
    for handler in ["runc", "runsc"] {
        cluster.apply(
            &(class(handler, handler) + "overhead: {podFixed: {cpu: 250m, memory: 64Mi}}\n"),
        );
        cluster.apply(&limited(handler, handler));
    }
    cluster.wait_ready(&["runc", "runsc"]);
    for name in ["runc", "runsc"] {
        let found = cluster.json(&["pod", name]);
        assert_eq!(
            found["status"]["qosClass"], "Guaranteed",
            "overhead plays no part in it"
        );
        let uid = found["metadata"]["uid"].as_str().expect("a uid").to_owned();
        let want = ("75000".to_owned(), (192 << 20).to_string());
        assert_eq!(cgroup("kubepods", &uid), want, "{name}");
    }
    let node = cluster.kube(&["describe", "node", "n1"]);
    assert!(node.contains("750m") && node.contains("192Mi"), "{node}");

    // The scheduler: the containers alone would fit.
    cluster.apply(&(class("huge", "runc") + "overhead: {podFixed: {cpu: 1000}}\n"));
    cluster.apply(&limited("huge", "huge"));
    cluster.wait_event("huge", &["FailedScheduling", "1 Insufficient cpu"]);

    // A quota takes one such pod and no second.
    cluster.kube(&["create", "namespace", "small"]);
    cluster.kube(&[
        "create",
        "quota",
        "q",
        "-n",
        "small",
        "--hard=requests.cpu=1,limits.cpu=1",
    ]);
    let inside = |name: &str| {
        limited(name, "runc").replace("metadata:\n", "metadata:\n  namespace: small\n")
    };
    cluster.apply(&inside("a"));
    let refused = words(&cluster.try_apply(&inside("b")));
    for part in ["exceeded quota: q", "requests.cpu=750m", "limits.cpu=750m"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }

    // So does the sum over a pod in a LimitRange.
    cluster.kube(&["create", "namespace", "ranged"]);
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r", "namespace": "ranged"},
        "spec": {"limits": [{"type": "Pod", "max": {"cpu": "700m"}}]}});
    cluster.apply(&range.to_string());
    let inside = inside("c").replace("namespace: small", "namespace: ranged");
    let refused = words(&cluster.try_apply(&inside));
    assert!(
        refused.contains("maximum cpu usage per Pod is 700m"),
        "{refused}"
    );
}

#[test]
fn it_counts_nowhere_with_the_gate_off() {
    let cluster = Cluster::with(&["--feature-gates", "PodOverhead=false"]);
    cluster.apply(&(class("runc", "runc") + "overhead: {podFixed: {cpu: 250m, memory: 64Mi}}\n"));
    cluster.apply(&limited("runc", "runc"));
    cluster.wait_ready(&["runc"]);
    let found = cluster.json(&["pod", "runc"]);
    assert!(found["spec"]["overhead"].is_null(), "{}", found["spec"]);
    let uid = found["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let want = ("50000".to_owned(), (128 << 20).to_string());
    assert_eq!(cgroup("kubepods", &uid), want);
}
