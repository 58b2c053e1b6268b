//! The file of `--encryption-provider-config`: read at the start, and again from time to time where that is wanted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::BuildError;
use crate::registry::Registry;
use crate::storage::{Encryption, Storage};

/// Reads the file.
///
/// # Errors
/// For one that can't be used, and for a resource that doesn't exist: nothing would be encrypted.
pub(super) fn load(file: &Path, registry: &Registry) -> Result<Encryption, BuildError> {
    let encryption = Encryption::load(file)?;
    let table = registry.table();
    for resource in encryption.core_resources() {
        let storage = format!("core/{resource}");
        if !table.rows().iter().any(|row| row.storage == storage) {
            return Err(BuildError::NothingToEncrypt(resource.to_owned()));
        }
    }
    Ok(encryption)
}

/// Reads the file again and again, and uses what it says when that has changed. One that can't be used changes nothing.
pub(super) async fn follow(
    file: PathBuf,
    every: Duration,
    registry: Arc<Registry>,
    storage: Arc<Storage>,
) {
    let mut last = tokio::fs::read(&file).await.ok();
    loop {
        tokio::time::sleep(every).await;
        let now = tokio::fs::read(&file).await.ok();
        if now == last {
            continue;
        }
        last = now;
        match load(&file, &registry) {
            Ok(encryption) => {
                storage.set_encryption(encryption);
                tracing::info!(file = %file.display(), "the encryption configuration has changed, and is used");
            }
            Err(error) => {
                let source = std::error::Error::source(&error);
                let source = source.map_or_else(String::new, ToString::to_string);
                tracing::error!(%error, source, "the encryption configuration has changed and can't be used; the one before stays in use");
            }
        }
    }
}
