//! `kubectl top` and the audit log of a cluster that was started with nothing but flags.

use std::fs;

use berth_testkit::wait_for;
use serde_json::Value;

use crate::cluster::{Cluster, FOREVER, LIMIT, pod, short_dir};

/// The millicores and mebibytes in a line of `kubectl top` that begins with these words.
fn used(table: &str, words: &[&str]) -> Option<(u64, u64)> {
    let line = table.lines().find_map(|line| {
        let found: Vec<&str> = line.split_whitespace().collect();
        found.starts_with(words).then_some(found)
    })?;
    let number = |unit: &str| {
        let mut numbers = line.iter().filter_map(|word| word.strip_suffix(unit));
        numbers.next()?.parse().ok()
    };
    Some((number("m")?, number("Mi")?))
}

#[test]
fn kubectl_top_shows_what_nodes_and_containers_use() {
    let cluster = Cluster::start();
    cluster.apply(&pod("busy", None, "while :; do :; done"));
    cluster.apply(&pod("idle", None, FOREVER));
    cluster.wait_ready(&["busy", "idle"]);
    // The first question begins it; a pod that has just begun may be missing in the first answer.
    let (busy, idle) = wait_for("kubectl top pods", LIMIT, || {
        let output = cluster.try_kubectl(&["top", "pods", "--containers"]);
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        let both = used(&table, &["busy", "main"]).zip(used(&table, &["idle", "main"]));
        both.ok_or_else(|| format!("{table}{}", String::from_utf8_lossy(&output.stderr)))
    });
    assert!(busy.0 > 10 && busy.0 > idle.0, "{busy:?} {idle:?}");
    let table = cluster.kube(&["top", "nodes"]);
    let node = used(&table, &["n1"]).unwrap_or_else(|| panic!("{table}"));
    assert!(node.0 > 0 && node.1 > busy.1, "{table}");
    let table = cluster.kube(&["get", "podmetrics", "busy"]);
    assert!(table.contains("WINDOW"), "{table}");
    // What clients and controllers of the process count, by the stock names.
    let metrics = cluster.kube(&["get", "--raw", "/metrics"]);
    for name in [
        "rest_client_requests_total{code=\"200\",host=\"127.0.0.1:",
        "rest_client_request_duration_seconds_bucket{",
        "workqueue_adds_total{name=\"garbage_collector_attempt_to_delete\"}",
    ] {
        assert!(metrics.contains(name), "{name}\n{metrics}");
    }
}

#[test]
fn the_audit_log_has_what_was_done_and_connections_to_their_end() {
    let dir = short_dir();
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    let rules = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- {level: Request, users: [admin], verbs: [create, get], \
                 resources: [{resources: [pods, pods/exec]}]}\n";
    fs::write(&policy, rules).unwrap();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (policy, path) = (text(&policy), text(&log));
    let cluster = Cluster::with(&["--audit-policy-file", &policy, "--audit-log-path", &path]);
    cluster.apply(&pod("p", None, FOREVER));
    cluster.wait_ready(&["p"]);
    cluster.kube(&["exec", "p", "--", "true"]);
    let events = || -> Vec<Value> {
        let text = fs::read_to_string(&log).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let made = events()
        .into_iter()
        .find(|e| e["verb"] == "create" && e["stage"] == "ResponseComplete")
        .expect("the pod's creation");
    assert_eq!(made["requestObject"]["metadata"]["name"], "p");
    assert_eq!(made["responseStatus"]["code"], 201);
    let ended = wait_for("the end of the exec", LIMIT, || {
        let mut all = events().into_iter();
        all.find(|e| e["objectRef"]["subresource"] == "exec" && e["stage"] == "ResponseComplete")
            .ok_or("it is not in the log")
    });
    assert_eq!(ended["responseStatus"]["code"], 101, "{ended}");
}
