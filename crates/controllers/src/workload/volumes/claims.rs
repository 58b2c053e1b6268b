//! Claims: each is brought to its volume, or told what it waits for.

use std::sync::Arc;

use berth_core::local_path;
use berth_workloads::volume::bind;
use berth_workloads::volume::claim::{ClaimStep, Known, external, step};
use berth_workloads::volume::protect::{CLAIM_FINALIZER, has_finalizer, holds, with_finalizer};
use berth_workloads::volume::{class_name, selected_node, volume_name};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::super::NOT_LISTED;
use super::write::{Part, write};
use super::{AGAIN, Controller};
use crate::workload::Key;
use crate::workload::keyed::Looked;

impl Controller {
    pub(super) fn claims_in(&self, namespace: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// What is to be done about the claim, by the copies.
    pub(super) fn step_of(&self, claim: &PersistentVolumeClaim) -> ClaimStep {
        let namespace = claim.namespace().unwrap_or_default();
        let (volumes, classes) = (self.volumes.all(), self.classes.all());
        // Which pods it waits for is looked up only where it waits for one.
        let waits = volume_name(claim).is_none() && selected_node(claim).is_none();
        let pods = match waits {
            true => self.pods.in_namespace(&namespace),
            false => Vec::new(),
        };
        let known = Known {
            volumes: &volumes,
            classes: &classes,
            pods: &pods,
        };
        step(claim, known)
    }

    pub(super) async fn look_at_claim(&self, key: Key) -> Looked {
        if !self.is_ready() {
            return Ok(Some(NOT_LISTED));
        }
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else {
            self.pauses.forget(&key);
            return Ok(None);
        };
        if claim.metadata.deletion_timestamp.is_some() {
            return self.release_claim(&key, &claim).await;
        }
        let api = self.claims_in(&key.namespace);
        let claim = match has_finalizer(&claim.metadata, CLAIM_FINALIZER) {
            true => claim,
            false => Arc::new(protect(&api, &claim, true).await?),
        };
        match self.step_of(&claim) {
            ClaimStep::Bind(volume) => self.bind(&claim, &volume).await.map(|()| None),
            ClaimStep::UseClass(class) => {
                let mut changed = PersistentVolumeClaim::clone(&claim);
                changed.spec.get_or_insert_default().storage_class_name = Some(class);
                write(&api, &*claim, &changed, Part::Main).await?;
                Ok(None)
            }
            ClaimStep::Provision(class) => {
                let claim = match bind::announced(&claim, &class.provisioner) {
                    Some(changed) => Arc::new(write(&api, &*claim, &changed, Part::Main).await?),
                    None => claim,
                };
                self.set_phase(&claim, "Pending").await?;
                if class.provisioner == local_path::PROVISIONER {
                    self.keys.make.add(&key);
                    return Ok(None);
                }
                let event = external(&class.provisioner);
                self.recorder.record(&*claim, &event).await;
                Ok(Some(AGAIN))
            }
            ClaimStep::Wait(event) => {
                self.set_phase(&claim, "Pending").await?;
                self.recorder.record(&*claim, &event).await;
                Ok(Some(AGAIN))
            }
            ClaimStep::Lost(event) => {
                if self.set_phase(&claim, "Lost").await? {
                    self.recorder.record(&*claim, &event).await;
                }
                Ok(None)
            }
        }
    }

    /// Writes the phase of a claim without a volume. Whether it was another one.
    async fn set_phase(&self, claim: &PersistentVolumeClaim, phase: &str) -> kube::Result<bool> {
        let Some(changed) = bind::claim_phase(claim, phase) else {
            return Ok(false);
        };
        let api = self.claims_in(&claim.namespace().unwrap_or_default());
        write(&api, claim, &changed, Part::Status).await?;
        Ok(true)
    }

    /// Writes both sides, as far as they are not written: the volume's first, so that no claim names a volume that is not its own.
    async fn bind(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> kube::Result<()> {
        let volumes = self.all_volumes();
        let claims = self.claims_in(&claim.namespace().unwrap_or_default());
        let mut volume = volume.clone();
        if let Some(changed) = bind::volume_side(&volume, claim) {
            volume = write(&volumes, &volume, &changed, Part::Main).await?;
        }
        if let Some(changed) = bind::volume_phase(&volume, "Bound", "") {
            volume = write(&volumes, &volume, &changed, Part::Status).await?;
        }
        let mut claim = claim.clone();
        if let Some(changed) = bind::claim_side(&claim, &volume) {
            claim = write(&claims, &claim, &changed, Part::Main).await?;
        }
        if let Some(changed) = bind::claim_status(&claim, &volume) {
            write(&claims, &claim, &changed, Part::Status).await?;
        }
        Ok(())
    }

    /// Lets a claim go that is being deleted, when no pod has it.
    async fn release_claim(&self, key: &Key, claim: &PersistentVolumeClaim) -> Looked {
        if !has_finalizer(&claim.metadata, CLAIM_FINALIZER) {
            return Ok(None);
        }
        let pods = self.pods.in_namespace(&key.namespace);
        if pods.iter().any(|pod| holds(pod, &key.name)) {
            return Ok(None);
        }
        // The copy may be old.
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let live = api.list(&ListParams::default()).await?;
        if live.items.iter().any(|pod| holds(pod, &key.name)) {
            return Ok(Some(NOT_LISTED * 10));
        }
        if volume_name(claim).is_none() && self.may_have_directory(claim) {
            self.keys.make.add(key);
            return Ok(None);
        }
        protect(&self.claims_in(&key.namespace), claim, false).await?;
        Ok(None)
    }

    /// Whether a node may have made a directory for a claim that is to get one.
    pub(super) fn may_have_directory(&self, claim: &PersistentVolumeClaim) -> bool {
        let class = self.classes.named(class_name(claim));
        selected_node(claim).is_some()
            && class.is_some_and(|class| class.provisioner == local_path::PROVISIONER)
    }
}

/// Writes the claim's finalizers.
pub(super) async fn protect(
    api: &Api<PersistentVolumeClaim>,
    claim: &PersistentVolumeClaim,
    wanted: bool,
) -> kube::Result<PersistentVolumeClaim> {
    let mut changed = claim.clone();
    let all = with_finalizer(&claim.metadata, CLAIM_FINALIZER, wanted);
    changed.metadata.finalizers = Some(all);
    write(api, claim, &changed, Part::Main).await
}
