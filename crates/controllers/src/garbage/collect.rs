//! What is done about one object: collected, freed of owners that are gone, or let go when its dependents are.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::{debug, info};

use super::graph::{FOREGROUND, Graph, Item, ORPHAN};
use super::resources::{Resource, Resources};
use crate::server::{is_code, path_segment};

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

impl Outcome {
    /// After a change of an object: it is looked at again as it is now.
    fn then_look_at(self, item: &Item) -> Self {
        match self {
            Self::Done => Self::Look(vec![item.uid.clone()]),
            other => other,
        }
    }
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
    /// Nobody can say, so it keeps the object: a cluster-scoped object names an owner in a namespace, or the name is too
    /// long to ask for.
    Unclear,
}

/// What is known of an owner.
#[derive(Debug)]
enum Known {
    State(Owner),
    /// The server is to be asked for one of these.
    Ask(Arc<Resource>),
}

impl Known {
    fn is(&self, state: Owner) -> bool {
        matches!(self, Self::State(known) if *known == state)
    }
}

/// Owners of one object that are asked for at a time. Whoever creates an object may name thousands, and others wait.
const ASKED_MAX: usize = 500;
/// The longest name that is asked for. Those of most kinds have at most 253 bytes.
const NAME_MAX: usize = 1024;

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
        let namespace = known.namespace.as_deref();
        let live = known.resource.read(&self.client, namespace, &known.name);
        let live = live
            .await?
            .and_then(|live| Item::new(&known.resource, live));
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
        // What is known without asking comes first: it may decide already.
        let Some(mut owners) = self.known_owners(item) else {
            return Ok(Outcome::UnknownKind);
        };
        if owners
            .iter()
            .any(|(_, known)| matches!(known, Known::State(Owner::Unclear)))
        {
            return Ok(Outcome::Done);
        }
        let unknown = owners
            .iter_mut()
            .filter(|(_, known)| matches!(known, Known::Ask(_)));
        for (owner, known) in unknown.take(ASKED_MAX) {
            if let Known::Ask(resource) = known {
                *known = Known::State(self.ask(item, owner, resource).await?);
            }
        }
        let has = |state| owners.iter().any(|(_, known)| known.is(state));
        if owners.is_empty() {
            return Ok(Outcome::Done);
        }
        if owners
            .iter()
            .any(|(_, known)| matches!(known, Known::Ask(_)))
        {
            if !has(Owner::Absent) {
                return match has(Owner::Solid) {
                    true => Ok(Outcome::Done),
                    false => Ok(Outcome::Again("it has too many owners to ask for")),
                };
            }
            // The rest is asked for when it is this object's turn again.
            let kept = |known: &Known| !known.is(Owner::Absent);
            return self.keep_owners(item, &owners, kept).await;
        }
        if has(Owner::Solid) {
            if !has(Owner::Absent) && !has(Owner::Waiting) {
                return Ok(Outcome::Done);
            }
            return self
                .keep_owners(item, &owners, |known| known.is(Owner::Solid))
                .await;
        }
        let foreground = has(Owner::Waiting) && self.graph.lock().dependents(item).next().is_some();
        let blocks = |owner: &OwnerReference| owner.block_owner_deletion == Some(true);
        if foreground && item.owners.iter().any(blocks) && self.is_circle(item) {
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
            return Ok(outcome.then_look_at(item));
        }
        let policy = if foreground || item.has_finalizer(FOREGROUND) {
            PropagationPolicy::Foreground
        } else if item.has_finalizer(ORPHAN) {
            PropagationPolicy::Orphan
        } else {
            PropagationPolicy::Background
        };
        self.delete(item, policy).await
    }

    /// Takes owners that are gone off an object, which is looked at once more after that.
    async fn keep_owners(
        &self,
        item: &Item,
        owners: &[(&OwnerReference, Known)],
        keep: impl Fn(&Known) -> bool,
    ) -> kube::Result<Outcome> {
        let kept = owners.iter().filter(|(_, known)| keep(known));
        let kept: Vec<&OwnerReference> = kept.map(|(owner, _)| *owner).collect();
        debug!(
            kind = item.resource.api.kind,
            name = item.name,
            "removing owners that are gone"
        );
        let outcome = self.patch(item, json!({"ownerReferences": kept})).await?;
        Ok(outcome.then_look_at(item))
    }

    /// Whether a dependent of the object waits for its own dependents already.
    fn is_circle(&self, item: &Item) -> bool {
        let graph = self.graph.lock();
        graph.dependents(item).any(Item::waits_for_dependents)
    }

    /// What is known of an object's owners without asking; nothing when the server does not know the kind of one.
    fn known_owners<'a>(&self, item: &'a Item) -> Option<Vec<(&'a OwnerReference, Known)>> {
        let resources = Arc::clone(&self.resources.lock());
        let graph = self.graph.lock();
        let known = |owner: &OwnerReference| {
            let meant = graph
                .get(&owner.uid)
                .filter(|known| known.is_meant(owner, item));
            Some(match meant {
                Some(known) if known.waits_for_dependents() => Known::State(Owner::Waiting),
                Some(_) => Known::State(Owner::Solid),
                None => {
                    let resource = resources.of_kind(&owner.api_version, &owner.kind)?;
                    let elsewhere = resource.namespaced && item.namespace.is_none();
                    match elsewhere || owner.name.len() > NAME_MAX {
                        true => Known::State(Owner::Unclear),
                        false => Known::Ask(resource),
                    }
                }
            })
        };
        let owners = item.owners.iter();
        owners.map(|owner| Some((owner, known(owner)?))).collect()
    }

    /// What a reference comes to, by the owner as it is now.
    async fn ask(
        &self,
        item: &Item,
        owner: &OwnerReference,
        resource: &Arc<Resource>,
    ) -> kube::Result<Owner> {
        let found = resource.read(&self.client, item.namespace.as_deref(), &owner.name);
        let found = found.await?.and_then(|found| Item::new(resource, found));
        Ok(match found.filter(|found| found.uid == owner.uid) {
            Some(found) if found.waits_for_dependents() => Owner::Waiting,
            Some(_) => Owner::Solid,
            None => Owner::Absent,
        })
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
        let Some(name) = path_segment(&item.name) else {
            return Ok(Outcome::Done);
        };
        match api
            .patch_metadata(&name, &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => Ok(Outcome::Done),
            Err(error) if is_code(&error, &[404]) => Ok(Outcome::Done),
            Err(error) if is_code(&error, &[409]) => Ok(CHANGED),
            Err(error) => Err(error),
        }
    }

    /// Deletes the object, if it is still as it was when it was judged.
    async fn delete(&self, item: &Item, policy: PropagationPolicy) -> kube::Result<Outcome> {
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(item.uid.clone()),
                resource_version: item.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        let api = item
            .resource
            .objects(&self.client, item.namespace.as_deref());
        let Some(name) = path_segment(&item.name) else {
            return Ok(Outcome::Done);
        };
        match api.delete(&name, &params).await {
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

#[cfg(test)]
mod tests;
