//! What every task of the agent shares.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use berth_supervise::{Outage, Tasks};
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::Config;
use crate::cgroups::PodCgroups;
use crate::classes::Classes;
use crate::cost::Costs;
use crate::cri::Cri;
use crate::devices::Devices;
use crate::events::Recorder;
use crate::images::Images;
use crate::local_path::LocalPath;
use crate::machine::Machine;
use crate::objects::Objects;
use crate::pods::PodHandle;
use crate::probes::Probed;
use crate::runtime::Facts;
use crate::server::Reviews;
use crate::services::Services;
use crate::starts::Starts;
use crate::static_pods::Mirrors;
use crate::swap::Swap;
use crate::tokens::Tokens;
use crate::usage::Usage;
use crate::users::Users;

/// What the machine is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

/// Shared state; each field is owned by the task that its comment names.
pub(crate) struct Agent {
    pub(crate) config: Config,
    /// Owns every task of the agent.
    pub(crate) tasks: Tasks,
    pub(crate) cri: Cri,
    pub(crate) machine: Machine,
    pub(crate) host_ips: Vec<String>,
    /// The port that the HTTPS server got.
    pub(crate) port: u16,
    /// Published by `runtime::keep`.
    pub(crate) runtime: watch::Receiver<Facts>,
    /// Published by `registration::keep`.
    pub(crate) node: watch::Sender<Option<Arc<Node>>>,
    /// Asks `registration::keep` for a fresh status now.
    pub(crate) node_poke: Notify,
    /// Shared by all that write pods' statuses: the server does not answer.
    pub(crate) status_outage: Arc<Mutex<Outage>>,
    /// Asks `garbage::keep` to look now.
    pub(crate) garbage_poke: Notify,
    /// Published by `eviction::keep`.
    pub(crate) pressure: watch::Sender<Pressure>,
    pub(crate) events: Recorder,
    pub(crate) classes: Classes,
    pub(crate) services: Services,
    pub(crate) objects: Objects,
    pub(crate) images: Images,
    pub(crate) tokens: Tokens,
    /// Devices of plugins; those that are connected are followed by `devices::keep`'s tasks.
    pub(crate) devices: Devices,
    pub(crate) cgroups: PodCgroups,
    pub(crate) swap: Swap,
    pub(crate) reviews: Reviews,
    pub(crate) users: Users,
    /// What was seen of the use of resources.
    pub(crate) usage: Usage,
    /// Counted by the probes' tasks.
    pub(crate) probed: Probed,
    /// Kept by `cost::keep`.
    pub(crate) costs: Costs,
    /// Where the time of pods' starts went.
    pub(crate) starts: Starts,
    /// Held while a resize is granted.
    pub(crate) granting: Mutex<()>,
    /// Volumes that are directories of this node.
    pub(crate) local_path: LocalPath,
    /// Held while it is noted which pod has a claim.
    pub(crate) claiming: Mutex<()>,
    /// Pods of the API that stand for static ones; seen by `pods::keep`.
    pub(crate) mirrors: Mirrors,
    /// Kept by `pods::keep` and `static_pods::keep`: workers by pod uid.
    pub(crate) pods: Mutex<HashMap<String, Arc<PodHandle>>>,
}

impl Agent {
    /// The pod's own directory.
    pub(crate) fn pod_dir(&self, pod: &Pod) -> PathBuf {
        let uid = pod.metadata.uid.as_deref().unwrap_or("unknown");
        self.config.root_dir.join("pods").join(uid)
    }

    /// The pod comes from a file of this machine.
    pub(crate) fn is_static(&self, pod: &Pod) -> bool {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.pods.lock().get(uid).is_some_and(|h| h.is_static())
    }

    /// Wakes the worker of a pod, if there is one.
    pub(crate) fn wake(&self, uid: &str) {
        if let Some(handle) = self.pods.lock().get(uid) {
            handle.wake.notify_one();
        }
    }

    /// Wakes the workers of pods whose resize waits for room.
    pub(crate) fn wake_deferred(&self) {
        for handle in self.handles() {
            if handle.deferred.load(Ordering::SeqCst) {
                handle.wake.notify_one();
            }
        }
    }

    /// All pods now on this node.
    pub(crate) fn handles(&self) -> Vec<Arc<PodHandle>> {
        self.pods.lock().values().cloned().collect()
    }
}
