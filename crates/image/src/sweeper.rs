//! Deletes directories in the background: they are renamed into `trash/`, which is instant, and a thread
//! removes what is in it. What is left at a crash goes at the next start.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::error::ImageError;

#[derive(Debug)]
pub(crate) struct Sweeper {
    trash: PathBuf,
    stop: Arc<AtomicBool>,
    /// Started with the first thing to remove.
    thread: Mutex<Option<(Sender<PathBuf>, JoinHandle<()>)>>,
}

impl Sweeper {
    pub(crate) fn new(trash: PathBuf) -> Self {
        Self {
            trash,
            stop: Arc::default(),
            thread: Mutex::default(),
        }
    }

    /// Takes a directory or file out of sight, then out of the world. False when it was not there.
    pub(crate) fn discard(&self, path: &Path) -> Result<bool, ImageError> {
        let place = self.trash.join(uuid::Uuid::new_v4().simple().to_string());
        match fs::rename(path, &place) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(ImageError::io("moving away", path, e)),
        }
        self.send(place);
        Ok(true)
    }

    /// Removes what an earlier process left in the trash.
    pub(crate) fn empty(&self) {
        let Ok(entries) = fs::read_dir(&self.trash) else {
            return;
        };
        for entry in entries.flatten() {
            self.send(entry.path());
        }
    }

    fn send(&self, path: PathBuf) {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let (sender, receiver) = channel::<PathBuf>();
            let stop = self.stop.clone();
            let spawned = std::thread::Builder::new()
                .name("image-sweeper".to_owned())
                .spawn(move || {
                    for path in receiver {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        remove(&path);
                    }
                });
            match spawned {
                Ok(handle) => *thread = Some((sender, handle)),
                Err(_) => return remove(&path),
            }
        }
        if let Some((sender, _)) = &*thread {
            let _ = sender.send(path);
        }
    }
}

impl Drop for Sweeper {
    /// Waits for the removal under way, not for those that wait.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some((sender, handle)) = self.thread.get_mut().take() {
            drop(sender);
            let _ = handle.join();
        }
    }
}

fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => berth_tree::remove(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return,
    };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "could not remove from the image store's trash");
    }
}
