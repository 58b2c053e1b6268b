//! What is on the machine for sandboxes and containers that nobody knows of.

use std::collections::BTreeSet;
use std::path::Path;

use berth_shim::client;

use crate::container;
use crate::engine::Shared;
use crate::error::CriError;
use crate::sandbox;

/// Gives back files, mounts and snapshots whose sandbox or container has no record.
///
/// Of `waiting` some are gone by now, and what is left of one that could not be removed is the next start's.
pub(super) fn sweep(engine: &Shared, waiting: BTreeSet<String>) -> Result<(), CriError> {
    let listed = engine.sandboxes.all();
    let sandboxes: BTreeSet<String> = listed
        .iter()
        .map(|item| item.id.clone())
        .chain(waiting)
        .collect();
    let mut containers: BTreeSet<String> = engine
        .containers
        .all()
        .iter()
        .map(|item| item.id.clone())
        .collect();
    for container in engine.containers.all() {
        let sandbox_id = container.record().sandbox_id.clone();
        if !sandboxes.contains(&sandbox_id) && !engine.held.has(&sandbox_id) {
            tracing::info!(
                id = container.id,
                "removing a container whose pod sandbox is gone"
            );
            container::discard(engine, &container.id)?;
            engine.containers.remove(&container.id);
            containers.remove(&container.id);
        }
    }
    for id in entries(&engine.layout.pods()) {
        if !sandboxes.contains(&id) && !engine.held.has(&id) {
            tracing::info!(id, "giving back a leaked pod sandbox");
            sandbox::give_back(&engine.layout, &id)?;
        }
    }
    for id in entries(&engine.layout.bundles()) {
        if !sandboxes.contains(&id) && !containers.contains(&id) && !engine.held.has(&id) {
            tracing::info!(id, "removing a leaked container");
            container::discard(engine, &id)?;
        }
    }
    for name in entries(&engine.layout.sockets()) {
        // A shim that was killed leaves its sockets behind.
        let path = engine.layout.sockets().join(name);
        if client::is_dead_socket(&path) {
            let _ = std::fs::remove_file(path);
        }
    }
    for snapshot in engine.images.snapshots()? {
        let holder = snapshot.key.split('-').next().unwrap_or_default();
        if !containers.contains(holder) && !engine.held.has(holder) {
            tracing::info!(key = snapshot.key, "removing a leaked snapshot");
            engine.images.remove_snapshot(&snapshot.key)?;
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir)
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect()
        })
        .unwrap_or_default()
}
