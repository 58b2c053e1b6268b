//! Brings unpacked layers onto the disk without anybody waiting for it.
//!
//! Syncing file by file would take longer than unpacking, and `syncfs` waits for whatever else the machine
//! is writing. So a layer is used at once but carries a mark, `unsynced`, with the id of this boot; a thread
//! syncs and takes the marks away. A mark of another boot means that the machine went down before: such a
//! layer is not to be trusted, and its images are forgotten, to be pulled again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::ImageError;
use crate::files;

const MARK: &str = "unsynced";
/// How long the end of a store waits for a sync under way; what it doesn't finish, the next one does.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(crate) struct Syncer {
    layers: PathBuf,
    boot: String,
    /// Set while a thread runs; it hangs up when it ends.
    running: Arc<Mutex<Option<Receiver<()>>>>,
}

impl Syncer {
    pub(crate) fn new(root: &Path) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            layers: root.join("layers"),
            boot: boot.trim().to_owned(),
            running: Arc::default(),
        }
    }

    /// Marks a layer that is about to take its place.
    pub(crate) fn mark(&self, layer: &Path) -> Result<(), ImageError> {
        files::replace(&layer.join(MARK), self.boot.as_bytes())
    }

    /// Layers that were not on the disk when the machine went down.
    pub(crate) fn lost(&self) -> Result<Vec<PathBuf>, ImageError> {
        let marks = marks(&self.layers)?;
        Ok(marks
            .into_iter()
            .filter(|(_, boot)| *boot != self.boot)
            .map(|(layer, _)| layer)
            .collect())
    }

    /// Starts to sync, if there are marks and nobody does it already.
    pub(crate) fn kick(&self) {
        let mut running = self.running.lock();
        if running.is_some() || marks(&self.layers).is_ok_and(|marks| marks.is_empty()) {
            return;
        }
        let (sender, receiver) = channel::<()>();
        let (layers, state) = (self.layers.clone(), self.running.clone());
        let spawned = std::thread::Builder::new()
            .name("image-syncer".to_owned())
            .spawn(move || {
                let _hang_up = sender;
                loop {
                    if let Err(error) = sync(&layers) {
                        tracing::warn!(
                            error = error.report(),
                            "layers could not be brought onto the disk"
                        );
                        *state.lock() = None;
                        return;
                    }
                    // Under the lock, so that whoever marks after this look starts a new thread.
                    let mut running = state.lock();
                    if marks(&layers).is_ok_and(|marks| marks.is_empty()) {
                        *running = None;
                        return;
                    }
                }
            });
        if spawned.is_ok() {
            *running = Some(receiver);
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        let running = self.running.lock().take();
        if let Some(receiver) = running {
            let _ = receiver.recv_timeout(PATIENCE);
        }
    }
}

fn sync(layers: &Path) -> Result<(), ImageError> {
    let marked = marks(layers)?;
    let directory = File::open(layers).map_err(|e| ImageError::io("opening", layers, e))?;
    rustix::fs::syncfs(&directory).map_err(|e| ImageError::io("syncing", layers, e))?;
    for (layer, _) in marked {
        match fs::remove_file(layer.join(MARK)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(ImageError::io("unmarking", layer, e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Layers with a mark, and the boots in it.
fn marks(layers: &Path) -> Result<Vec<(PathBuf, String)>, ImageError> {
    let failed = |e| ImageError::io("reading", layers, e);
    let mut found = Vec::new();
    for entry in fs::read_dir(layers).map_err(failed)? {
        let layer = entry.map_err(failed)?.path();
        match fs::read_to_string(layer.join(MARK)) {
            Ok(boot) => found.push((layer, boot)),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            // What is no text is no boot id of ours either.
            Err(e) if e.kind() == io::ErrorKind::InvalidData => found.push((layer, String::new())),
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(found)
}
