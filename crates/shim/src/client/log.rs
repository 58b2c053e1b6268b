//! What a stranger's shim says: it opens a FIFO in its bundle for writing and waits until somebody reads it.

use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use tokio::task::JoinHandle;

use super::ShimError;
use crate::fd::AsyncPipe;

/// Reads a shim's log and passes it on to ours, as long as it lives.
#[derive(Debug)]
pub(super) struct LogTask(JoinHandle<()>);

impl Drop for LogTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl LogTask {
    /// Makes the FIFO; before the shim is started.
    pub(super) fn create(id: &str, bundle: &Path) -> Result<Self, ShimError> {
        let path = bundle.join("log");
        let failed = |source: io::Error| ShimError::File {
            path: path.clone(),
            source,
        };
        if path.exists() {
            std::fs::remove_file(&path).map_err(failed)?;
        }
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o700);
        nix::unistd::mkfifo(&path, mode).map_err(|e| failed(e.into()))?;
        Self::read(id, &path).map_err(failed)
    }

    /// Goes on reading after a restart of ours.
    pub(super) fn reopen(bundle: &Path) -> Option<Self> {
        let id = bundle.file_name()?.to_string_lossy().into_owned();
        let path = bundle.join("log");
        path.exists().then(|| Self::read(&id, &path).ok()).flatten()
    }

    fn read(id: &str, path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = AsyncPipe::new(rustix::fs::open(path, flags, Mode::empty())?)?;
        let id = id.to_owned();
        Ok(Self(tokio::spawn(async move {
            let mut buf = vec![0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buf).await {
                let text = String::from_utf8_lossy(buf.get(..n).unwrap_or_default());
                for line in text.lines() {
                    tracing::debug!(shim = id, "{line}");
                }
            }
        })))
    }
}
