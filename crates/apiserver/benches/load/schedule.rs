//! Pods created and bound: 5,000 onto 1,000 nodes. The server has to run its scheduler, and no controllers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::objects::{NODES, PODS, create_node, create_pod, delete_all, get};
use crate::server::Server;

const COUNT: usize = 5000;
const NODE_COUNT: usize = 1000;
const LONGEST: Duration = Duration::from_secs(120);

pub(crate) async fn run(servers: &[Arc<Server>], scale: usize) {
    for server in servers {
        server.load(NODE_COUNT, create_node).await;
        // The scheduler has heard of them.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        let count = COUNT / scale;
        server.load(count, create_pod).await;
        let created = begun.elapsed();
        let waiting = get(&format!("{PODS}?fieldSelector=spec.nodeName%3D&limit=1"));
        loop {
            let list: Value = serde_json::from_slice(&server.send(0, waiting.clone()).await)
                .expect("a list of Pods");
            if list["items"].as_array().is_some_and(Vec::is_empty) {
                break;
            }
            assert!(begun.elapsed() < LONGEST, "Pods are left without a node");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!(
            "{:<56} {:>9.2} s   (goal 2.5; all were created after {:.2} s)",
            format!(
                "{count} Pods created and bound, {NODE_COUNT} nodes, {}",
                server.name
            ),
            begun.elapsed().as_secs_f64(),
            created.as_secs_f64()
        );
        for path in [PODS, NODES] {
            server.send(0, delete_all(path)).await;
        }
    }
}
