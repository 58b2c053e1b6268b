//! Keeping the table as the files say: on SIGHUP, and when a file changes.
//!
//! Pods that run are not touched: each holds its runtime as it was at its start. A table that
//! can't be loaded leaves the old one in force.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::HandlerTable;
use crate::engine::Shared;
use crate::error::chain;

/// How soon a changed file is noticed.
const LOOK: Duration = Duration::from_secs(2);

/// Runs until shutdown.
pub(crate) async fn follow(engine: Shared, shutdown: CancellationToken) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::warn!("SIGHUP cannot be listened for; handlers reload on file changes only");
        return;
    };
    let mut seen = fingerprint(&watched(&engine, &engine.handlers.load()));
    loop {
        let asked = tokio::select! {
            () = shutdown.cancelled() => return,
            _ = hangup.recv() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let now = fingerprint(&watched(&engine, &engine.handlers.load()));
        if !asked && now == seen {
            continue;
        }
        reload(&engine).await;
        // The new table may have been read from other files.
        seen = fingerprint(&watched(&engine, &engine.handlers.load()));
    }
}

async fn reload(engine: &Shared) {
    let source = engine.config.handlers.clone();
    let embedded = engine.config.embedded_command.clone();
    match tokio::task::spawn_blocking(move || source.load(&embedded)).await {
        Ok(Ok(table)) => {
            for warning in table.warnings() {
                tracing::warn!(origin = %warning.origin, "{}", warning.message);
            }
            let names: Vec<&str> = table
                .iter()
                .map(|handler| handler.definition.name.as_str())
                .collect();
            tracing::info!(
                default = table.default_name(),
                handlers = names.join(", "),
                "runtime handlers loaded anew"
            );
            engine.set_handlers(table);
        }
        Ok(Err(error)) => {
            tracing::error!(
                error = chain(&error),
                "runtime handlers not reloaded; the old ones stay in force"
            );
        }
        Err(error) => tracing::error!(%error, "runtime handlers not reloaded"),
    }
}

/// The files that were read, and the folders where others may appear.
fn watched(engine: &Shared, table: &HandlerTable) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    if let Some(main) = engine.config.handlers.path() {
        let mut drop_ins = main.as_os_str().to_owned();
        drop_ins.push(".d");
        paths.extend([main.to_owned(), drop_ins.into(), main.with_extension("d")]);
    }
    for file in table.files() {
        paths.extend(file.parent().map(Path::to_owned));
        paths.push(file.clone());
    }
    paths.sort();
    paths.dedup();
    paths
}

fn fingerprint(paths: &[PathBuf]) -> Vec<(PathBuf, Option<(SystemTime, u64)>)> {
    paths
        .iter()
        .map(|path| {
            let state = path
                .metadata()
                .and_then(|meta| Ok((meta.modified()?, meta.len())))
                .ok();
            (path.clone(), state)
        })
        .collect()
}
