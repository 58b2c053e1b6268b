//! What sandboxes cost is measured by the node, told by the server, proposed by `berth overhead`.

use berth_testkit::wait_for;
use serde_json::Value;

use crate::cluster::{Cluster, FOREVER, LIMIT, berth, class, pod, words};

const MIB: u64 = 1 << 20;
const ANNOTATION: &str = "jsonpath={.metadata.annotations.node\\.berth\\.dev/measured-overhead}";

fn overhead(cluster: &Cluster, class: &str, output: &str) -> String {
    let answer = berth()
        .args(["overhead", class, "-o", output, "--data-dir"])
        .arg(cluster.data())
        .output()
        .expect("berth overhead runs");
    assert!(
        answer.status.success(),
        "berth overhead: {}",
        words(&answer)
    );
    String::from_utf8(answer.stdout).expect("text")
}

fn evidence(cluster: &Cluster, class: &str) -> Value {
    let document: Value = serde_json::from_str(&overhead(cluster, class, "json")).expect("JSON");
    document["evidence"][0].clone()
}

/// Waits for so many measurements while nothing goes on.
fn wait_samples(cluster: &Cluster, class: &str, many: u64) -> Value {
    wait_for(&format!("measurements of {class}"), LIMIT, || {
        let found = evidence(cluster, class);
        match found["idle"]["samples"].as_u64() {
            Some(samples) if samples >= many => Ok(found),
            _ => Err(format!("{found}")),
        }
    })
}

/// The value of a metric's line with all these parts.
fn sample(text: &str, parts: &[&str]) -> Option<f64> {
    let line = text
        .lines()
        .find(|line| parts.iter().all(|part| line.contains(part)))?;
    line.rsplit_once('}')?
        .1
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[test]
fn the_cost_of_a_class_is_measured_told_and_kept() {
    let periods = [
        "--overhead-measure-period",
        "1",
        "--overhead-compare-period",
        "1",
    ];
    let mut cluster = Cluster::with(&periods);
    cluster.apply(&(class("gvisor", "runsc") + "overhead: {podFixed: {memory: 2Gi}}\n"));
    cluster.apply(&class("plain", "runc"));
    let boxed = ["g1", "g2", "g3"];
    for name in boxed {
        cluster.apply(&pod(name, Some("gvisor"), FOREVER));
    }
    cluster.apply(&pod("p1", Some("plain"), FOREVER));
    cluster.wait_ready(&[&boxed[..], &["p1"]].concat());

    // A sentry with its gofer takes tens of MiB; runc has nothing between a container and the kernel.
    let gvisor = wait_samples(&cluster, "gvisor", 30);
    let p50 = gvisor["idle"]["memoryBytes"]["p50"].as_u64().unwrap();
    assert!((8 * MIB..256 * MIB).contains(&p50), "{gvisor:#}");
    let parts = &gvisor["idle"]["meanMemoryBytes"];
    assert!(
        parts["sandbox"].as_u64() > parts["shim"].as_u64(),
        "{gvisor:#}"
    );
    assert!(
        parts["shim"].as_u64() > Some(0) && parts["kernel"].as_u64() > Some(0),
        "{gvisor:#}"
    );
    assert_eq!(gvisor["sandboxes"], 3, "{gvisor:#}");
    let plain = wait_samples(&cluster, "plain", 3);
    assert_eq!(plain["idle"]["meanMemoryBytes"]["sandbox"], 0, "{plain:#}");
    let small = plain["idle"]["memoryBytes"]["p50"].as_u64().unwrap();
    assert!(small > 0 && small < p50, "{plain:#}");

    // The same by class in the node's metrics; each container has figures of its own.
    let raw =
        |path: &str| cluster.kube(&["get", "--raw", &format!("/api/v1/nodes/n1/proxy{path}")]);
    let of_class = [
        "berth_class_overhead_memory_bytes{",
        "quantile=\"0.5\"",
        "runtime_class=\"gvisor\"",
        "state=\"idle\"",
    ];
    assert!(
        sample(&raw("/metrics"), &of_class) > Some(8e6),
        "{}",
        raw("/metrics")
    );
    let cadvisor = raw("/metrics/cadvisor");
    for name in ["g1", "p1"] {
        let of = format!("pod=\"{name}\"");
        for metric in [
            "container_memory_working_set_bytes{container=\"main\"",
            "container_memory_usage_bytes{container=\"main\"",
        ] {
            assert!(
                sample(&cadvisor, &[metric, &of]) > Some(0.0),
                "{metric} {name}\n{cadvisor}"
            );
        }
        let cpu = ["container_cpu_usage_seconds_total{container=\"main\"", &of];
        assert!(sample(&cadvisor, &cpu).is_some(), "{cadvisor}");
        let packets = [
            "container_network_receive_packets_total{",
            "interface=\"eth0\"",
            &of,
        ];
        assert!(sample(&cadvisor, &packets).is_some(), "{cadvisor}");
    }
    let summary: Value = serde_json::from_str(&raw("/stats/summary")).expect("JSON");
    let pods = summary["pods"].as_array().expect("pods");
    assert_eq!(pods.len(), 4);
    let there = |dir: &str| {
        std::path::Path::new(dir)
            .join("cgroup.controllers")
            .exists()
    };
    for pod in pods {
        assert!(
            pod["memory"]["workingSetBytes"].as_u64() > Some(0),
            "{pod:#}"
        );
        assert!(pod["network"]["rxBytes"].as_u64().is_some(), "{pod:#}");
        assert!(
            pod["containers"][0]["rootfs"]["usedBytes"]
                .as_u64()
                .is_some(),
            "{pod:#}"
        );
        // Pressure where the kernel keeps it for cgroups: absent otherwise.
        let psi = pod["cpu"]["psi"]["some"]["total"].as_u64();
        let kept = there("/sys/fs/cgroup") || there("/sys/fs/cgroup/unified");
        assert!(kept || psi.is_none(), "{pod:#}");
    }

    // Far from what is declared: said once, by the server.
    cluster.wait_event(
        "gvisor",
        &[
            "Warning",
            "OverheadDiffers",
            "n1: memory",
            "2048Mi declared, too much",
        ],
    );
    let annotation = || cluster.kube(&["get", "runtimeclass", "gvisor", "-o", ANNOTATION]);
    assert!(annotation().starts_with("n1: memory "), "{}", annotation());
    let proposal: Value =
        serde_json::from_str(&overhead(&cluster, "gvisor", "json")).expect("JSON");
    let memory = proposal["proposed"]["overhead"]["podFixed"]["memory"]
        .as_str()
        .unwrap();
    cluster.apply(
        &(class("gvisor", "runsc") + &format!("overhead: {{podFixed: {{memory: {memory}}}}}\n")),
    );
    cluster.wait_event("gvisor", &["Normal", "OverheadAgrees"]);
    assert_eq!(annotation(), "");
    let differing = cluster
        .events_of("gvisor")
        .matches("OverheadDiffers")
        .count();
    assert_eq!(differing, 1, "{}", cluster.events_of("gvisor"));

    // A node may say what it likes: it can't write a class.
    for verb in ["update", "patch", "create"] {
        let who = ["--as", "system:node:n1", "--as-group", "system:nodes"];
        let asked = [
            &["auth", "can-i", verb, "runtimeclasses.node.k8s.io"][..],
            &who,
        ]
        .concat();
        let answer = cluster.try_kubectl(&asked);
        let said = String::from_utf8_lossy(&answer.stdout).into_owned();
        assert!(said.starts_with("no"), "{verb}: {}", words(&answer));
    }

    // For people, and after a restart.
    let table = overhead(&cluster, "gvisor", "table");
    assert!(
        table.contains("proposed  cpu") && table.contains("by node n1"),
        "{table}"
    );
    assert!(overhead(&cluster, "gvisor", "yaml").contains("\n  overhead:\n    podFixed:\n"));
    let before = evidence(&cluster, "gvisor")["idle"]["samples"].as_u64();
    cluster.stop();
    cluster.launch();
    let after = wait_samples(&cluster, "gvisor", 1);
    assert!(
        after["idle"]["samples"].as_u64() >= before,
        "{before:?} {after:#}"
    );
}
