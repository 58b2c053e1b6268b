//! Directories of nodes: the node makes one, then the volume is written; the volume is deleted, then the node removes it.
//!
//! Whoever ends in between is no matter: a directory is made once however often that is asked for, its name follows from the claim's
//! UID, a volume that is there is not made again, and a volume that is being deleted stays until its directory is gone.

use std::time::Duration;

use berth_core::local_path::{FINALIZER, PROVISIONER, is_ours, node_of, volume_name};
use berth_supervise::{Brief, Outage};
use berth_workloads::Event;
use berth_workloads::volume::claim::ClaimStep;
use berth_workloads::volume::local_path::{class, refusal, volume};
use berth_workloads::volume::protect::{has_finalizer, is_bound};
use berth_workloads::volume::{SELECTED_NODE, requested, selected_node};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ask::{self, AskError, Removal};
use super::claims::protect;
use super::write::{Part, write};
use super::{AGAIN, Controller};
use crate::node_health::is_ready;
use crate::server::is_code;
use crate::workload::Key;
use crate::workload::NOT_LISTED;
use crate::workload::keyed::Looked;

/// A removal that is under way is asked about after this time.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// Makes the class that a cluster begins with. One of the name that is there is left as it is, whoever wrote it.
pub(super) async fn ensure_class(client: Client, stop: CancellationToken) {
    let api: Api<StorageClass> = Api::all(client);
    let mut outage = Outage::new("cannot make the StorageClass local-path");
    loop {
        let pause = match api.create(&PostParams::default(), &class()).await {
            Ok(_) => return,
            Err(error) if is_code(&error, &[409]) => return,
            Err(error) => outage.failed(Brief(&error)),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Controller {
    /// A claim whose directory is to be made, or to be discarded.
    pub(super) async fn look_at_directory(&self, key: Key) -> Looked {
        if !self.is_ready() {
            return Ok(Some(NOT_LISTED));
        }
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else {
            self.pauses.forget(&key);
            return Ok(None);
        };
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        let (Some(node), Some(name)) = (selected_node(&claim), volume_name(uid)) else {
            return Ok(None);
        };
        if claim.metadata.deletion_timestamp.is_some() {
            self.discard(node, &name).await;
            protect(&self.claims_in(&key.namespace), &claim, false).await?;
            return Ok(None);
        }
        let ClaimStep::Provision(class) = self.step_of(&claim) else {
            return Ok(None);
        };
        if class.provisioner != PROVISIONER || self.volumes.named(&name).is_some() {
            return Ok(None);
        }
        if let Some(left) = self.pauses.left(&key, Instant::now()) {
            return Ok(Some(left));
        }
        if let Some(why) = refusal(&claim, &class) {
            self.provisioning_failed(&claim, &class, &why).await;
            return Ok(Some(AGAIN));
        }
        match self.make(&claim, &class, node, &name).await? {
            Outcome::Made => {
                self.pauses.forget(&key);
                Ok(None)
            }
            Outcome::Later(why) => {
                self.provisioning_failed(&claim, &class, &why).await;
                Ok(Some(self.pauses.failed(&key, Instant::now())))
            }
            Outcome::Elsewhere(why) => {
                self.provisioning_failed(&claim, &class, &why).await;
                self.pauses.failed(&key, Instant::now());
                self.discard(node, &name).await;
                // The scheduler looks for a node anew.
                let mut changed = PersistentVolumeClaim::clone(&claim);
                if let Some(annotations) = &mut changed.metadata.annotations {
                    annotations.remove(SELECTED_NODE);
                }
                let api = self.claims_in(&key.namespace);
                write(&api, &*claim, &changed, Part::Main).await?;
                Ok(None)
            }
        }
    }

    async fn make(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
        node: &str,
        name: &str,
    ) -> kube::Result<Outcome> {
        let Some(node_object) = self.nodes.named(node) else {
            return Ok(Outcome::Elsewhere(format!("node {node:?} not found")));
        };
        if !is_ready(&node_object) {
            return Ok(Outcome::Later(format!("node {node:?} is not ready")));
        }
        let made = match ask::make(&self.client, node, name).await {
            Ok(made) => made,
            Err(error @ (AskError::NotServed(_) | AskError::Full(_))) => {
                return Ok(Outcome::Elsewhere(error.to_string()));
            }
            Err(error @ AskError::Failed(_)) => return Ok(Outcome::Later(error.to_string())),
        };
        self.tell_free_space(claim, &node_object, made.free_bytes)
            .await;
        let Some(object) = volume(claim, class, &node_object, &made.path) else {
            return Ok(Outcome::Later("the claim asks for no storage".to_owned()));
        };
        let api = self.all_volumes();
        match api.create(&PostParams::default(), &object).await {
            Err(error) if !is_code(&error, &[409]) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let message = format!("Successfully provisioned volume {name}");
        let event = Event::normal("ProvisioningSucceeded", message);
        self.provisioner.record(claim, &event).await;
        Ok(Outcome::Made)
    }

    /// Sizes are not enforced, but who asks for more than there is should know.
    async fn tell_free_space(&self, claim: &PersistentVolumeClaim, node: &Node, free: u64) {
        let Some(wants) = requested(claim) else {
            return;
        };
        if u64::try_from(wants.value()).is_ok_and(|wants| wants > free) {
            let message = format!(
                "the claim asks for more than is free on node {:?} ({} MiB): the volume is made all the same, and writes will \
                 fail when the disk is full",
                node.name_any(),
                free >> 20
            );
            let event = Event::warning("InsufficientFreeSpace", message);
            self.provisioner.record(claim, &event).await;
        }
    }

    async fn provisioning_failed(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
        why: &str,
    ) {
        let message = format!(
            "failed to provision volume with StorageClass {:?}: {why}",
            class.name_any()
        );
        let event = Event::warning("ProvisioningFailed", message);
        self.provisioner.record(claim, &event).await;
    }

    /// A directory that no volume was made for is empty; it is no harm when it stays, since its name is never given again.
    async fn discard(&self, node: &str, name: &str) {
        let is_reachable = self.nodes.named(node).is_some_and(|n| is_ready(&n));
        if !is_reachable || self.volumes.named(name).is_some() {
            return;
        }
        if let Err(error) = ask::discard(&self.client, node, name).await {
            tracing::debug!(node, volume = name, %error, "an empty directory is not removed");
        }
    }

    /// A volume that is being deleted: its directory goes first.
    pub(super) async fn look_at_removal(&self, key: Key) -> Looked {
        if !self.is_ready() {
            return Ok(Some(NOT_LISTED));
        }
        let Some(volume) = self.volumes.named(&key.name) else {
            self.removals.forget(&key);
            return Ok(None);
        };
        if let Some(left) = self.removals.left(&key, Instant::now()) {
            return Ok(Some(left));
        }
        let goes = volume.metadata.deletion_timestamp.is_some() && !is_bound(&volume);
        if !goes || !has_finalizer(&volume.metadata, FINALIZER) {
            return Ok(None);
        }
        let spec = volume.spec.as_ref();
        let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        if is_ours(&volume) && policy == Some("Retain") {
            self.protect(&volume, FINALIZER, false).await?;
            return Ok(None);
        }
        match self.remove(&volume, &key.name).await {
            Ok(Removal::Done) => {
                self.removals.forget(&key);
                self.protect(&volume, FINALIZER, false).await?;
                Ok(None)
            }
            Ok(Removal::UnderWay) => Ok(Some(UNDER_WAY)),
            Err(why) => {
                let event = Event::warning("VolumeFailedDelete", why);
                self.provisioner.record(&*volume, &event).await;
                Ok(Some(self.removals.failed(&key, Instant::now())))
            }
        }
    }

    async fn remove(&self, volume: &PersistentVolume, name: &str) -> Result<Removal, String> {
        let Some(node) = node_of(volume) else {
            return Err(format!(
                "the volume does not say which node of {PROVISIONER} has its directory; remove the finalizer {FINALIZER} when \
                 nothing of it is needed"
            ));
        };
        let Some(object) = self.nodes.named(node) else {
            return Err(format!(
                "node {node:?}, which has the volume's directory, is gone; remove the finalizer {FINALIZER} when nothing of it is \
                 needed"
            ));
        };
        if !is_ready(&object) {
            return Err(format!(
                "node {node:?}, which has the volume's directory, is not ready"
            ));
        }
        let asked = ask::remove(&self.client, node, name).await;
        asked.map_err(|error| error.to_string())
    }
}

/// What came of asking a node for a directory.
enum Outcome {
    /// It is there, and so is the volume.
    Made,
    /// The node may do it the next time.
    Later(String),
    /// This node will not.
    Elsewhere(String),
}
