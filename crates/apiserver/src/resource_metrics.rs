//! metrics.k8s.io: what nodes and pods use of processor and memory, for `kubectl top` and autoscalers.
//!
//! The numbers come from the nodes' own servers (`/metrics/resource`, which a stock kubelet has as well). They are asked
//! only while somebody wants to know: one task ([`scrape`]) begins with the first request and ends a few minutes after the
//! last one, so that a cluster that nobody looks at has nothing to do. Each server of several asks for itself.
//!
//! A node's word counts for the node itself and for the containers of pods that are bound to it; what it says of others is
//! dropped unread, and so is everything that [`samples`] finds no sense in.
//!
//! The rows of the group are optional ones of the registry: an APIService with a Service for the same group and version (a
//! real metrics-server) takes their place ([`crate::aggregation`]).

mod exposition;
mod kinds;
mod quantity;
mod samples;
mod scrape;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use berth_api::status::ApiError;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use self::samples::{NodeRecord, Usage};
use crate::kind::Kind;
use crate::metadata as meta;
use crate::registry::{Measured, Resource};
use crate::storage::Stored;

pub(crate) use scrape::run;

/// The group.
pub(crate) const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub(crate) const VERSION: &str = "v1beta1";
/// How long nodes are asked after the last request.
const KEEP: Duration = Duration::from_secs(180);
/// How long the first request waits for two samples.
const FIRST_ANSWER: Duration = Duration::from_secs(6);
/// What a node said longer ago is no longer told.
const STALE: Duration = Duration::from_secs(60);

/// The rows of the group.
pub(crate) fn rows() -> Vec<Resource> {
    fn row<K: Kind>(schema: Value) -> Resource {
        let mut row = crate::kinds::row::<K>();
        row.schemas
            .insert(VERSION.to_owned(), schema.to_string().into());
        row
    }
    vec![
        row::<kinds::NodeMetrics>(kinds::node_schema()),
        row::<kinds::PodMetrics>(kinds::pod_schema()),
    ]
}

/// What is known, and whether somebody wants to know.
pub(crate) struct ResourceMetrics {
    /// By the name of the node.
    records: Mutex<HashMap<Box<str>, NodeRecord>>,
    /// Nodes that gave nothing the last time: they are asked last.
    failing: Mutex<HashSet<Box<str>>>,
    asked: Mutex<Option<Instant>>,
    wake: Notify,
    /// Rounds that have ended since nodes are asked.
    rounds: watch::Sender<u64>,
    /// Whether this server can reach nodes at all.
    can_ask: bool,
}

impl ResourceMetrics {
    pub(crate) fn new(can_ask: bool) -> Self {
        Self {
            records: Mutex::default(),
            failing: Mutex::default(),
            asked: Mutex::default(),
            wake: Notify::new(),
            rounds: watch::Sender::new(0),
            can_ask,
        }
    }

    /// Says that somebody wants to know, and waits until there are two samples to compare, or as long as a first answer
    /// may take.
    ///
    /// # Errors
    /// `ServiceUnavailable` when this server has no certificate for nodes.
    pub(crate) async fn ready(&self, deadline: Instant) -> Result<(), ApiError> {
        if !self.can_ask {
            return Err(ApiError::ServiceUnavailable(
                "this server was started without a client certificate for nodes: it cannot ask them what their pods use"
                    .to_owned(),
            ));
        }
        *self.asked.lock() = Some(Instant::now());
        self.wake.notify_one();
        let mut rounds = self.rounds.subscribe();
        let until = deadline.min(Instant::now() + FIRST_ANSWER);
        // Without two rounds in time what there is is told: containers say themselves when they began.
        let _ = tokio::time::timeout_at(until, rounds.wait_for(|rounds| *rounds >= 2)).await;
        Ok(())
    }

    /// What a node or pod uses, as an object of the group; none: nothing is known of it.
    pub(crate) fn of(&self, what: Measured, object: &Stored) -> Option<Value> {
        let records = self.records.lock();
        match what {
            Measured::Nodes => {
                let record = fresh(records.get(&*object.name)?)?;
                if record.uid() != &*object.uid {
                    return None;
                }
                let usage = record.node()?;
                let mut value = head("NodeMetrics", object, usage);
                value["usage"] = amounts(usage);
                Some(value)
            }
            Measured::Pods => {
                let node = bound_to(object)?;
                let record = fresh(records.get(node.as_str())?)?;
                let containers = record.pod(&object.uid)?;
                let oldest = containers.iter().map(|(_, usage)| *usage);
                let oldest = oldest.min_by_key(|usage| usage.time_ms)?;
                let mut value = head("PodMetrics", object, oldest);
                let containers = containers
                    .into_iter()
                    .map(|(name, usage)| json!({"name": name, "usage": amounts(usage)}));
                value["containers"] = containers.collect();
                Some(value)
            }
        }
    }

    /// Whether nodes are to be asked.
    fn is_wanted(&self) -> bool {
        self.asked.lock().is_some_and(|at| at.elapsed() < KEEP)
    }

    /// Forgets everything, which would be told as if it were new; not when somebody has asked meanwhile.
    fn forget(&self) -> bool {
        let asked = self.asked.lock();
        if asked.is_some_and(|at| at.elapsed() < KEEP) {
            return false;
        }
        self.records.lock().clear();
        self.failing.lock().clear();
        self.rounds.send_replace(0);
        true
    }
}

fn fresh(record: &NodeRecord) -> Option<&NodeRecord> {
    (record.seen().elapsed() < STALE).then_some(record)
}

/// The node of a pod.
fn bound_to(pod: &Stored) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Pod {
        spec: Spec,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        node_name: Option<String>,
    }
    let pod: Pod = serde_json::from_slice(&pod.bytes).ok()?;
    pod.spec.node_name
}

fn head(kind: &str, object: &Stored, usage: Usage) -> Value {
    let mut metadata = json!({
        "name": &*object.name,
        "creationTimestamp": meta::time(jiff::Timestamp::now()),
    });
    if !object.namespace.is_empty() {
        metadata["namespace"] = json!(&*object.namespace);
    }
    if !object.labels.is_empty() {
        let labels = object.labels.iter();
        let labels = labels.map(|(key, value)| (key.to_string(), json!(&**value)));
        metadata["labels"] = Value::Object(labels.collect());
    }
    let at = jiff::Timestamp::from_millisecond(usage.time_ms).unwrap_or_default();
    json!({
        "kind": kind,
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": metadata,
        "timestamp": meta::time(at),
        "window": quantity::duration(usage.window_ms),
    })
}

fn amounts(usage: Usage) -> Value {
    json!({"cpu": quantity::cores(usage.nanocores), "memory": quantity::bytes(usage.memory)})
}
