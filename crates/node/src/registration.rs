//! The Node object and its Lease: created, kept true, renewed.

mod cidrs;
mod features;
mod lease;
mod object;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_core::annotations::{BROKEN_HANDLERS, NODE_FEATURES};
use berth_core::isolation::HANDLERS;
use berth_supervise::{Brief, Outage};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::Api;
use kube::api::Patch;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::agent::Agent;
use crate::cri::rpc_message;
use crate::runtime::Facts;
use crate::writes;

use cidrs::Cidrs;
pub(crate) use lease::keep as keep_lease;
pub(crate) use object::{allocatable, own_labels};

/// How often the status is computed; it is written only when it changed or is old.
const LOOK: Duration = Duration::from_secs(10);

/// An API server or a runtime that takes longer does not answer.
const LIMIT: Duration = Duration::from_secs(30);

/// At the start the runtime gets this long to say that it is ready, before the Node says that it is not.
const FIRST: Duration = Duration::from_secs(2);

/// Registers the node and keeps its status true until `shutdown`.
pub(crate) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    let api: Api<Node> = Api::all(agent.config.client.clone());
    let mut facts = agent.runtime.clone();
    let mut written: Option<(NodeStatus, Timestamp)> = None;
    let mut registered = false;
    let mut cidrs = Cidrs::default();
    let mut untold = Outage::new("cannot tell the runtime the addresses of this node's pods");
    let mut outage = Outage::new("cannot write the node's status");
    // A node that only restarts its agent need not be seen as not ready for a moment.
    tokio::select! {
        () = shutdown.cancelled() => return,
        _ = facts.wait_for(Facts::is_ready) => {}
        () = tokio::time::sleep(FIRST) => {}
    }
    loop {
        let mut pause = LOOK;
        let before = registered;
        let step = step(&agent, &api, &mut registered, &mut written, &cidrs);
        match tokio::time::timeout(LIMIT, step).await {
            Ok(Ok(())) => outage.works(),
            Ok(Err(error)) => {
                registered = false;
                pause = outage.failed(Brief(&error));
            }
            Err(_) => {
                registered = false;
                pause = outage.failed("no answer in 30 s");
            }
        }
        if registered && !before {
            cidrs = Cidrs::default();
        }
        let is_ready = facts.borrow().is_ready();
        let known = agent.node.borrow().clone();
        if !is_ready {
            cidrs.forget();
        } else if let Some(node) = known {
            match cidrs.tell(&agent, &node).await {
                Ok(()) => untold.works(),
                Err(status) => pause = untold.failed(rpc_message(&status)).min(pause),
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = facts.changed() => if changed.is_err() { return },
            () = agent.node_poke.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn step(
    agent: &Agent,
    api: &Api<Node>,
    registered: &mut bool,
    written: &mut Option<(NodeStatus, Timestamp)>,
    cidrs: &Cidrs,
) -> Result<(), kube::Error> {
    let name = &agent.config.node_name;
    if !*registered {
        let node = register(agent, api).await?;
        *written = node.status.clone().map(|s| (s, Timestamp::UNIX_EPOCH));
        agent.node.send_replace(Some(Arc::new(node)));
        *registered = true;
    }
    let known = agent.node.borrow().clone();
    if cidrs.are_awaited(known.as_deref()) {
        let node = api.get(name).await?;
        agent.node.send_replace(Some(Arc::new(node)));
    }
    tell_handlers(agent, api).await?;
    let now = Timestamp::now();
    let images = agent.images.list_for_node().await;
    let pressure = *agent.pressure.borrow();
    let old = written.as_ref().map(|(s, _)| s);
    let status = object::status(agent, &images, &pressure, old, now);
    let interval = jiff::SignedDuration::try_from(agent.config.status_report_interval)
        .unwrap_or(jiff::SignedDuration::from_secs(300));
    if let Some((last, at)) = written
        && object::same(last, &status)
        && now.duration_since(*at) < interval
    {
        return Ok(());
    }
    let patch = json!({"status": status});
    let node = api
        .patch_status(name, &writes::patch(), &Patch::Strategic(&patch))
        .await?;
    announce(agent, written.as_ref().map(|(s, _)| s), &status);
    agent.node.send_replace(Some(Arc::new(node)));
    *written = Some((status, now));
    Ok(())
}

/// Keeps the annotations that say which handlers cannot run, how far the others keep pods apart, and what pods may need besides;
/// the API server and `berth check` read them.
async fn tell_handlers(agent: &Agent, api: &Api<Node>) -> Result<(), kube::Error> {
    let node = agent.node.borrow().clone();
    let Some(node) = node else {
        return Ok(());
    };
    let wanted = annotations(agent);
    let empty = BTreeMap::new();
    let have = node.metadata.annotations.as_ref().unwrap_or(&empty);
    let changed: BTreeMap<&str, Option<String>> = wanted
        .into_iter()
        .filter(|(key, value)| have.get(*key) != value.as_ref())
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let patch = json!({"metadata": {"annotations": changed}});
    let name = &agent.config.node_name;
    let node = api
        .patch(name, &writes::patch(), &Patch::Merge(&patch))
        .await?;
    agent.node.send_replace(Some(Arc::new(node)));
    Ok(())
}

/// The annotations of the Node as they should be; `None` for one that should not be there.
fn annotations(agent: &Agent) -> [(&'static str, Option<String>); 3] {
    let facts = agent.runtime.borrow();
    let broken = (!facts.broken.is_empty()).then(|| serde_json::to_string(&facts.broken).ok());
    let levels = facts.isolation_levels();
    let isolation: BTreeMap<&String, &str> = levels
        .iter()
        .map(|(name, level)| (name, level.as_str()))
        .collect();
    let isolation = (!isolation.is_empty()).then(|| serde_json::to_string(&isolation).ok());
    let features = features::of(&agent.config.root_dir.join("seccomp"));
    [
        (BROKEN_HANDLERS, broken.flatten()),
        (HANDLERS, isolation.flatten()),
        (NODE_FEATURES, serde_json::to_string(&features).ok()),
    ]
}

/// Says what a person looks for in the node's events: that it is ready, or no longer is.
fn announce(agent: &Agent, old: Option<&NodeStatus>, new: &NodeStatus) {
    let ready = |s: &NodeStatus| {
        s.conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let name = &agent.config.node_name;
    let before = old.is_some_and(ready);
    if before == ready(new) {
        return;
    }
    let reason = if ready(new) {
        "NodeReady"
    } else {
        "NodeNotReady"
    };
    info!(node = %name, "{reason}");
    agent.events.node(
        name,
        berth_core::event::EventType::Normal,
        reason,
        format!("Node {name} status is now: {reason}"),
    );
}

/// Creates the Node, or brings the labels of an older one up to date.
async fn register(agent: &Agent, api: &Api<Node>) -> Result<Node, kube::Error> {
    let name = &agent.config.node_name;
    let fresh = object::node(agent);
    match api.create(&writes::create(), &fresh).await {
        Ok(node) => {
            info!(node = %name, "registered");
            return Ok(node);
        }
        Err(kube::Error::Api(s)) if s.is_already_exists() || s.code == 409 => {}
        Err(e) => return Err(e),
    }
    let node = api.get(name).await?;
    let labels = fresh.metadata.labels.unwrap_or_default();
    let have = node.metadata.labels.as_ref();
    let stale = labels
        .iter()
        .any(|(k, v)| have.and_then(|h| h.get(k)) != Some(v));
    if !stale {
        return Ok(node);
    }
    warn!(node = %name, "bringing the labels of the existing node up to date");
    let patch = json!({"metadata": {"labels": labels}});
    api.patch(name, &writes::patch(), &Patch::Merge(&patch))
        .await
}
