//! Gives each Node the addresses of its pods (`spec.podCIDRs`), where the cluster's are shared out by it: the node IPAM
//! controller. What they are is decided in `berth_workloads::node_cidrs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use berth_core::event::EventType;
use berth_supervise::measures::WorkQueue;
use berth_supervise::{Brief, Outage};
use berth_workloads::Event;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Reflected;
use crate::record::Recorder;
use crate::server::is_code;

pub use berth_workloads::node_cidrs::{ClusterCidrError, ClusterCidrs};

const MEASURES: WorkQueue = WorkQueue::new("node_ipam");
/// A node for which nothing was left is looked at again after this, as another may have gone.
const PERIOD: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(2);

/// What is shared out.
#[derive(Debug, Clone)]
pub struct NodeCidrs {
    /// The addresses of all pods.
    pub cluster: ClusterCidrs,
    /// Those of Services, which no node gets.
    pub services: Vec<IpNet>,
}

/// Runs until `shutdown`.
pub async fn run(
    client: Client,
    cidrs: NodeCidrs,
    mut nodes: Reflected<Node>,
    shutdown: CancellationToken,
) {
    let mut controller = Controller {
        api: Api::all(client.clone()),
        recorder: Recorder::new(client, "cidrAllocator"),
        cidrs,
        given: HashMap::new(),
    };
    let mut outage = Outage::new("cannot give a node the addresses of its pods");
    loop {
        let mut pause = PERIOD;
        if nodes.is_complete() {
            match controller.look(&nodes.all()).await {
                Ok(()) => outage.works(),
                Err(error) => pause = outage.failed(Brief(&error)).min(AGAIN),
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = nodes.changed_or(pause) => {}
        }
    }
}

struct Controller {
    api: Api<Node>,
    recorder: Recorder,
    cidrs: NodeCidrs,
    /// What was written and may not be seen yet, by the node's UID: what is not seen is not free.
    given: HashMap<String, Vec<String>>,
}

impl Controller {
    async fn look(&mut self, nodes: &[Arc<Node>]) -> kube::Result<()> {
        let seen = self.with_given(nodes);
        let all = seen.iter().map(Arc::as_ref);
        let parts = self.cidrs.cluster.assign(all, &self.cidrs.services);
        let mut failed = None;
        for node in seen {
            let name = node.name_any();
            let Some(parts) = parts.get(&name) else {
                continue;
            };
            let Some(parts) = parts else {
                self.tell_none_left(&node).await;
                continue;
            };
            let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
            // The next node may not get these, whatever became of this write.
            let uid = node.uid().unwrap_or_default();
            self.given.insert(uid.clone(), parts.clone());
            let written = self.write(&node, &parts);
            if let Err(error) = MEASURES.look(written).await {
                self.given.remove(&uid);
                // One that can't be written keeps nothing from the others.
                failed = Some(error);
                continue;
            }
            info!(
                node = name,
                cidrs = parts.join(","),
                "gave the node the addresses of its pods"
            );
        }
        failed.map_or(Ok(()), Err)
    }

    /// The nodes, with what they were given and don't show yet.
    fn with_given(&mut self, nodes: &[Arc<Node>]) -> Vec<Arc<Node>> {
        let has = |node: &Node| {
            let spec = node.spec.as_ref();
            spec.is_some_and(|s| s.pod_cidr.is_some() || s.pod_cidrs.is_some())
        };
        let uids: HashMap<String, bool> = nodes
            .iter()
            .map(|node| (node.uid().unwrap_or_default(), has(node)))
            .collect();
        self.given.retain(|uid, _| uids.get(uid) == Some(&false));
        let seen = nodes.iter().map(|node| {
            let mut node = Arc::clone(node);
            let uid = node.uid().unwrap_or_default();
            if let Some(given) = self.given.get(&uid) {
                let spec = &mut Arc::make_mut(&mut node).spec;
                spec.get_or_insert_default().pod_cidrs = Some(given.clone());
            }
            node
        });
        seen.collect()
    }

    async fn write(&self, node: &Node, parts: &[String]) -> kube::Result<()> {
        let patch = json!({
            "metadata": {"uid": node.metadata.uid},
            "spec": {"podCIDR": parts.first(), "podCIDRs": parts},
        });
        let params = PatchParams::default();
        let name = node.name_any();
        match self.api.patch(&name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => Ok(()),
            // Gone, or another one of its name.
            Err(error) if is_code(&error, &[404, 409]) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn tell_none_left(&self, node: &Node) {
        let name = node.name_any();
        warn!(
            node = name,
            "no addresses are left for the node's pods: the cluster's range (--cluster-cidr) is given out"
        );
        let event = Event {
            type_: EventType::Normal,
            reason: "CIDRNotAvailable",
            message: format!("Node {name} status is now: CIDRNotAvailable"),
        };
        self.recorder.record(node, &event).await;
    }
}
