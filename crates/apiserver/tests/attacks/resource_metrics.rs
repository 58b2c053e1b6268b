//! Nodes that lie about what is used, or want the server to choke on it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::names;
use crate::kubelet_server::{Kubelet, METRICS, authority, list, node, pod_on, said, start};

#[tokio::test]
async fn a_node_says_nothing_of_pods_of_others() {
    let ca = authority();
    let api = start(&ca, &["good", "bad"]).await;
    let good = Kubelet::start(&ca, "good", |n| Some(said(10 * n, &["victim"]))).await;
    // It says that the victim uses a hundred times as much.
    let bad = Kubelet::start(&ca, "bad", |n| {
        Some(said(1000 * n, &["victim", "own", "made-up"]).replace("3145728", "9e15"))
    })
    .await;
    node(&api, "good", good.port, json!({})).await;
    node(&api, "bad", bad.port, json!({})).await;
    pod_on(&api, "victim", "good", json!({})).await;
    pod_on(&api, "own", "bad", json!({})).await;
    let pods = list(&api, &format!("{METRICS}/pods"), &["own", "victim"]).await;
    let victim = &pods["items"][1];
    assert_eq!(
        (
            &victim["window"],
            &victim["containers"][0]["usage"]["memory"]
        ),
        (&json!("10s"), &json!("3Mi"))
    );
}

#[tokio::test]
async fn a_node_that_is_another_one_is_not_heard() {
    let ca = authority();
    let api = start(&ca, &["a", "b"]).await;
    let kubelet = Kubelet::start(&ca, "b", |n| Some(said(10 * n, &[]))).await;
    // `a` says that it is where `b` is.
    node(&api, "a", kubelet.port, json!({})).await;
    node(&api, "b", kubelet.port, json!({})).await;
    list(&api, &format!("{METRICS}/nodes"), &["b"]).await;
}

#[tokio::test]
async fn nodes_that_hang_or_talk_without_end_cost_the_others_nothing() {
    let ca = authority();
    let hanging: Vec<String> = (0..40).map(|n| format!("hangs{n}")).collect();
    let mut all: Vec<&str> = hanging.iter().map(String::as_str).collect();
    all.extend(["talks", "zz-good"]);
    let api = start(&ca, &all).await;
    for name in &hanging {
        let kubelet = Kubelet::start(&ca, name, |_| None).await;
        node(&api, name, kubelet.port, json!({})).await;
    }
    let talks = Kubelet::start(&ca, "talks", |_| Some("x".repeat(40 << 20))).await;
    node(&api, "talks", talks.port, json!({})).await;
    let good = Kubelet::start(&ca, "zz-good", |n| Some(said(10 * n, &[]))).await;
    node(&api, "zz-good", good.port, json!({})).await;
    // At first nobody knows who hangs; from the second round on those are asked last.
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        let nodes = api.get(&format!("{METRICS}/nodes")).await.expect(200);
        assert!(asked.elapsed() < Duration::from_secs(20));
        if names(&nodes) == ["zz-good"] {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(120));
    }
}

#[tokio::test]
async fn numbers_that_are_none_do_no_harm() {
    let ca = authority();
    let api = start(&ca, &["n"]).await;
    let kubelet = Kubelet::start(&ca, "n", |n| {
        let value = ["NaN", "-1", "1e400", "+Inf", "99999999999999999999999"][n % 5];
        Some(format!(
            "node_cpu_usage_seconds_total {value} 9223372036854775807\nnode_memory_working_set_bytes {value}\n\
             node_cpu_usage_seconds_total 1 -9223372036854775808\nnode_memory_working_set_bytes 1\n"
        ))
    })
    .await;
    node(&api, "n", kubelet.port, json!({})).await;
    api.get(&format!("{METRICS}/nodes")).await.expect(200);
    assert!(kubelet.requests() >= 1);
}
