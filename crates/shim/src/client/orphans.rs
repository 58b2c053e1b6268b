//! Commands with a timeout whose server was killed before it: a stranger's shim knows nothing of the timeout, so it is
//! noted beside the command's FIFOs, and the next server ends the command.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

use super::{Shim, ShimError};
use crate::fd::AsyncPipe;

const NOTE: &str = "until";
const SIGKILL: u32 = 9;
/// How long a killed command may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// Notes when a command is to have ended.
pub(super) fn note(dir: &Path, limit: Duration) -> Result<(), ShimError> {
    let until = SystemTime::now() + limit;
    let until = until
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let path = dir.join(NOTE);
    crate::private::write(&path, until.as_millis().to_string().as_bytes())
        .map_err(|source| ShimError::File { path, source })
}

/// Sees to the commands in a container that a server before us has left, by what is in the directory of its streams.
pub(super) fn adopt(shim: &Shim, id: &str, streams: &Path) {
    for entry in std::fs::read_dir(streams).into_iter().flatten().flatten() {
        let dir = entry.path();
        let exec_id = entry.file_name().to_string_lossy().into_owned();
        if let Some(until) = read(&dir) {
            let left = until.duration_since(SystemTime::now()).unwrap_or_default();
            tokio::spawn(end(shim.clone(), id.to_owned(), exec_id, left, dir));
        }
    }
}

fn read(dir: &Path) -> Option<SystemTime> {
    let text = std::fs::read_to_string(dir.join(NOTE)).ok()?;
    let until = Duration::from_millis(text.parse().ok()?);
    SystemTime::UNIX_EPOCH.checked_add(until)
}

/// Reads a FIFO to its end.
async fn discard(path: PathBuf) {
    if !path.exists() {
        return;
    }
    let Ok(fifo) = AsyncPipe::open_fifo(&path, OFlags::RDONLY) else {
        return;
    };
    let mut buf = vec![0; 32 * 1024];
    while let Ok(1..) = fifo.read(&mut buf).await {}
}

async fn end(shim: Shim, id: String, exec_id: String, left: Duration, dir: PathBuf) {
    // Nobody reads what it writes any more: without that the shim may wait for ever to get rid of it.
    let outputs = ["1", "2"].map(|name| tokio::spawn(discard(dir.join(name))));
    let ended = shim.wait_process(&id, &exec_id);
    if tokio::time::timeout(left, ended).await.is_err() {
        tracing::info!(id, exec_id, "ending a command whose time is over");
        // Gone already is as good.
        let _ = shim.kill_process(&id, &exec_id, SIGKILL, false).await;
        let ended = shim.wait_process(&id, &exec_id);
        let _ = tokio::time::timeout(AFTER_KILL, ended).await;
    }
    let _ = tokio::time::timeout(AFTER_KILL, futures::future::join_all(outputs)).await;
    let _ = shim.delete_process(&id, &exec_id).await;
    let _ = std::fs::remove_dir_all(dir);
}
