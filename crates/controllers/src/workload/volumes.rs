//! PersistentVolumeClaims and PersistentVolumes.
//!
//! | file | what it holds |
//! |---|---|
//! | `claims.rs` | claims: bound, waiting, lost; their protection |
//! | `persistent.rs` | volumes: free, bound, released; their protection |
//! | `local_path.rs` | having directories of nodes made and removed |
//! | `ask.rs` | what is asked of a node, and how its answers are read |
//! | `ephemeral.rs` | claims that are made for a pod |
//! | `write.rs` | writing what differs |
//!
//! Nodes are asked by workers of their own: one that does not answer holds up no binding.

mod ask;
mod claims;
mod ephemeral;
mod local_path;
mod pauses;
mod persistent;
mod write;

use std::sync::Arc;
use std::time::Duration;

use berth_supervise::Tasks;
use berth_workloads::volume::persistent::claim_of;
use berth_workloads::volume::{class_name, names, volume_name};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Client, ResourceExt as _};

use super::Key;
use super::keyed::Keys;
use crate::Reflected;
use crate::record::Recorder;
use pauses::Pauses;

/// What nothing wakes is looked at again after this time, so that what it waits for is told as long as it waits: events are kept for
/// an hour.
const AGAIN: Duration = Duration::from_secs(30 * 60);

struct Controller {
    client: Client,
    claims: Reflected<PersistentVolumeClaim>,
    volumes: Reflected<PersistentVolume>,
    classes: Reflected<StorageClass>,
    pods: Reflected<Pod>,
    nodes: Reflected<Node>,
    recorder: Recorder,
    provisioner: Recorder,
    keys: AllKeys,
    /// Of claims that wait for a directory.
    pauses: Pauses,
    /// Of volumes whose directory is not removed yet.
    removals: Pauses,
}

/// What is to be looked at. A volume is keyed by the namespace of its claim, so that namespaces take turns.
#[derive(Clone)]
struct AllKeys {
    claims: Keys,
    volumes: Keys,
    /// Claims whose directory is to be made.
    make: Keys,
    /// Volumes whose directory is to be removed.
    remove: Keys,
    /// Pods with claims of their own.
    pods: Keys,
}

/// Spawns the controllers.
pub(super) fn spawn(
    tasks: &Tasks,
    client: &Client,
    claims: &Reflected<PersistentVolumeClaim>,
    pods: &Reflected<Pod>,
    nodes: &Reflected<Node>,
) {
    let controller = Arc::new(Controller {
        client: client.clone(),
        claims: claims.clone(),
        volumes: super::watch(tasks, client),
        classes: super::watch(tasks, client),
        pods: pods.clone(),
        nodes: nodes.clone(),
        recorder: Recorder::new(client.clone(), "persistentvolume-controller"),
        provisioner: Recorder::new(client.clone(), berth_core::local_path::PROVISIONER),
        keys: AllKeys {
            claims: Keys::new("claims"),
            volumes: Keys::new("volumes"),
            make: Keys::new("local_path_claims"),
            remove: Keys::new("local_path_volumes"),
            pods: Keys::new("ephemeral_volume"),
        },
        pauses: Pauses::default(),
        removals: Pauses::default(),
    });
    controller.listen();
    let own = || (Arc::clone(&controller), tasks.clone());
    let (one, stop) = own();
    tasks.spawn_essential("claim binder", async move {
        let look = |key| one.look_at_claim(key);
        one.keys
            .claims
            .work(stop, "PersistentVolumeClaim", look)
            .await;
    });
    let (one, stop) = own();
    tasks.spawn_essential("volume controller", async move {
        let look = |key| one.look_at_volume(key);
        one.keys.volumes.work(stop, "PersistentVolume", look).await;
    });
    let (one, stop) = own();
    tasks.spawn_essential("local-path provisioner", async move {
        let look = |key| one.look_at_directory(key);
        one.keys
            .make
            .work(stop, "PersistentVolumeClaim", look)
            .await;
    });
    let (one, stop) = own();
    tasks.spawn_essential("local-path removal", async move {
        let look = |key| one.look_at_removal(key);
        one.keys.remove.work(stop, "PersistentVolume", look).await;
    });
    let (one, stop) = own();
    tasks.spawn_essential("ephemeral volume controller", async move {
        let look = |key| one.look_at_pod(key);
        one.keys.pods.work(stop, "Pod", look).await;
    });
    let (client, stop) = (client.clone(), tasks.stop_token());
    tasks.spawn("local-path class", local_path::ensure_class(client, stop));
}

impl Controller {
    /// Whether nothing that exists is missing in the copies.
    fn is_ready(&self) -> bool {
        self.claims.is_complete()
            && self.volumes.is_complete()
            && self.classes.is_complete()
            && self.pods.is_complete()
            && self.nodes.is_complete()
    }

    fn listen(&self) {
        let keys = self.keys.clone();
        self.claims.listen(move |claim| {
            keys.claims.add(&Key::of(claim));
            // Also one that has gone before it named the volume that was made for it.
            let uid = claim.metadata.uid.as_deref().unwrap_or_default();
            let made = berth_core::local_path::volume_name(uid);
            let named = volume_name(claim).map(str::to_owned);
            let namespace = claim.namespace().unwrap_or_default();
            for volume in named.into_iter().chain(made) {
                keys.volumes.add(&Key::new(&namespace, &volume));
            }
        });
        let (keys, claims) = (self.keys.clone(), self.claims.clone());
        self.volumes.listen(move |volume| {
            let name = volume.name_any();
            if let Some((namespace, claim, _)) = claim_of(volume) {
                keys.volumes.add(&Key::new(namespace, &name));
                keys.claims.add(&Key::new(namespace, claim));
                return;
            }
            keys.volumes.add(&Key::new("", &name));
            let spec = volume.spec.as_ref();
            let class = spec.and_then(|spec| spec.storage_class_name.as_deref());
            let could = |claim: &PersistentVolumeClaim| {
                is_pending(claim) && class_name(claim) == class.unwrap_or_default()
            };
            wake(&keys.claims, &claims, could);
        });
        let (keys, claims) = (self.keys.clone(), self.claims.clone());
        self.classes.listen(move |class| {
            let name = class.metadata.name.as_deref();
            wake(&keys.claims, &claims, |claim| {
                let wanted = class_name(claim);
                is_pending(claim) && (wanted.is_empty() || Some(wanted) == name)
            });
        });
        let (keys, claims) = (self.keys.clone(), self.claims.clone());
        self.pods.listen(move |pod| {
            let namespace = pod.namespace().unwrap_or_default();
            let mut any_made = false;
            for (name, made) in names(pod) {
                any_made |= made;
                let claim = claims.get(&namespace, &name);
                if claim.is_some_and(|c| is_pending(&c) || c.metadata.deletion_timestamp.is_some())
                {
                    keys.claims.add(&Key::new(&namespace, &name));
                }
            }
            if any_made {
                keys.pods.add(&Key::of(pod));
            }
        });
    }
}

fn wake(
    keys: &Keys,
    claims: &Reflected<PersistentVolumeClaim>,
    which: impl Fn(&PersistentVolumeClaim) -> bool,
) {
    let all = claims.all();
    let some = all.iter().filter(|claim| which(claim));
    some.for_each(|claim| keys.add(&Key::of(&**claim)));
}

/// Whether the claim has no volume by its status, or lost it.
fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    phase != Some("Bound")
}
