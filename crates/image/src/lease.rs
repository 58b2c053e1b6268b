//! Keeps garbage collection away from work under way.
//!
//! Inside a process, work names the digests it counts on before it looks whether they are there; the
//! collector marks and sweeps under the same mutex. Between processes it is coarser: a process at work holds
//! a lock on a file of its own in `leases/`, and the collector does nothing while another process has one.
//! `gc.lock` keeps the two moments apart: shared while a process starts to work, exclusive while collecting.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::lock::FileLock;

#[derive(Debug)]
pub(crate) struct Leases {
    gc_lock: PathBuf,
    directory: PathBuf,
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    held: usize,
    lock: Option<FileLock>,
    protected: HashMap<Digest, usize>,
}

impl State {
    /// Some work in this process counts on it.
    pub(crate) fn protects(&self, digest: &Digest) -> bool {
        self.protected.contains_key(digest)
    }

    /// Nothing is under way in this process.
    pub(crate) fn idle(&self) -> bool {
        self.held == 0
    }
}

/// One piece of work; dropping it ends the protection of what it named.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Arc<Leases>,
    protected: Mutex<Vec<Digest>>,
}

/// The right to collect garbage, for as long as it lives.
pub(crate) struct Collecting<'a> {
    pub(crate) state: MutexGuard<'a, State>,
    _lock: FileLock,
}

impl Leases {
    pub(crate) fn new(root: &Path) -> Self {
        let directory = root.join("leases");
        Self {
            gc_lock: root.join("gc.lock"),
            file: directory.join(format!(
                "{}-{}",
                std::process::id(),
                uuid::Uuid::new_v4().simple()
            )),
            directory,
            state: Mutex::default(),
        }
    }

    /// Starts a piece of work.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<Lease, ImageError> {
        let mut state = self.state.lock();
        if state.held == 0 {
            let _not_collecting = FileLock::shared(&self.gc_lock)?;
            state.lock = Some(FileLock::exclusive(&self.file)?);
        }
        state.held += 1;
        Ok(Lease {
            leases: self.clone(),
            protected: Mutex::default(),
        })
    }

    /// Starts to collect; none when another process is at work.
    pub(crate) fn collect(&self) -> Result<Option<Collecting<'_>>, ImageError> {
        let state = self.state.lock();
        let lock = FileLock::exclusive(&self.gc_lock)?;
        let failed = |e| ImageError::io("reading", &self.directory, e);
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path == self.file {
                continue;
            }
            if FileLock::try_exclusive(&path)?.is_none() {
                return Ok(None);
            }
            // Nobody holds it and nobody can start while gc.lock is ours: its process died.
            let _ = fs::remove_file(&path);
        }
        Ok(Some(Collecting { state, _lock: lock }))
    }
}

impl Lease {
    /// From now on this is not garbage. Look whether it is there only afterwards.
    pub(crate) fn protect(&self, digest: &Digest) {
        *self
            .leases
            .state
            .lock()
            .protected
            .entry(digest.clone())
            .or_default() += 1;
        self.protected.lock().push(digest.clone());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.leases.state.lock();
        for digest in self.protected.get_mut().drain(..) {
            if let Some(count) = state.protected.get_mut(&digest) {
                *count -= 1;
                if *count == 0 {
                    state.protected.remove(&digest);
                }
            }
        }
        state.held -= 1;
        if state.held == 0 {
            let _ = fs::remove_file(&self.leases.file);
            state.lock = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collector_waits_for_other_processes_only() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("leases")).unwrap();
        let (one, two) = (
            Arc::new(Leases::new(dir.path())),
            Arc::new(Leases::new(dir.path())),
        );
        let lease = one.begin().unwrap();
        let digest = Digest::of(b"x");
        lease.protect(&digest);
        assert!(
            two.collect().unwrap().is_none(),
            "another process is at work"
        );
        let own = one.collect().unwrap().expect("its own work is known to it");
        assert!(own.state.protects(&digest));
        drop(own);
        drop(lease);
        assert!(two.collect().unwrap().is_some_and(|c| c.state.idle()));
        assert!(!one.collect().unwrap().unwrap().state.protects(&digest));
    }

    #[test]
    fn a_dead_process_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("leases")).unwrap();
        fs::write(dir.path().join("leases/1-dead"), "").unwrap();
        assert!(
            Arc::new(Leases::new(dir.path()))
                .collect()
                .unwrap()
                .is_some()
        );
        assert!(!dir.path().join("leases/1-dead").exists());
    }
}
