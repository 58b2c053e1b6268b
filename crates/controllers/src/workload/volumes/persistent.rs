//! Volumes: each has the phase that its claim gives it, and is reclaimed after that.

use std::sync::Arc;
use std::time::Duration;

use berth_core::local_path::FINALIZER;
use berth_workloads::volume::bind;
use berth_workloads::volume::persistent::{Reclaim, VolumeStep, claim_of, reclaim, step};
use berth_workloads::volume::protect::{VOLUME_FINALIZER, has_finalizer, is_bound, with_finalizer};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt as _;
use kube::api::Api;

use super::super::NOT_LISTED;
use super::Controller;
use super::write::{Part, write};
use crate::server::{is_code, only};
use crate::workload::Key;
use crate::workload::keyed::Looked;

/// A volume whose claim has not named it is looked at again after this time: the claim may have gone without a word to it.
const UNNAMED: Duration = Duration::from_secs(60);

impl Controller {
    pub(super) fn all_volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    pub(super) async fn look_at_volume(&self, key: Key) -> Looked {
        if !self.is_ready() {
            return Ok(Some(NOT_LISTED));
        }
        let Some(volume) = self.volumes.named(&key.name) else {
            return Ok(None);
        };
        let goes = volume.metadata.deletion_timestamp.is_some();
        let volume = match goes || has_finalizer(&volume.metadata, VOLUME_FINALIZER) {
            true => volume,
            false => Arc::new(self.protect(&volume, VOLUME_FINALIZER, true).await?),
        };
        let claim = claim_of(&volume).and_then(|(ns, name, _)| self.claims.get(ns, name));
        let mut next = None;
        let volume = match step(&volume, claim.as_deref()) {
            VolumeStep::Available => {
                if let Some(claim) = &claim {
                    self.keys.claims.add(&Key::of(&**claim));
                }
                self.set_volume_phase(volume, "Available", "").await?
            }
            VolumeStep::Bound => self.set_volume_phase(volume, "Bound", "").await?,
            VolumeStep::LookAtClaim => {
                if let Some(claim) = &claim {
                    self.keys.claims.add(&Key::of(&**claim));
                }
                next = Some(UNNAMED);
                volume
            }
            VolumeStep::Released if self.has_claim(&volume).await? => return Ok(Some(NOT_LISTED)),
            VolumeStep::Released => self.release(volume).await?,
            VolumeStep::Unbind => {
                let changed = bind::released_from(&volume);
                let volume = write(&self.all_volumes(), &*volume, &changed, Part::Main).await?;
                let volume = Arc::new(volume);
                self.set_volume_phase(volume, "Available", "").await?
            }
        };
        if goes && !is_bound(&volume) {
            if has_finalizer(&volume.metadata, FINALIZER) {
                self.keys.remove.add(&key);
            } else if has_finalizer(&volume.metadata, VOLUME_FINALIZER) {
                self.protect(&volume, VOLUME_FINALIZER, false).await?;
            }
        }
        Ok(next)
    }

    /// Whether the server has the volume's claim after all: the copy may be behind, and what is released may be deleted.
    async fn has_claim(&self, volume: &PersistentVolume) -> kube::Result<bool> {
        let Some((namespace, name, uid)) = claim_of(volume) else {
            return Ok(false);
        };
        let live = self.claims_in(namespace).get_opt(name).await?;
        let same = |claim: &PersistentVolumeClaim| claim.metadata.uid.as_deref() == uid;
        let Some(live) = live.filter(same) else {
            return Ok(false);
        };
        // It has another volume: this one is nobody's.
        let named = berth_workloads::volume::volume_name(&live);
        Ok(named.is_none() || named == volume.metadata.name.as_deref())
    }

    /// Its claim is gone.
    async fn release(&self, volume: Arc<PersistentVolume>) -> kube::Result<Arc<PersistentVolume>> {
        match reclaim(&volume) {
            Reclaim::Fail(event) => {
                let before = volume.resource_version();
                let volume = self
                    .set_volume_phase(volume, "Failed", &event.message)
                    .await?;
                if volume.resource_version() != before {
                    self.recorder.record(&*volume, &event).await;
                }
                Ok(volume)
            }
            Reclaim::Keep => self.set_volume_phase(volume, "Released", "").await,
            Reclaim::Delete => {
                let volume = self.set_volume_phase(volume, "Released", "").await?;
                if volume.metadata.deletion_timestamp.is_none() {
                    let deleted = self
                        .all_volumes()
                        .delete(&volume.name_any(), &only(&volume.metadata))
                        .await;
                    match deleted {
                        Err(error) if !is_code(&error, &[404]) => return Err(error),
                        Ok(_) | Err(_) => {}
                    }
                }
                Ok(volume)
            }
        }
    }

    async fn set_volume_phase(
        &self,
        volume: Arc<PersistentVolume>,
        phase: &str,
        message: &str,
    ) -> kube::Result<Arc<PersistentVolume>> {
        match bind::volume_phase(&volume, phase, message) {
            None => Ok(volume),
            Some(changed) => {
                let volume = write(&self.all_volumes(), &*volume, &changed, Part::Status).await?;
                Ok(Arc::new(volume))
            }
        }
    }

    /// Writes one of the volume's finalizers, or takes it off.
    pub(super) async fn protect(
        &self,
        volume: &PersistentVolume,
        finalizer: &str,
        wanted: bool,
    ) -> kube::Result<PersistentVolume> {
        let mut changed = volume.clone();
        let all = with_finalizer(&volume.metadata, finalizer, wanted);
        changed.metadata.finalizers = Some(all);
        write(&self.all_volumes(), volume, &changed, Part::Main).await
    }
}
