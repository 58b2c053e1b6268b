//! How a pod's start waits until its policies are in force.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use berth_supervise::Brief;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use kube::api::{Api, ListParams};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::model::{Pod, Policy};

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
    #[error("the rules of its network were not written within {} s", PATIENCE.as_secs())]
    Slow,
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
    pub(crate) node_port: Arc<AtomicU16>,
}

impl PolicyHandle {
    /// Waits until all policies that are there now hold for the pod, which has joined its network.
    ///
    /// # Errors
    /// When they do not: its containers must not start then.
    pub async fn in_force(&self, pod: &ApiPod) -> Result<(), NotInForce> {
        tokio::time::timeout(PATIENCE, self.ask(pod))
            .await
            .unwrap_or(Err(NotInForce::Slow))
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
        self.node_port.store(port, Ordering::Relaxed);
    }

    /// Pods that are closed, as that changes.
    #[must_use]
    pub fn closed(&self) -> watch::Receiver<Closed> {
        self.closed.clone()
    }
}
