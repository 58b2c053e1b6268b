//! How a pod's start waits until its policies are in force.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_supervise::{Brief, unblock};
use k8s_openapi::api::core::v1::Pod as ApiPod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use kube::api::{Api, ListParams};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::links;
use super::model::{Pod, Policy};
use super::network::Told;
use super::port::{self, PortError};

/// How long a pod's start waits: until everything was listed once, and the rules are written.
const PATIENCE: Duration = Duration::from_secs(30);
/// Policies of the pod's namespace that are read before it starts. Where there are more the watch has them.
const PAGE: u32 = 500;

/// Why a pod's policies are not in force.
#[derive(Clone, Debug, Error)]
pub enum NotInForce {
    /// The API server doesn't say which there are.
    #[error("cannot read the NetworkPolicies of namespace {namespace:?}: {reason}")]
    Read {
        /// The pod's namespace.
        namespace: String,
        /// What it said.
        reason: String,
    },
    /// The rules can't be made, or written.
    #[error("{0}")]
    Refused(String),
    /// It takes too long.
    #[error("the rules of its network were not written within {} s{}", PATIENCE.as_secs(), because(.lacking))]
    Slow {
        /// What could not be read so far.
        lacking: Vec<&'static str>,
    },
}

fn because(lacking: &[&str]) -> String {
    match lacking {
        [] => String::new(),
        some => format!(": these are not known yet: {}", some.join(", ")),
    }
}

/// A pod that is about to start.
pub(crate) struct Start {
    pub(crate) pod: Pod,
    /// The policies of its namespace as of now.
    pub(crate) policies: Vec<Policy>,
    pub(crate) done: oneshot::Sender<Result<(), String>>,
}

/// Pods by UID that are closed, and why.
pub type Closed = Arc<BTreeMap<String, String>>;

/// Asks for a pod's policies to be in force.
#[derive(Clone)]
pub struct PolicyHandle {
    pub(crate) client: Client,
    pub(crate) starts: mpsc::Sender<Start>,
    pub(crate) closed: watch::Receiver<Closed>,
    pub(crate) lacking: watch::Receiver<Vec<&'static str>>,
    pub(crate) told: Arc<watch::Sender<Told>>,
    pub(crate) marks_ports: bool,
}

impl PolicyHandle {
    /// Waits until all policies that are there now hold for the pod, which has joined its network.
    ///
    /// # Errors
    /// When they do not: its containers must not start then.
    pub async fn in_force(&self, pod: &ApiPod) -> Result<(), NotInForce> {
        let asked = tokio::time::timeout(PATIENCE, self.ask(pod)).await;
        asked.unwrap_or_else(|_| {
            let lacking = self.lacking.borrow().clone();
            Err(NotInForce::Slow { lacking })
        })
    }

    async fn ask(&self, pod: &ApiPod) -> Result<(), NotInForce> {
        // What the API server says of it before its first status: it is here, and not over.
        let Some(pod) = Pod::parse(pod) else {
            return Err(NotInForce::Refused(
                "the pod has no node or no UID".to_owned(),
            ));
        };
        // Whoever has made a policy and then a pod relies on it. The watch may be behind.
        let namespace = &pod.key.namespace;
        let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), namespace);
        let found = api.list(&ListParams::default().limit(PAGE)).await;
        let found = found.map_err(|error| NotInForce::Read {
            namespace: namespace.clone(),
            reason: Brief(&error).to_string(),
        })?;
        let policies = found.items.iter().filter_map(Policy::parse).collect();
        let (done, answer) = oneshot::channel();
        let start = Start {
            pod,
            policies,
            done,
        };
        let gone =
            || NotInForce::Refused("what keeps the rules of pods' networks has ended".to_owned());
        self.starts.send(start).await.map_err(|_| gone())?;
        let answer = answer.await.map_err(|_| gone())?;
        answer.map_err(NotInForce::Refused)
    }

    /// Says at which port the node's own API is: classes may deny it.
    pub fn node_serves(&self, port: u16) {
        self.told.send_if_modified(|told| {
            let before = std::mem::replace(&mut told.node_port, port);
            before != port
        });
    }

    /// Says on which bridge pods are, or why on none, where that was not configured. The first bridge stays.
    pub fn pods_are_on(&self, bridge: Result<String, String>) {
        self.told.send_if_modified(|told| {
            let before = told.bridge.replace(bridge);
            before != told.bridge
        });
    }

    /// Whether pods' ports have to be marked before [`in_force`](Self::in_force) is asked.
    #[must_use]
    pub fn marks_ports(&self) -> bool {
        self.marks_ports
    }

    /// Whether it has to be said on which bridge pods are.
    #[must_use]
    pub fn is_bridge_known(&self) -> bool {
        self.told.borrow().bridge.is_some()
    }

    /// Whether a port of the bridge is marked as that of the pod; nothing while the bridge, or that, is not known.
    pub async fn has_port(&self, uid: String) -> Option<bool> {
        let bridge = self.told.borrow().bridge.clone()?.ok()?;
        let links = unblock(move || links::of_bridge(&bridge)).await.ok()?;
        Some(links.iter().any(|link| link.uid == uid))
    }

    /// Marks the port of the bridge that leads to a network namespace as that of the pod, unless it is marked already. Nothing of
    /// the pod may have run yet: it could have changed its hardware address.
    ///
    /// # Errors
    /// When there isn't exactly one such port, or the kernel refuses.
    pub async fn mark_port(
        &self,
        uid: String,
        netns: PathBuf,
        addresses: Vec<IpAddr>,
    ) -> Result<(), PortError> {
        let bridge = self.told.borrow().bridge.clone().and_then(Result::ok);
        unblock(move || port::mark(bridge.as_deref(), &uid, &netns, &addresses)).await
    }

    /// Pods that are closed, as that changes.
    #[must_use]
    pub fn closed(&self) -> watch::Receiver<Closed> {
        self.closed.clone()
    }
}
