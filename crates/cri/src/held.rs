//! Sandboxes and containers whose records can't be read.
//!
//! Nobody knows what they are, so nothing of theirs is given back: processes, mounts, namespaces and files stay until a
//! person has looked. The record lies aside in its directory (`record.json.unreadable`), and as long as it does the id
//! is held, also by the next server. Whoever removes that directory gives the rest free at the next start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldItem {
    /// The record, moved aside.
    pub(crate) record: PathBuf,
    /// What is wrong with it.
    pub(crate) reason: String,
    /// For a container the sandbox that its bundle names.
    pub(crate) sandbox_id: Option<String>,
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
        let of = |item: &HeldItem| item.sandbox_id.as_deref() == Some(sandbox_id);
        let items = items.iter().filter(|(_, item)| of(item));
        items.map(|(id, _)| id.clone()).collect()
    }
}

/// The sandbox of the container whose bundle it is, as its spec says.
pub(crate) fn sandbox_of(bundle: &Path) -> Option<String> {
    let text = std::fs::read(bundle.join("config.json")).ok()?;
    let spec: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let id = spec.get("annotations")?.get(berth_oci::SANDBOX_ID)?;
    Some(id.as_str()?.to_owned())
}
