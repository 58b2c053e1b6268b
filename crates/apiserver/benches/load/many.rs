//! Many Pods: what `scripts/bench-api` calls around starts of the server and looks at its memory.

use std::sync::Arc;

use crate::objects::{PODS, create_pod, get};
use crate::print;
use crate::server::Server;

/// Creates the Pods with these numbers.
pub(crate) async fn fill(servers: &[Arc<Server>], numbers: &str) {
    let (first, end) = numbers.split_once("..").expect("FIRST..END");
    let (first, end): (usize, usize) = (first.parse().unwrap(), end.parse().unwrap());
    for server in servers {
        let rate = server.load_from(first, end - first, create_pod).await;
        println!(
            "{:<56} {rate:>9.1} /s",
            format!("Pods {first} to {end} created, {}", server.name)
        );
    }
}

/// Pages of 500 a second.
pub(crate) async fn pages(servers: &[Arc<Server>]) {
    let page = |_: usize| get(&format!("{PODS}?limit=500"));
    let mut rates = vec![Vec::new(); servers.len()];
    for _ in 0..3 {
        for (at, server) in servers.iter().enumerate() {
            rates[at].push(server.load(300, page).await);
        }
    }
    print::figures("pages of 500 a second", "/s", servers, &rates, None);
}
