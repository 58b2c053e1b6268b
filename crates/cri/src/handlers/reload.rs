//! Keeping the table as the machine is: on SIGHUP, when a configuration changes, and when a binary or a file that a
//! handler needs appears, changes or goes.
//!
//! Pods that run are not touched: each holds its runtime as it was at its start. A configuration that
//! can't be loaded leaves the old table in force; binaries are followed nevertheless. Files are only looked up here:
//! a binary is run again when it, or something that its handler needs, is another than before.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::definition::Definition;
use super::inputs::Inputs;
use super::{HandlerSource, HandlerState, HandlerTable, HandlersError};
use crate::engine::Shared;
use crate::error::chain;

/// How often files are looked at. What has changed is in force within two seconds.
const LOOK: Duration = Duration::from_secs(1);

/// How often a gVisor is tried again that could not run: ptrace may have been allowed, or a module loaded.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// The pause after a trial is at least this many times as long as the trial was: one that hangs takes a whole core.
const PAUSE_FACTOR: u32 = 10;

/// How long to wait after a trial that took this long.
fn pause_after(took: Duration) -> Duration {
    TRY_AGAIN.max(took.saturating_mul(PAUSE_FACTOR))
}

/// When gVisors that could not run are tried again, and the trial itself: beside the rest, which it must not hold up.
struct Trials {
    running: Option<(tokio::time::Instant, JoinHandle<()>)>,
    next: tokio::time::Instant,
}

impl Trials {
    fn new() -> Self {
        Self {
            running: None,
            next: tokio::time::Instant::now() + TRY_AGAIN,
        }
    }

    /// Begins a trial if it is time or somebody asks for one, unless one runs; notes the end of the one before.
    async fn look(&mut self, table: &Arc<HandlerTable>, asked: bool) {
        let now = tokio::time::Instant::now();
        if let Some((begin, trial)) = self.running.take_if(|(_, trial)| trial.is_finished()) {
            if let Err(error) = trial.await {
                tracing::error!(%error, "gVisor handlers could not be tried again");
            }
            self.next = now + pause_after(now - begin);
        }
        if self.running.is_none() && (asked || now > self.next) {
            let failed = Arc::clone(table);
            let trial = tokio::task::spawn_blocking(move || try_again(&failed));
            self.running = Some((now, trial));
        }
    }
}

/// Runs until shutdown.
pub(crate) async fn follow(engine: Shared, shutdown: CancellationToken) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP can't be listened for; handlers reload on changes only");
            None
        }
    };
    let mut seen = fingerprint(&watched(&engine, &engine.handlers.load()));
    // What the handlers of a configuration that was refused need.
    let mut refused: Vec<Inputs> = Vec::new();
    let mut trials = Trials::new();
    loop {
        let asked = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(()) = async { hangup.as_mut()?.recv().await } => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let now = fingerprint(&watched(&engine, &engine.handlers.load()));
        let wish = if asked {
            Wish::Everything
        } else if now != seen || refused.iter().any(Inputs::changed) {
            Wish::Configuration
        } else {
            Wish::Machine
        };
        seen = now;
        let old = engine.handlers.load_full();
        trials.look(&old, asked).await;
        let source = engine.config.handlers.clone();
        let embedded = engine.config.embedded_command.clone();
        let looked = tokio::task::spawn_blocking(move || refresh(&source, &embedded, &old, wish));
        match looked.await {
            Ok(Outcome::Same) => continue,
            Ok(Outcome::New(table)) => {
                refused = Vec::new();
                announce(&engine.handlers.load(), &table);
                engine.set_handlers(*table);
            }
            Ok(Outcome::Refused { error, inputs }) => {
                refused = inputs;
                tracing::error!(
                    error = chain(&error),
                    "runtime handlers not reloaded; the old ones stay in force"
                );
            }
            Err(error) => tracing::error!(%error, "runtime handlers not reloaded"),
        }
        // The new table may have been read from other files.
        seen = fingerprint(&watched(&engine, &engine.handlers.load()));
    }
}

/// Blocks: runs every gVisor that could not run.
fn try_again(table: &HandlerTable) {
    if table.try_again() {
        tracing::info!("a gVisor that could not run was tried again: see the table of handlers");
    }
}

/// What is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Only what the handlers in force need.
    Machine,
    /// The configuration, too.
    Configuration,
    /// All binaries, changed or not.
    Everything,
}

enum Outcome {
    Same,
    New(Box<HandlerTable>),
    Refused {
        error: HandlersError,
        inputs: Vec<Inputs>,
    },
}

/// Blocks: reads files, and runs the programs that have changed.
fn refresh(
    source: &HandlerSource,
    embedded: &[OsString],
    old: &Arc<HandlerTable>,
    wish: Wish,
) -> Outcome {
    if wish == Wish::Machine && !(*source == HandlerSource::BuiltIn && others_found(old, embedded))
    {
        return match old.look_again(embedded) {
            Some(table) => {
                table.try_out();
                Outcome::New(Box::new(table))
            }
            None => Outcome::Same,
        };
    }
    let none = BTreeMap::new();
    let known = if wish == Wish::Everything {
        &none
    } else {
        old.handlers()
    };
    let loaded = source
        .import(embedded)
        .and_then(|imported| HandlerTable::look(imported, embedded, known));
    let table = match loaded {
        Ok(table) => table,
        Err(error) => {
            return Outcome::Refused {
                error,
                inputs: Vec::new(),
            };
        }
    };
    table.try_out();
    match table.check_default() {
        // One that could run, and is configured as it was, has only lost its binary: the others go on changing.
        Err(error) if !keeps_default(old, &table) => Outcome::Refused {
            error,
            inputs: table.iter().map(|handler| handler.inputs.clone()).collect(),
        },
        // Something else in the directory of the configuration has changed.
        Ok(()) | Err(_) if wish != Wish::Everything && table == **old => Outcome::Same,
        Ok(()) | Err(_) => Outcome::New(Box::new(table)),
    }
}

/// Whether the built-in table would have other handlers now.
fn others_found(old: &HandlerTable, embedded: &[OsString]) -> bool {
    let now = super::built_in::table(!embedded.is_empty());
    let is_known = |new: &Definition| {
        let known = old.handlers().get(&new.name);
        known.is_some_and(|known| known.definition.is_same(new))
    };
    let default = now.default.as_ref().map(|(name, _)| name.as_str());
    now.handlers.len() != old.handlers().len()
        || !now.handlers.iter().all(is_known)
        || default != Some(old.default_name())
}

fn keeps_default(old: &HandlerTable, new: &HandlerTable) -> bool {
    let default = |table: &HandlerTable| {
        let handler = table.handlers().get(table.default_name())?;
        Some(handler.definition.clone())
    };
    match (default(old), default(new)) {
        (Some(old), Some(new)) => old.is_same(&new),
        (None | Some(_), None | Some(_)) => false,
    }
}

/// Says what is another than before.
fn announce(old: &HandlerTable, new: &HandlerTable) {
    for warning in new.warnings() {
        if !old.warnings().contains(warning) {
            tracing::warn!(origin = %warning.origin, "{}", warning.message);
        }
    }
    for handler in new.iter() {
        let name = handler.definition.name.as_str();
        let before = old.handlers().get(name).map(|before| &before.state);
        if before == Some(&handler.state) {
            continue;
        }
        match (&handler.state, handler.broken()) {
            (HandlerState::Usable { version, .. }, None) => {
                tracing::info!(handler = name, version, "runtime handler can run");
            }
            (_, reason) => {
                tracing::warn!(handler = name, reason, "runtime handler cannot run");
            }
        }
    }
    let names: Vec<&str> = new
        .iter()
        .map(|handler| handler.definition.name.as_str())
        .collect();
    tracing::info!(
        default = new.default_name(),
        handlers = names.join(", "),
        "runtime handlers loaded anew"
    );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_hangs_takes_a_small_part_of_the_time() {
        for (took, pause) in [(0, 60), (1, 60), (6, 60), (10, 100), (120, 1200)] {
            let pause = Duration::from_secs(pause);
            assert_eq!(pause_after(Duration::from_secs(took)), pause, "{took} s");
        }
    }
}
