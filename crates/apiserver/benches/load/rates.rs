//! Objects created, read and listed a second.

use std::sync::Arc;
use std::time::Duration;

use crate::objects::{CLASSES, PODS, create_class, create_pod, delete_all, get};
use crate::print;
use crate::server::{Sent, Server};

const ROUNDS: usize = 5;

/// Name, requests a round, the request with that number, and the goal: how many times as many as base, which is the server
/// that stood beside kube-apiserver when the ratios to that were recorded.
type Stage = (&'static str, usize, fn(usize) -> Sent, f64);

const STAGES: [Stage; 5] = [
    ("Pods created a second", 3000, create_pod, 3.0),
    (
        "Pods read a second",
        20_000,
        |n| get(&format!("{PODS}/pod-{}", n % 100)),
        1.43,
    ),
    (
        "lists of 500 Pods a second",
        200,
        |_| get(&format!("{PODS}?limit=500")),
        1.64,
    ),
    (
        "lists of all Pods (3000) a second",
        60,
        |_| get(&format!("{PODS}?resourceVersion=0")),
        1.64,
    ),
    ("RuntimeClasses created a second", 3000, create_class, 1.78),
];

pub(crate) async fn run(servers: &[Arc<Server>], scale: usize) {
    let mut seen = vec![vec![Vec::new(); servers.len()]; STAGES.len()];
    for _ in 0..ROUNDS {
        for (stage, (_, count, request, _)) in STAGES.iter().enumerate() {
            for (at, server) in servers.iter().enumerate() {
                seen[stage][at].push(server.load(count / scale, *request).await);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        for server in servers {
            for path in [PODS, CLASSES] {
                server.send(0, delete_all(path)).await;
            }
        }
    }
    for ((name, _, _, goal), rates) in STAGES.iter().zip(seen) {
        print::figures(name, "/s", servers, &rates, Some(*goal));
    }
}

/// Creates alone: what is different when the objects are kept elsewhere.
pub(crate) async fn creates(servers: &[Arc<Server>], scale: usize, goal: Option<f64>) {
    for (name, request, path, goal) in [
        (
            "Pods created a second",
            create_pod as fn(usize) -> Sent,
            PODS,
            goal,
        ),
        (
            "RuntimeClasses created a second",
            create_class,
            CLASSES,
            None,
        ),
    ] {
        let mut seen = vec![Vec::new(); servers.len()];
        for _ in 0..ROUNDS {
            for (at, server) in servers.iter().enumerate() {
                seen[at].push(server.load(2000 / scale, request).await);
                server.send(0, delete_all(path)).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        print::figures(name, "/s", servers, &seen, goal);
    }
}
