//! Asks the nodes, while somebody wants to know.
//!
//! One task. Rounds follow each other every [`PERIOD`]; the first two are close together, so that the first request gets
//! numbers after about a second. A round asks so many nodes at a time, those that gave nothing before last, and ends in time
//! for the next one: nodes that hang cost others nothing but their turn in this round.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ResourceMetrics;
use super::samples::{BoundPod, NodeRecord};
use crate::log_limit::LogLimit;
use crate::proxy::NodeClient;
use crate::storage::{Storage, Stored};

const NODES: &str = "core/nodes";
const PODS: &str = "core/pods";
const PATH: &str = "/metrics/resource";
/// From round to round.
const PERIOD: Duration = Duration::from_secs(15);
/// Between the first two.
const FIRST: Duration = Duration::from_secs(1);
/// How long a node may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The same in the first two rounds, which somebody waits for.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// Nodes that are asked at a time.
const AT_A_TIME: usize = 16;
/// Bytes of a node's answer: a thousand containers have about half a megabyte.
const MAX_ANSWER: usize = 4 << 20;

/// Works until `shutdown`.
pub(crate) async fn run(
    metrics: Arc<ResourceMetrics>,
    client: Option<NodeClient>,
    storage: Arc<Storage>,
    shutdown: CancellationToken,
) {
    let Some(client) = client else {
        return shutdown.cancelled().await;
    };
    let scraper = Scraper {
        metrics,
        client,
        storage,
        log: LogLimit::default(),
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = scraper.work() => {}
    }
}

struct Scraper {
    metrics: Arc<ResourceMetrics>,
    client: NodeClient,
    storage: Arc<Storage>,
    log: LogLimit,
}

impl Scraper {
    async fn work(&self) {
        loop {
            while !self.metrics.is_wanted() {
                self.metrics.wake.notified().await;
            }
            let mut next = Instant::now();
            for round in 1_u64.. {
                let first = round <= 2;
                let limit = if first { FIRST_ANSWER } else { ANSWER };
                let all = self.round(limit);
                // Those that were not reached keep what they said before, and are told for a while.
                let _ = tokio::time::timeout(if first { limit * 2 } else { PERIOD }, all).await;
                self.metrics.rounds.send_replace(round);
                next += if round == 1 { FIRST } else { PERIOD };
                next = next.max(Instant::now());
                tokio::time::sleep_until(next).await;
                if self.metrics.forget() {
                    break;
                }
            }
        }
    }

    async fn round(&self, limit: Duration) {
        let mut nodes = self.storage.list(NODES, None);
        {
            let known: HashSet<&str> = nodes.iter().map(|node| &*node.name).collect();
            let is_known = |name: &str| known.contains(name);
            self.metrics.records.lock().retain(|name, _| is_known(name));
            let mut failing = self.metrics.failing.lock();
            failing.retain(|name| is_known(name));
            nodes.sort_by_key(|node| failing.contains(&*node.name));
        }
        futures::stream::iter(nodes)
            .for_each_concurrent(AT_A_TIME, |node| async move {
                let asked = tokio::time::timeout(limit, self.ask(&node)).await;
                let failed = match asked {
                    Ok(Ok(())) => {
                        self.metrics.failing.lock().remove(&*node.name);
                        return;
                    }
                    Ok(Err(why)) => why,
                    Err(_) => format!("no answer within {} seconds", limit.as_secs()),
                };
                self.metrics.failing.lock().insert(node.name.as_ref().into());
                if let Some(suppressed) = self.log.pass() {
                    tracing::warn!(node = %node.name, error = failed, suppressed, "a node did not say what its pods use");
                }
            })
            .await;
    }

    async fn ask(&self, node: &Stored) -> Result<(), String> {
        let value = node.value().map_err(|error| error.to_string())?;
        let answer = self
            .client
            .fetch(&value, PATH, MAX_ANSWER, &self.storage)
            .await;
        let answer = answer.map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(&answer).map_err(|error| error.to_string())?;
        let now = (Instant::now(), jiff::Timestamp::now().as_millisecond());
        let mut records = self.metrics.records.lock();
        let record = records
            .entry(node.name.as_ref().into())
            .or_insert_with(|| NodeRecord::new(&node.uid, now.0));
        if record.uid() != &*node.uid {
            *record = NodeRecord::new(&node.uid, now.0);
        }
        record.take(text, now, |namespace, name| {
            bound(&self.storage, &node.name, namespace, name)
        });
        Ok(())
    }
}

/// A pod, if it is bound to the node.
fn bound(storage: &Storage, node: &str, namespace: &str, name: &str) -> Option<BoundPod> {
    #[derive(Deserialize)]
    struct Pod {
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        node_name: Option<String>,
        #[serde(default)]
        containers: Vec<Container>,
        #[serde(default)]
        init_containers: Vec<Container>,
        #[serde(default)]
        ephemeral_containers: Vec<Container>,
    }
    #[derive(Deserialize)]
    struct Container {
        name: Box<str>,
    }
    let stored = storage.get(PODS, namespace, name)?;
    let spec = serde_json::from_slice::<Pod>(&stored.bytes).ok()?.spec;
    if spec.node_name.as_deref() != Some(node) {
        return None;
    }
    let all = spec.containers.into_iter().chain(spec.init_containers);
    let all = all.chain(spec.ephemeral_containers);
    Some(BoundPod {
        uid: stored.uid.clone(),
        containers: all.map(|container| container.name).collect(),
    })
}
