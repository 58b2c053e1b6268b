//! What pods hold on disk, as eviction has measured it.

use std::collections::BTreeMap;
use std::collections::HashMap;

use berth_tree::Usage;
use parking_lot::Mutex;

/// What one pod holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskUsage {
    /// Its emptyDirs on disk, by volume.
    pub(crate) volumes: BTreeMap<String, Usage>,
    /// Logs, by container.
    pub(crate) logs: BTreeMap<String, Usage>,
}

/// By uid; all pods at once.
#[derive(Default)]
pub(crate) struct Disks(Mutex<HashMap<String, DiskUsage>>);

impl Disks {
    /// Replaces what was known.
    pub(crate) fn publish(&self, all: HashMap<String, DiskUsage>) {
        *self.0.lock() = all;
    }

    /// What a pod holds; nothing of one that was not measured yet.
    pub(crate) fn of(&self, uid: &str) -> DiskUsage {
        self.0.lock().get(uid).cloned().unwrap_or_default()
    }
}
