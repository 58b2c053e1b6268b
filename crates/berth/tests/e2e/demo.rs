//! What a stranger does first: examples/, three pods, three kernels' words.

use std::path::Path;

use crate::cluster::Cluster;

#[test]
fn the_examples_run_each_under_its_runtime() {
    let cluster = Cluster::start();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    cluster.kube(&["apply", "-f", &examples.to_string_lossy()]);
    let pods = ["gvisor-pod", "runc-pod", "plain-pod"];
    cluster.wait_ready(&pods);

    let wide = cluster.kube(&["get", "pods", "-o", "wide"]);
    for pod in pods {
        let line = wide
            .lines()
            .find(|line| line.starts_with(pod))
            .unwrap_or_default();
        assert!(line.contains("Running") && line.contains("n1"), "{wide}");
        let logs = cluster.kube(&["logs", pod]);
        assert!(logs.contains(&format!("hello from {pod}")), "{logs}");
    }

    let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the host's kernel");
    for pod in ["runc-pod", "plain-pod"] {
        assert_eq!(
            cluster.kube(&["exec", pod, "--", "uname", "-r"]).trim(),
            host.trim()
        );
    }
    let messages = cluster.kube(&["exec", "gvisor-pod", "--", "dmesg"]);
    assert!(
        messages.contains("gVisor"),
        "not gVisor's kernel: {messages}"
    );
    assert_ne!(
        cluster
            .kube(&["exec", "gvisor-pod", "--", "uname", "-r"])
            .trim(),
        host.trim()
    );

    let gvisor = cluster.json(&["pod", "gvisor-pod"]);
    assert_eq!(
        gvisor["spec"]["overhead"]["memory"], "64Mi",
        "the class's overhead reached the pod"
    );
    let ips: std::collections::BTreeSet<String> = pods
        .iter()
        .map(|pod| cluster.json(&["pod", pod])["status"]["podIP"].to_string())
        .collect();
    assert_eq!(ips.len(), 3, "each has an address of its own: {ips:?}");

    let node = cluster.json(&["node", "n1"]);
    let handlers: Vec<&str> = node["status"]["runtimeHandlers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|handler| handler["name"].as_str())
        .collect();
    for handler in ["runc", "runsc"] {
        assert!(handlers.contains(&handler), "{handlers:?}");
    }
    let described = cluster.kube(&["describe", "pod", "gvisor-pod"]);
    for word in [
        "Runtime Class Name:",
        "gvisor",
        "Scheduled",
        "Pulled",
        "Created",
        "Started",
    ] {
        assert!(described.contains(word), "{word} is missing: {described}");
    }
    let classes = cluster.kube(&["get", "runtimeclasses"]);
    assert!(
        classes.contains("HANDLER") && classes.contains("runsc"),
        "{classes}"
    );
}
