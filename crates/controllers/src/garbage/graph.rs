//! Who owns whom: what is known of every object, by the owner references in its metadata.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::resources::Resource;

/// Finalizer of an object whose dependents go first.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an object whose dependents are to stay.
pub(super) const ORPHAN: &str = "orphan";

/// What counts of an object.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) resource: Arc<Resource>,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: Option<String>,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) deleting: bool,
    pub(super) finalizers: Vec<String>,
}

impl Item {
    /// Nothing without a name and a uid, which every stored object has.
    pub(super) fn new(resource: &Arc<Resource>, meta: ObjectMeta) -> Option<Self> {
        Some(Self {
            resource: Arc::clone(resource),
            namespace: meta.namespace,
            name: meta.name?,
            uid: meta.uid?,
            resource_version: meta.resource_version,
            owners: meta.owner_references.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.unwrap_or_default(),
        })
    }

    /// Whether it goes when its dependents are gone.
    pub(super) fn waits_for_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(FOREGROUND)
    }

    /// Whether it goes when its dependents no longer name it.
    pub(super) fn orphans_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(ORPHAN)
    }

    pub(super) fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|one| one == finalizer)
    }

    /// Whether a reference means this object: the names in it are its, not only the uid, which anybody can write.
    pub(super) fn is_meant(&self, owner: &OwnerReference, by: &Self) -> bool {
        owner.uid == self.uid
            && owner.name == self.name
            && self.resource.has_kind(&owner.api_version, &owner.kind)
            && (self.namespace.is_none() || self.namespace == by.namespace)
    }
}

/// All objects that are known, by uid.
#[derive(Debug, Default)]
pub(super) struct Graph {
    items: HashMap<String, Item>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Item> {
        self.items.get(uid)
    }

    /// Whether every owner that an object names is here, and stays. (An owner that goes is told later.)
    pub(super) fn has_solid_owners(&self, item: &Item) -> bool {
        item.owners.iter().all(|owner| {
            let known = self.items.get(&owner.uid);
            known.is_some_and(|known| known.is_meant(owner, item) && !known.waits_for_dependents())
        })
    }

    /// The objects that name this one as their owner, and mean it.
    pub(super) fn dependents<'a>(&'a self, owner: &'a Item) -> impl Iterator<Item = &'a Item> {
        let uids = self.dependents.get(&owner.uid);
        uids.into_iter()
            .flatten()
            .filter_map(|uid| self.items.get(uid))
            .filter(|item| item.owners.iter().any(|one| owner.is_meant(one, item)))
    }

    /// The dependents that a foreground deletion of this object waits for.
    pub(super) fn blocking<'a>(&'a self, owner: &'a Item) -> impl Iterator<Item = &'a Item> {
        self.dependents(owner).filter(|item| {
            item.owners
                .iter()
                .any(|one| owner.is_meant(one, item) && one.block_owner_deletion == Some(true))
        })
    }

    /// An object is there, or has changed; gives the uids of those for which that may mean work.
    pub(super) fn apply(&mut self, item: Item) -> Vec<String> {
        let mut affected = Vec::new();
        if !item.owners.is_empty() || item.waits_for_dependents() || item.orphans_dependents() {
            affected.push(item.uid.clone());
        }
        if item.waits_for_dependents() {
            affected.extend(self.named_by(&item.uid));
        }
        let old = self.items.get(&item.uid);
        let owners = |item: &Item| -> BTreeSet<String> {
            item.owners.iter().map(|owner| owner.uid.clone()).collect()
        };
        let before = old.map(owners).unwrap_or_default();
        let after = owners(&item);
        for gone in before.difference(&after) {
            self.unlink(gone, &item.uid);
        }
        for new in after.difference(&before) {
            let of_owner = self.dependents.entry(new.clone()).or_default();
            of_owner.insert(item.uid.clone());
        }
        // A reference that is gone, or no longer blocks, may have been the last one that an owner waited for.
        self.items.insert(item.uid.clone(), item);
        affected.extend(before.into_iter().filter(|owner| self.may_go(owner)));
        affected
    }

    /// An object is gone; gives the uids of those for which that may mean work.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(item) = self.items.remove(uid) else {
            return Vec::new();
        };
        let mut affected: Vec<String> = self.named_by(uid).collect();
        for owner in &item.owners {
            self.unlink(&owner.uid, uid);
            if self.may_go(&owner.uid) {
                affected.push(owner.uid.clone());
            }
        }
        affected
    }

    /// The uids of all objects of a resource that have not been seen: those that are gone after a list.
    pub(super) fn unseen(&self, resource: &Resource, seen: &BTreeSet<String>) -> Vec<String> {
        self.items
            .values()
            .filter(|item| item.resource.is(resource) && !seen.contains(&item.uid))
            .map(|item| item.uid.clone())
            .collect()
    }

    fn named_by(&self, uid: &str) -> impl Iterator<Item = String> + use<'_> {
        self.dependents.get(uid).into_iter().flatten().cloned()
    }

    /// Whether an object that is being deleted waits for no dependent that is known.
    fn may_go(&self, uid: &str) -> bool {
        self.items.get(uid).is_some_and(|item| {
            item.orphans_dependents()
                || item.waits_for_dependents() && self.blocking(item).next().is_none()
        })
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(of_owner) = self.dependents.get_mut(owner) {
            of_owner.remove(dependent);
            if of_owner.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests;
