//! Claims that get their volumes when their first pod gets its node.
//!
//! The pod counts as placed meanwhile. What its claims need is written, and then somebody else acts: who binds claims to
//! volumes, and who makes volumes. When all are bound, the pod is; when that takes too long or becomes impossible, it is
//! placed anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_core::event::EventType;
use berth_placement::NodeInfo;
use berth_placement::claims::{
    Step, belongs_to, is_bound, names, reaches, selected_node, volume_name,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};

use crate::queue::PodKey;
use crate::write::Occurrence;

use super::ask::Ask;
use super::{Done, SchedulerTask};

/// How long volumes may take, as with the stock scheduler.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a pod's claims get on its node.
pub(super) struct Claimed {
    reserve: Vec<(PersistentVolume, PersistentVolumeClaim)>,
    provision: Vec<PersistentVolumeClaim>,
}

/// A pod whose claims are being bound.
pub(super) struct Claiming {
    pod: Arc<Pod>,
    node: String,
    until: Instant,
    volumes: Vec<String>,
    /// Claims on which the node has been seen.
    selected: Vec<String>,
}

/// How far a pod's claims are.
enum Progress {
    Bound,
    Waiting,
    Failed(String),
}

impl Claimed {
    /// Nothing where all claims are bound, or there are none.
    pub(super) fn of(ask: &Ask<'_>, node: &NodeInfo) -> Option<Self> {
        let steps = ask.around.claims()?.steps(node.node())?;
        let mut all = Self {
            reserve: Vec::new(),
            provision: Vec::new(),
        };
        for step in &steps {
            match step {
                Step::Reserve(volume, claim) => {
                    all.reserve.push(((*volume).clone(), (*claim).clone()));
                }
                Step::Provision(claim) => all.provision.push((*claim).clone()),
            }
        }
        (!steps.is_empty()).then_some(all)
    }
}

impl SchedulerTask {
    /// Writes what the pod's claims need, and waits for them.
    pub(super) fn bind_claims(&mut self, key: &str, pod: Arc<Pod>, node: String, claimed: Claimed) {
        let volumes: Vec<String> = claimed
            .reserve
            .iter()
            .filter_map(|(volume, _)| volume.metadata.name.clone())
            .collect();
        self.reserved.extend(volumes.iter().cloned());
        let claiming = Claiming {
            pod,
            node: node.clone(),
            until: Instant::now() + PATIENCE,
            volumes,
            selected: Vec::new(),
        };
        self.claiming.insert(key.to_owned(), claiming);
        let (writer, key) = (Arc::clone(&self.writer), key.to_owned());
        self.writes.spawn(async move {
            let write = async {
                for (volume, claim) in &claimed.reserve {
                    writer.reserve(volume, claim).await?;
                }
                for claim in &claimed.provision {
                    writer.select_node(claim, &node).await?;
                }
                Ok(())
            };
            let result = write.await;
            Done::Claimed { key, result }
        });
    }

    /// A claim or a volume is different now.
    pub(super) fn claims_changed(&mut self) {
        let keys: Vec<PodKey> = self.claiming.keys().cloned().collect();
        for key in keys {
            match self.claims_progress(&key) {
                Progress::Waiting => {}
                Progress::Bound => {
                    if let Some(claiming) = self.claiming.get(&key) {
                        let (pod, node) = (Arc::clone(&claiming.pod), claiming.node.clone());
                        self.claims_end(&key);
                        self.bind(key, pod, node);
                    }
                }
                Progress::Failed(why) => self.claims_failed(&key, &why),
            }
        }
    }

    fn claims_progress(&mut self, key: &str) -> Progress {
        let Some(claiming) = self.claiming.get_mut(key) else {
            return Progress::Waiting;
        };
        let namespace = claiming.pod.metadata.namespace.as_deref();
        let mut all = Progress::Bound;
        for (name, _) in names(&claiming.pod) {
            let at = format!("{}/{name}", namespace.unwrap_or_default());
            let Some(claim) = self.claims.all().get(&at) else {
                return Progress::Failed(format!("persistentvolumeclaim {name:?} not found"));
            };
            if claim.metadata.deletion_timestamp.is_some() {
                return Progress::Failed(format!(
                    "persistentvolumeclaim {name:?} is being deleted"
                ));
            }
            if !is_bound(claim) {
                all = Progress::Waiting;
                // Who makes volumes takes the node off when none can be made there.
                let is_selected = selected_node(claim) == Some(&claiming.node);
                if is_selected && !claiming.selected.contains(&name) {
                    claiming.selected.push(name);
                } else if !is_selected && claiming.selected.contains(&name) {
                    return Progress::Failed(format!(
                        "no volume can be made for persistentvolumeclaim {name:?} on node {:?}",
                        claiming.node
                    ));
                }
                continue;
            }
            let volume = self
                .volumes
                .all()
                .get(volume_name(claim).unwrap_or_default());
            let node = self.cache.node(&claiming.node);
            match (volume, node) {
                (Some(volume), Some(node)) if belongs_to(volume, claim) => {
                    if !reaches(volume, node.node()) {
                        return Progress::Failed(format!(
                            "the volume of persistentvolumeclaim {name:?} cannot be reached from node {:?}",
                            claiming.node
                        ));
                    }
                }
                (_, None) => return Progress::Failed(format!("node {:?} is gone", claiming.node)),
                // The watch of volumes is behind that of claims.
                (_, Some(_)) => all = Progress::Waiting,
            }
        }
        all
    }

    /// The pod is placed anew.
    pub(super) fn claims_failed(&mut self, key: &str, why: &str) {
        let Some(pod) = self.claiming.get(key).map(|one| Arc::clone(&one.pod)) else {
            return;
        };
        self.claims_end(key);
        self.cache.forget(key);
        self.queue.retry(key, Instant::now());
        self.events.add(Occurrence {
            pod,
            type_: EventType::Warning,
            reason: "FailedScheduling",
            message: format!("running PreBind plugin \"VolumeBinding\": binding volumes: {why}"),
            at: Timestamp::now(),
        });
    }

    /// The pod's claims are waited for no more. Whether they were.
    pub(super) fn claims_end(&mut self, key: &str) -> bool {
        let Some(claiming) = self.claiming.remove(key) else {
            return false;
        };
        for volume in &claiming.volumes {
            self.reserved.remove(volume);
        }
        true
    }

    /// When the first of those that are waited for is given up.
    pub(super) fn claims_due(&self) -> Option<Instant> {
        self.claiming.values().map(|claiming| claiming.until).min()
    }

    /// Gives up those whose time is over.
    pub(super) fn claims_overdue(&mut self, now: Instant) {
        let over = self.claiming.iter().filter(|(_, one)| one.until <= now);
        let over: Vec<PodKey> = over.map(|(key, _)| key.clone()).collect();
        for key in over {
            self.claims_failed(&key, "context deadline exceeded");
        }
    }
}
