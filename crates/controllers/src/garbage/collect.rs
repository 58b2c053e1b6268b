//! What is done about one object: collected, freed of owners that are gone, or let go when its dependents are.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::{debug, info};

use super::graph::{FOREGROUND, Graph, Item, ORPHAN};
use super::resources::Resources;
use crate::server::is_code;

/// What is left to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing until something changes.
    Done,
    /// These are to be looked at.
    Look(Vec<String>),
    /// Again later, for this reason.
    Again(&'static str),
    /// An owner is of a kind that the server does not have: again when it has other kinds.
    UnknownKind,
}

/// What a look at an object needs.
pub(super) struct Collector {
    pub(super) client: Client,
    pub(super) graph: Mutex<Graph>,
    pub(super) resources: Mutex<Arc<Resources>>,
}

/// What an owner reference comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The owner is there.
    Solid,
    /// The owner is there, and goes when this object is gone.
    Waiting,
    /// There is no such owner.
    Absent,
    /// A cluster-scoped object names an owner in a namespace: nobody can say which, so it keeps the object.
    Unclear,
}

impl Collector {
    /// Looks at an object as it is now, and does one step. `complete` says whether all dependents are known.
    pub(super) async fn look(&self, uid: &str, complete: bool) -> kube::Result<Outcome> {
        let known = {
            let graph = self.graph.lock();
            let known = graph.get(uid);
            known
                .filter(|known| known.deleting || !graph.has_solid_owners(known))
                .cloned()
        };
        let Some(known) = known else {
            return Ok(Outcome::Done);
        };
        let api = known
            .resource
            .objects(&self.client, known.namespace.as_deref());
        let live = api.get_metadata_opt(&known.name).await?;
        let live = live.and_then(|live| Item::new(&known.resource, live.metadata));
        let Some(live) = live.filter(|live| live.uid == known.uid) else {
            // The watch may not have told yet.
            return Ok(Outcome::Look(self.graph.lock().remove(uid)));
        };
        if !live.deleting {
            return self.judge(&live).await;
        }
        if live.orphans_dependents() {
            return match complete {
                true => self.orphan(&live).await,
                false => Ok(INCOMPLETE),
            };
        }
        if live.waits_for_dependents() {
            let (blocked, look) = {
                let graph = self.graph.lock();
                let undeleted = graph.blocking(&live).filter(|item| !item.deleting);
                let look: Vec<String> = undeleted.map(|item| item.uid.clone()).collect();
                (graph.blocking(&live).next().is_some(), look)
            };
            return match (blocked, complete) {
                (true, _) => Ok(Outcome::Look(look)),
                (false, false) => Ok(INCOMPLETE),
                (false, true) => self.remove_finalizer(&live, FOREGROUND).await,
            };
        }
        Ok(Outcome::Done)
    }

    /// An object that nobody deletes: does it have an owner yet?
    async fn judge(&self, item: &Item) -> kube::Result<Outcome> {
        let mut owners = Vec::new();
        for owner in &item.owners {
            let Some(state) = self.owner(item, owner).await? else {
                return Ok(Outcome::UnknownKind);
            };
            owners.push((owner, state));
        }
        let has = |state| owners.iter().any(|(_, one)| *one == state);
        if owners.is_empty() || has(Owner::Unclear) {
            return Ok(Outcome::Done);
        }
        if has(Owner::Solid) {
            if !has(Owner::Absent) && !has(Owner::Waiting) {
                return Ok(Outcome::Done);
            }
            let kept: Vec<&OwnerReference> = owners
                .iter()
                .filter(|(_, state)| *state == Owner::Solid)
                .map(|(owner, _)| *owner)
                .collect();
            debug!(
                kind = item.resource.api.kind,
                name = item.name,
                "removing owners that are gone"
            );
            return self.patch(item, json!({"ownerReferences": kept})).await;
        }
        let foreground = has(Owner::Waiting) && self.graph.lock().dependents(item).next().is_some();
        if foreground && self.is_circle(item) {
            // Each would wait for the other.
            let freed: Vec<OwnerReference> = item
                .owners
                .iter()
                .map(|owner| OwnerReference {
                    block_owner_deletion: Some(false),
                    ..owner.clone()
                })
                .collect();
            let outcome = self.patch(item, json!({"ownerReferences": freed})).await?;
            if outcome != Outcome::Done {
                return Ok(outcome);
            }
            return self
                .delete(item, PropagationPolicy::Foreground, false)
                .await;
        }
        let policy = if foreground || item.has_finalizer(FOREGROUND) {
            PropagationPolicy::Foreground
        } else if item.has_finalizer(ORPHAN) {
            PropagationPolicy::Orphan
        } else {
            PropagationPolicy::Background
        };
        self.delete(item, policy, true).await
    }

    /// Whether a dependent of the object waits for its own dependents already.
    fn is_circle(&self, item: &Item) -> bool {
        let graph = self.graph.lock();
        graph.dependents(item).any(Item::waits_for_dependents)
    }

    /// What a reference comes to; nothing when the server does not know its kind.
    async fn owner(&self, item: &Item, owner: &OwnerReference) -> kube::Result<Option<Owner>> {
        let known = {
            let graph = self.graph.lock();
            let known = graph.get(&owner.uid);
            known
                .filter(|known| known.is_meant(owner, item))
                .map(Item::waits_for_dependents)
        };
        match known {
            Some(true) => return Ok(Some(Owner::Waiting)),
            Some(false) => return Ok(Some(Owner::Solid)),
            None => {}
        }
        let resources = Arc::clone(&self.resources.lock());
        let Some(resource) = resources.of_kind(&owner.api_version, &owner.kind) else {
            return Ok(None);
        };
        if resource.namespaced && item.namespace.is_none() {
            return Ok(Some(Owner::Unclear));
        }
        let api = resource.objects(&self.client, item.namespace.as_deref());
        let found = api.get_metadata_opt(&owner.name).await?;
        let found = found.and_then(|found| Item::new(&resource, found.metadata));
        Ok(Some(match found {
            Some(found) if found.uid == owner.uid && found.waits_for_dependents() => Owner::Waiting,
            Some(found) if found.uid == owner.uid => Owner::Solid,
            _ => Owner::Absent,
        }))
    }

    /// Takes the object out of its dependents' references, then lets it go.
    async fn orphan(&self, item: &Item) -> kube::Result<Outcome> {
        let dependents: Vec<Item> = self.graph.lock().dependents(item).cloned().collect();
        for dependent in &dependents {
            let kept: Vec<&OwnerReference> = dependent
                .owners
                .iter()
                .filter(|owner| owner.uid != item.uid)
                .collect();
            match self
                .patch(dependent, json!({"ownerReferences": kept}))
                .await?
            {
                Outcome::Done => {}
                again => return Ok(again),
            }
        }
        self.remove_finalizer(item, ORPHAN).await
    }

    async fn remove_finalizer(&self, item: &Item, finalizer: &str) -> kube::Result<Outcome> {
        let left: Vec<&String> = item
            .finalizers
            .iter()
            .filter(|one| *one != finalizer)
            .collect();
        self.patch(item, json!({"finalizers": left})).await
    }

    /// Changes the object's metadata, if it is as it was read.
    async fn patch(&self, item: &Item, mut metadata: Value) -> kube::Result<Outcome> {
        metadata["uid"] = json!(item.uid);
        metadata["resourceVersion"] = json!(item.resource_version);
        let api = item
            .resource
            .objects(&self.client, item.namespace.as_deref());
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match api
            .patch_metadata(&item.name, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => Ok(Outcome::Done),
            Err(error) if is_code(&error, &[404]) => Ok(Outcome::Done),
            Err(error) if is_code(&error, &[409]) => Ok(CHANGED),
            Err(error) => Err(error),
        }
    }

    /// Deletes the object, if it is still the one (with `unchanged`: still as it was) that was judged.
    async fn delete(
        &self,
        item: &Item,
        policy: PropagationPolicy,
        unchanged: bool,
    ) -> kube::Result<Outcome> {
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(item.uid.clone()),
                resource_version: item.resource_version.clone().filter(|_| unchanged),
            }),
            ..DeleteParams::default()
        };
        let api = item
            .resource
            .objects(&self.client, item.namespace.as_deref());
        match api.delete(&item.name, &params).await {
            Ok(_) => {
                info!(
                    kind = item.resource.api.kind,
                    namespace = item.namespace.as_deref().unwrap_or_default(),
                    name = item.name,
                    "deleted an object whose owner is gone"
                );
                Ok(Outcome::Done)
            }
            Err(error) if is_code(&error, &[404]) => Ok(Outcome::Done),
            Err(error) if is_code(&error, &[409]) => Ok(CHANGED),
            Err(error) => Err(error),
        }
    }
}

const CHANGED: Outcome = Outcome::Again("it was changed meanwhile");
const INCOMPLETE: Outcome = Outcome::Again("not all kinds have been listed yet");
