//! Devices of plugins (`v1beta1`, KEP-3573): what this node has of them, which pod has which.
//!
//! ```text
//!   plugin --Register--> registry.rs --> plugin.rs --ListAndWatch--> state.rs --> the Node's capacity
//!   pod --admission--> allocate.rs --GetPreferredAllocation, Allocate--> record.rs (pods/UID/devices.json)
//!   container --start--> PreStartContainer, then answer.rs: what the plugin said, as CRI has it
//! ```
//!
//! A record is written before a pod is admitted and goes with the pod's directory, so that an agent that was killed
//! gives no device to two pods. A record that cannot be read holds up every new allocation, since it is not known what
//! its pod has.

pub(crate) mod allocate;
mod answer;
mod plugin;
mod record;
pub(crate) mod registry;
mod state;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{ResourceHealth, ResourceStatus};
use parking_lot::Mutex;

pub(crate) use answer::{Additions, AnswerError};
pub(crate) use record::Allocated;

use record::PodDevices;
use state::{Count, State};

/// All that is known of devices; cheap to clone.
#[derive(Clone)]
pub(crate) struct Devices {
    state: Arc<Mutex<State>>,
    /// `pods` in the agent's root directory.
    pods: PathBuf,
    /// Names of the resources that plugins have ever had here.
    names: PathBuf,
}

/// The healthy devices of a resource: their ids, each with its NUMA nodes.
type HealthyDevices = Vec<(String, Vec<i64>)>;

/// One container's devices of one resource, for whoever asks.
pub(crate) struct Held {
    pub(crate) resource: String,
    pub(crate) ids: Vec<String>,
}

impl Devices {
    /// Reads what an earlier agent has left.
    pub(crate) fn load(root: &Path) -> Self {
        let pods = root.join("pods");
        let names = root.join("device-plugins.json");
        let (held, unreadable) = record::read_all(&pods);
        let known = record::read_names(&names);
        Self {
            state: Arc::new(Mutex::new(State::new(known, held, unreadable))),
            pods,
            names,
        }
    }

    /// How many devices there are, by resource.
    pub(crate) fn counts(&self) -> BTreeMap<String, Count> {
        self.state.lock().counts(Instant::now())
    }

    /// The healthy devices, by resource.
    pub(crate) fn healthy(&self) -> Vec<(String, HealthyDevices)> {
        self.state.lock().healthy()
    }

    /// What the containers of a pod hold.
    pub(crate) fn held(&self, uid: &str) -> BTreeMap<String, Vec<Held>> {
        let state = self.state.lock();
        let pod = state.pods.get(uid);
        let containers = pod.into_iter().flat_map(|pod| &pod.containers);
        containers
            .map(|(name, resources)| {
                let held = resources.iter().map(|(resource, allocated)| Held {
                    resource: resource.clone(),
                    ids: allocated.ids.clone(),
                });
                (name.clone(), held.collect())
            })
            .collect()
    }

    /// The NUMA nodes of devices.
    pub(crate) fn numa(&self, resource: &str, ids: &[String]) -> Vec<i64> {
        self.state.lock().numa(resource, ids)
    }

    /// The health of what the containers of a pod hold, for its status (KEP-4680).
    pub(crate) fn statuses(&self, uid: &str) -> BTreeMap<String, Vec<ResourceStatus>> {
        let state = self.state.lock();
        let Some(pod) = state.pods.get(uid) else {
            return BTreeMap::new();
        };
        let status = |resource: &String, allocated: &Allocated| ResourceStatus {
            name: resource.clone(),
            resources: Some(
                allocated
                    .ids
                    .iter()
                    .map(|id| ResourceHealth {
                        resource_id: id.clone(),
                        health: Some(state.health(resource, id).to_owned()),
                        ..ResourceHealth::default()
                    })
                    .collect(),
            ),
        };
        pod.containers
            .iter()
            .map(|(name, resources)| {
                let all = resources.iter().map(|(r, a)| status(r, a));
                (name.clone(), all.collect())
            })
            .collect()
    }

    /// What the plugins want done to a container.
    pub(crate) fn additions(&self, uid: &str, container: &str) -> Result<Additions, AnswerError> {
        let state = self.state.lock();
        let pod = state.pods.get(uid);
        let resources = pod.and_then(|pod| pod.containers.get(container));
        answer::additions(resources.into_iter().flatten().map(|(_, a)| &a.answer))
    }

    /// A pod is over: what it had is free.
    pub(crate) fn release(&self, uid: &str) {
        let removed = self.state.lock().pods.remove(uid).is_some();
        if removed {
            record::remove(&self.pods.join(uid));
        }
    }

    /// Frees what pods have had whose directories are gone.
    pub(crate) fn retain(&self, known: &HashSet<String>) {
        let pods = &self.pods;
        let keep = |uid: &String| known.contains(uid) || pods.join(uid).exists();
        self.state.lock().pods.retain(|uid, _| keep(uid));
    }

    fn save(&self, uid: &str) -> std::io::Result<()> {
        let pod: Option<PodDevices> = self.state.lock().pods.get(uid).cloned();
        match pod {
            Some(pod) => record::write(&self.pods.join(uid), &pod),
            None => Ok(()),
        }
    }
}
