//! Sandboxes and containers whose records can't be read.
//!
//! Nobody knows what they are, so nothing of theirs is given back: processes, mounts, namespaces and files stay until a
//! person has looked. The record lies aside in its directory (`record.json.unreadable`), and as long as it does the id
//! is held, also by the next server. Whoever removes that directory gives the rest free at the next start.
//!
//! What runs is not run twice meanwhile: a held sandbox is listed as what its bundle says that it is, not ready; it can't
//! be stopped or removed, and no other sandbox of its pod, and no other container of that name, is made.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use berth_cri_api::v1::{PodSandboxMetadata, PodSandboxState, PodSandboxStatus};
use parking_lot::RwLock;

/// Nothing is done with a sandbox or container whose record can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the record of {kind} {id} can't be read ({reason}), so it is left as it is: repair {} and name it record.json, or \
     end what runs and remove its directory, and restart the server",
    record.display()
)]
pub(crate) struct HeldError {
    kind: &'static str,
    id: String,
    reason: String,
    record: PathBuf,
}

/// What the specs in the bundles tell of a sandbox or a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Of the sandbox: a container's is that of its pod.
    pub(crate) sandbox_id: Option<String>,
    pub(crate) pod_name: String,
    pub(crate) pod_namespace: String,
    pub(crate) pod_uid: String,
    /// Empty for a sandbox.
    pub(crate) container: String,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldItem {
    /// The record, moved aside.
    pub(crate) record: PathBuf,
    /// What is wrong with it.
    pub(crate) reason: String,
    pub(crate) identity: Identity,
    /// Whether it is a sandbox.
    pub(crate) is_sandbox: bool,
}

impl HeldItem {
    /// Why nothing is done with it.
    fn refusal(&self, id: &str) -> HeldError {
        let kind = match self.is_sandbox {
            true => "pod sandbox",
            false => "container",
        };
        HeldError {
            kind,
            id: id.to_owned(),
            reason: self.reason.clone(),
            record: self.record.clone(),
        }
    }
}

/// All of them, by id.
#[derive(Debug, Default)]
pub(crate) struct Held(RwLock<BTreeMap<String, HeldItem>>);

impl Held {
    pub(crate) fn add(&self, id: String, item: HeldItem) {
        self.0.write().insert(id, item);
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.read().contains_key(id)
    }

    pub(crate) fn all(&self) -> Vec<(String, HeldItem)> {
        let items = self.0.read();
        let items = items.iter().map(|(id, item)| (id.clone(), item.clone()));
        items.collect()
    }

    /// Containers of a sandbox.
    pub(crate) fn of_sandbox(&self, sandbox_id: &str) -> Vec<String> {
        let items = self.0.read();
        let of = |item: &HeldItem| {
            !item.is_sandbox && item.identity.sandbox_id.as_deref() == Some(sandbox_id)
        };
        let items = items.iter().filter(|(_, item)| of(item));
        items.map(|(id, _)| id.clone()).collect()
    }

    /// Refuses what would change the sandbox or container of an id (or of the beginning of one).
    pub(crate) fn check(&self, id: &str) -> Result<(), HeldError> {
        let items = self.0.read();
        let found = items
            .iter()
            .find(|(held, _)| !id.is_empty() && held.starts_with(id));
        found.map_or(Ok(()), |(held, item)| Err(item.refusal(held)))
    }

    /// Refuses another sandbox of a pod.
    pub(crate) fn check_pod(&self, pod: &PodSandboxMetadata) -> Result<(), HeldError> {
        let items = self.0.read();
        let same = |item: &HeldItem| {
            let identity = &item.identity;
            item.is_sandbox
                && (
                    &identity.pod_name,
                    &identity.pod_namespace,
                    &identity.pod_uid,
                ) == (&pod.name, &pod.namespace, &pod.uid)
        };
        let found = items.iter().find(|(_, item)| same(item));
        found.map_or(Ok(()), |(id, item)| Err(item.refusal(id)))
    }

    /// Refuses another container of a name in a sandbox.
    pub(crate) fn check_container(&self, sandbox_id: &str, name: &str) -> Result<(), HeldError> {
        let items = self.0.read();
        let same = |item: &HeldItem| {
            !item.is_sandbox
                && item.identity.sandbox_id.as_deref() == Some(sandbox_id)
                && item.identity.container == name
        };
        let found = items.iter().find(|(_, item)| same(item));
        found.map_or(Ok(()), |(id, item)| Err(item.refusal(id)))
    }

    /// The sandboxes, as far as something is known of them.
    pub(crate) fn sandboxes(&self) -> Vec<PodSandboxStatus> {
        let items = self.0.read();
        let items = items.iter().filter(|(_, item)| item.is_sandbox);
        items.map(|(id, item)| status(id, item)).collect()
    }

    /// One of them.
    pub(crate) fn sandbox(&self, id: &str) -> Option<PodSandboxStatus> {
        let items = self.0.read();
        let item = items.get(id).filter(|item| item.is_sandbox)?;
        Some(status(id, item))
    }
}

/// Where a kubelet notes what the record says no more.
const REASON: &str = "berth.io/unreadable-record";

fn status(id: &str, item: &HeldItem) -> PodSandboxStatus {
    let identity = &item.identity;
    let seconds = item
        .record
        .symlink_metadata()
        .map_or(0, |found| found.ctime());
    // A kubelet knows its pods by these labels.
    let labels = [
        ("io.kubernetes.pod.name", &identity.pod_name),
        ("io.kubernetes.pod.namespace", &identity.pod_namespace),
        ("io.kubernetes.pod.uid", &identity.pod_uid),
    ];
    let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
    PodSandboxStatus {
        id: id.to_owned(),
        metadata: Some(PodSandboxMetadata {
            name: identity.pod_name.clone(),
            uid: identity.pod_uid.clone(),
            namespace: identity.pod_namespace.clone(),
            attempt: 0,
        }),
        state: PodSandboxState::SandboxNotready.into(),
        created_at: seconds.saturating_mul(1_000_000_000),
        labels: labels
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect(),
        annotations: HashMap::from([(REASON.to_owned(), item.reason.clone())]),
        ..PodSandboxStatus::default()
    }
}

/// What the spec in a bundle says; nothing where there is none.
pub(crate) fn identity_in(bundle: &Path) -> Identity {
    let text = std::fs::read(bundle.join("config.json")).unwrap_or_default();
    let spec: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let find = |name: &str| Some(spec.get("annotations")?.get(name)?.as_str()?.to_owned());
    let text = |name: &str| find(name).unwrap_or_default();
    Identity {
        sandbox_id: find(berth_oci::SANDBOX_ID),
        pod_name: text(berth_oci::SANDBOX_NAME),
        pod_namespace: text(berth_oci::SANDBOX_NAMESPACE),
        pod_uid: text(berth_oci::SANDBOX_UID),
        container: text(berth_oci::CONTAINER_NAME),
    }
}
