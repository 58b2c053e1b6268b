//! Where the persistent volumes of a pod let it run, and what its claims need on a node.
//!
//! A claim that has a volume binds the pod to the nodes that reach the volume. One that waits for its first pod
//! (`WaitForFirstConsumer`) gets on the pod's node a volume that is there, or has one made for that node.

use std::collections::{BTreeSet, HashMap};

use berth_api::quantity::Quantity;
use berth_core::meta::controller_of;
use berth_core::selector::label_selector_matches;
use k8s_openapi::api::core::v1::{
    Node, PersistentVolume, PersistentVolumeClaim, Pod, TopologySelectorTerm, Volume,
};
use k8s_openapi::api::storage::v1::StorageClass;

use super::affinity::matches_term;
use super::info::{NodeInfo, PodInfo};
use super::reason::Reason;

/// Says on a claim that both sides of its binding are written.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The node for which a claim's volume is made.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// A provisioner that makes nothing: volumes of the class are there, or are not.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
const ONE_POD: &str = "ReadWriteOncePod";

/// All claims (`namespace/name`), volumes and classes, and the volumes that are promised to claims by now.
#[derive(Clone, Copy, Debug)]
pub struct Storage<'c> {
    /// By namespace and name.
    pub claims: &'c HashMap<String, PersistentVolumeClaim>,
    /// By name.
    pub volumes: &'c HashMap<String, PersistentVolume>,
    /// By name.
    pub classes: &'c HashMap<String, StorageClass>,
    /// Volumes that are being bound to a claim of another pod.
    pub reserved: &'c BTreeSet<String>,
}

/// What a pod's claims ask of its node.
#[derive(Clone, Debug)]
pub struct Claims<'c> {
    storage: Storage<'c>,
    bound: Vec<&'c PersistentVolume>,
    lost: bool,
    unbound: Vec<Unbound<'c>>,
    /// Claims that one pod at a time may use, and how many others use each.
    exclusive: HashMap<String, i64>,
    namespace: &'c str,
}

/// What has to be written before the pod can be bound.
#[derive(Clone, Copy, Debug)]
pub enum Step<'c> {
    /// The volume is the claim's.
    Reserve(&'c PersistentVolume, &'c PersistentVolumeClaim),
    /// The claim's volume is made for the node.
    Provision(&'c PersistentVolumeClaim),
}

/// The name of the claim of a volume of the pod, and whether it is made for the pod.
fn claim_of(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some((claim.claim_name.clone(), false));
    }
    volume.ephemeral.as_ref()?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Some((format!("{name}-{}", volume.name), true))
}

/// The names of all claims that the pod uses.
pub fn names(pod: &Pod) -> impl Iterator<Item = (String, bool)> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| claim_of(pod, volume))
}

/// Whether both sides of the claim's binding are written.
#[must_use]
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let annotations = claim.metadata.annotations.as_ref();
    volume_name(claim).is_some() && annotations.is_some_and(|all| all.contains_key(BIND_COMPLETED))
}

/// The volume that the claim names.
#[must_use]
pub fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref()?;
    Some(name).filter(|name| !name.is_empty())
}

/// The node for which the claim's volume is made.
#[must_use]
pub fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotations = claim.metadata.annotations.as_ref()?;
    annotations.get(SELECTED_NODE).map(String::as_str)
}

/// Whether the volume is this claim's, and no other's of its name.
#[must_use]
pub fn belongs_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let owner = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    owner.is_some_and(|owner| {
        owner.namespace == claim.metadata.namespace
            && owner.name == claim.metadata.name
            && (owner.uid.as_deref().unwrap_or_default().is_empty()
                || owner.uid == claim.metadata.uid)
    })
}

/// Whether the volume is some claim's, or kept for one.
#[must_use]
pub fn is_claimed(volume: &PersistentVolume) -> bool {
    let spec = volume.spec.as_ref();
    spec.is_some_and(|spec| spec.claim_ref.is_some())
}

/// Whether a pod on the node reaches the volume.
#[must_use]
pub fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| {
        let mut terms = required.node_selector_terms.iter();
        terms.any(|term| matches_term(term, node))
    })
}

/// A claim that has no volume yet.
#[derive(Clone, Debug)]
struct Unbound<'c> {
    claim: &'c PersistentVolumeClaim,
    /// Volumes that it can have, on whichever node: its own first, then the smallest.
    fit: Vec<&'c PersistentVolume>,
}

impl<'c> Claims<'c> {
    /// What the pod's claims ask; nothing where it has none.
    ///
    /// # Errors
    /// What keeps the pod from every node, in the stock scheduler's words.
    pub fn of(pod: &'c PodInfo, storage: Storage<'c>) -> Result<Option<Self>, String> {
        let pod = &*pod.pod;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut all = Self {
            storage,
            bound: Vec::new(),
            lost: false,
            unbound: Vec::new(),
            exclusive: HashMap::new(),
            namespace,
        };
        let mut any = false;
        for (name, made) in names(pod) {
            any = true;
            let Some(claim) = storage.claims.get(&format!("{namespace}/{name}")) else {
                return Err(if made {
                    format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                    )
                } else {
                    format!("persistentvolumeclaim {name:?} not found")
                });
            };
            let owner = controller_of(&claim.metadata);
            if made && owner.map(|owner| &owner.uid) != pod.metadata.uid.as_ref() {
                let of = pod.metadata.name.as_deref().unwrap_or_default();
                return Err(format!(
                    "PVC \"{namespace}/{name}\" was not created for pod \"{namespace}/{of}\" (pod is not owner)"
                ));
            }
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            all.take(claim)?;
        }
        // The smallest first, so that a large volume is left for who needs it.
        all.unbound.sort_by_key(|unbound| requested(unbound.claim));
        Ok(any.then_some(all))
    }

    fn take(&mut self, claim: &'c PersistentVolumeClaim) -> Result<(), String> {
        let spec = claim.spec.as_ref();
        let modes = spec.and_then(|spec| spec.access_modes.as_deref());
        if modes.unwrap_or_default().iter().any(|mode| mode == ONE_POD) {
            let name = claim.metadata.name.clone().unwrap_or_default();
            self.exclusive.insert(name, 0);
        }
        if is_bound(claim) {
            let name = volume_name(claim).unwrap_or_default();
            match self.storage.volumes.get(name) {
                Some(volume) if belongs_to(volume, claim) => self.bound.push(volume),
                Some(_) | None => self.lost = true,
            }
            return Ok(());
        }
        let waits = class_of(claim, self.storage.classes).is_some_and(|class| {
            class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
        });
        if !waits || volume_name(claim).is_some() {
            return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        }
        let storage = self.storage;
        let volumes = storage.volumes.values();
        let mut fit: Vec<&PersistentVolume> = volumes
            .filter(|volume| {
                let name = volume.metadata.name.as_deref().unwrap_or_default();
                !storage.reserved.contains(name) && satisfies(volume, claim)
            })
            .collect();
        fit.sort_by_cached_key(|volume| {
            let other = !belongs_to(volume, claim);
            (other, capacity(volume), volume.metadata.name.clone())
        });
        self.unbound.push(Unbound { claim, fit });
        Ok(())
    }

    /// Counts a pod that uses claims which one at a time may use: it is there (1), or leaves (-1).
    pub(super) fn count(&mut self, other: &PodInfo, sign: i64) {
        if self.exclusive.is_empty()
            || other.pod.metadata.namespace.as_deref() != Some(self.namespace)
        {
            return;
        }
        for (name, _) in names(&other.pod) {
            if let Some(users) = self.exclusive.get_mut(&name) {
                *users += sign;
            }
        }
    }

    pub(super) fn is_exclusive(&self) -> bool {
        !self.exclusive.is_empty()
    }

    /// Why the node will not do.
    pub(super) fn refusal(&self, node: &NodeInfo) -> Option<Reason> {
        if self.exclusive.values().any(|users| *users > 0) {
            return Some(Reason::ClaimInUse);
        }
        if self.lost {
            return Some(Reason::VolumeMissing);
        }
        if !self.bound.iter().all(|volume| reaches(volume, &node.node)) {
            return Some(Reason::VolumeAffinity);
        }
        self.steps(&node.node).is_none().then_some(Reason::NoVolume)
    }

    /// What the claims without volume need on the node; none where that can't be had.
    #[must_use]
    pub fn steps(&self, node: &Node) -> Option<Vec<Step<'c>>> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let mut given = BTreeSet::new();
        self.unbound
            .iter()
            .map(|Unbound { claim, fit }| {
                let selected = selected_node(claim);
                if selected.is_some_and(|selected| selected != name) {
                    return None;
                }
                if selected.is_none()
                    && let Some(volume) = fit.iter().find(|volume| {
                        !given.contains(&volume.metadata.name) && reaches(volume, node)
                    })
                {
                    given.insert(volume.metadata.name.clone());
                    return Some(Step::Reserve(volume, claim));
                }
                let class = class_of(claim, self.storage.classes)?;
                let makes = class.provisioner != NO_PROVISIONER
                    && in_topologies(class.allowed_topologies.as_deref(), node);
                makes.then_some(Step::Provision(claim))
            })
            .collect()
    }
}

/// The mode of a volume or a claim.
#[must_use]
pub fn mode_of(mode: Option<&str>) -> &str {
    mode.unwrap_or("Filesystem")
}

/// Whether the volume is free, or the claim's already, and what the claim asks for.
fn satisfies(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else {
        return false;
    };
    let is_free = match &has.claim_ref {
        Some(_) => belongs_to(volume, claim),
        None => {
            let status = volume.status.as_ref();
            status.and_then(|status| status.phase.as_deref()) == Some("Available")
        }
    };
    let offered = has.access_modes.as_deref().unwrap_or_default();
    is_free
        && volume.metadata.deletion_timestamp.is_none()
        && mode_of(has.volume_mode.as_deref()) == mode_of(wants.volume_mode.as_deref())
        && has.storage_class_name.as_deref().unwrap_or_default() == class_name(claim)
        && wants
            .access_modes
            .iter()
            .flatten()
            .all(|mode| offered.contains(mode))
        && wants.selector.as_ref().is_none_or(|selector| {
            label_selector_matches(selector, volume.metadata.labels.as_ref())
        })
        && match (capacity(volume), requested(claim)) {
            (Some(has), Some(wants)) => has >= wants,
            // What can't be read is not enough.
            (_, _) => false,
        }
}

/// What the volume offers; nothing where it can't be read.
#[must_use]
pub fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    let capacity = volume.spec.as_ref()?.capacity.as_ref()?;
    capacity.get("storage")?.0.parse().ok()
}

/// What the claim asks for; nothing where it can't be read.
#[must_use]
pub fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    resources.requests.as_ref()?.get("storage")?.0.parse().ok()
}

/// The class that the claim names, empty where it names none.
#[must_use]
pub fn class_name(claim: &PersistentVolumeClaim) -> &str {
    let annotations = claim.metadata.annotations.as_ref();
    let old = annotations.and_then(|all| all.get("volume.beta.kubernetes.io/storage-class"));
    let spec = claim.spec.as_ref();
    let name = spec.and_then(|spec| spec.storage_class_name.as_ref());
    old.or(name).map_or("", String::as_str)
}

fn class_of<'c>(
    claim: &PersistentVolumeClaim,
    classes: &'c HashMap<String, StorageClass>,
) -> Option<&'c StorageClass> {
    classes.get(class_name(claim))
}

fn in_topologies(terms: Option<&[TopologySelectorTerm]>, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let terms = terms.unwrap_or_default();
    terms.is_empty()
        || terms.iter().any(|term| {
            let mut all = term.match_label_expressions.iter().flatten();
            all.all(|one| {
                let value = labels.and_then(|labels| labels.get(&one.key));
                value.is_some_and(|value| one.values.contains(value))
            })
        })
}
