//! The task that has as many sandboxes wait as are wanted.
//!
//! It makes one at a time, and none while pods start: they would share the processors. Where pods start all the time one is
//! made all the same, every [`PATIENCE`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::pool::{Size, Stage};
use super::watch::remove;
use super::{bound, fits, make, network};
use crate::cni::{self, Network};
use crate::engine::{Shared, blocking};
use crate::error::{CriError, chain};
use crate::handlers::Inputs;
use crate::record::SandboxRecord;
use crate::runtime::PodRuntime;

/// How long no pod must have started before one is made.
const QUIET: Duration = Duration::from_millis(200);
/// How long that is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the network and the handlers are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// The first pause after one could not be made, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long after one of a handler was removed for its size the next one may be: pods choose their sizes, and each change boots
/// another sandbox.
const SIZE_CHANGE_INTERVAL: Duration = Duration::from_secs(10);

/// What is to wait.
struct Wanted {
    handler: String,
    runtime: PodRuntime,
    /// The files of the handler, as they are now.
    inputs: Inputs,
    network: Network,
    count: usize,
}

/// How long none of a handler is made, after one could not be.
struct Pause {
    until: Instant,
    length: Duration,
}

impl Wanted {
    /// Why one that waits is of no use any more.
    fn refuses(&self, record: &SandboxRecord) -> Option<&'static str> {
        if record.runtime != self.runtime || record.booted_from != self.inputs {
            return Some("handler");
        }
        let joined = record.attachment.as_ref();
        (!joined.is_some_and(|joined| joined.network == self.network)).then_some("network")
    }
}

/// Runs until shutdown. Those that wait then are the next server's.
pub(crate) async fn keep(engine: Shared, shutdown: CancellationToken) {
    let mut pauses: BTreeMap<String, Pause> = BTreeMap::new();
    let mut resized: BTreeMap<String, Instant> = BTreeMap::new();
    let mut wanted_since = None;
    // An earlier server may have had some wait.
    let mut used = true;
    while !shutdown.is_cancelled() {
        let wanted = look(&engine).await;
        discard(&engine, &wanted, &mut resized).await;
        if !wanted.is_empty() {
            used = true;
        } else if used && engine.warm.entries().is_empty() {
            used = false;
            make::remove_parent();
        }
        // Those of one handler that can't be made hold no others up.
        let paused = |handler: &str| {
            let pause = pauses.get(handler);
            pause.is_some_and(|pause| Instant::now() < pause.until)
        };
        let Some((one, size)) = missing(&engine, &wanted, paused) else {
            wanted_since = None;
            rest(&engine, &shutdown, LOOK).await;
            continue;
        };
        let since = *wanted_since.get_or_insert_with(Instant::now);
        if !(engine.warm.is_quiet(QUIET) || since.elapsed() > PATIENCE) {
            let _ = tokio::time::timeout(QUIET, shutdown.cancelled()).await;
            continue;
        }
        wanted_since = None;
        let (handler, runtime) = (one.handler.clone(), one.runtime.clone());
        let inputs = one.inputs.clone();
        let shared = Arc::clone(&engine);
        // As a request, so that a shutdown waits until it is undone.
        let made = engine.tasks.request(async move {
            let made = make::make(&shared, &handler, runtime, inputs, size).await;
            (handler, made)
        });
        let Ok((handler, made)) = made.await else {
            continue;
        };
        match made {
            Ok(()) => {
                pauses.remove(&handler);
            }
            Err(CriError::Stopping(_)) => {}
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(handler, error, "no pod sandbox can wait; it is tried again");
                engine
                    .warm
                    .note(&handler, |counts| counts.failed = Some(error));
                let last = pauses.get(&handler).map(|pause| pause.length);
                let length = last.map_or(PAUSE.0, |last| (last * 2).min(PAUSE.1));
                let until = Instant::now() + length;
                pauses.insert(handler, Pause { until, length });
            }
        }
    }
}

async fn rest(engine: &Shared, shutdown: &CancellationToken, time: Duration) {
    let woken = tokio::time::timeout(time, engine.warm.changed());
    let _ = shutdown.run_until_cancelled(woken).await;
}

/// What is wanted now, by the handler table and the networks; why not is noted.
async fn look(engine: &Shared) -> Vec<Wanted> {
    let table = engine.handlers.load_full();
    let counts = engine.warm.counts();
    let mut wanted = Vec::new();
    for handler in table.iter() {
        let name = handler.definition.name.as_str();
        let count = handler.definition.warm;
        if count == 0 && !counts.contains_key(name) {
            continue;
        }
        let found = if count == 0 || table.find(name).is_err() {
            Ok(None)
        } else {
            let (shared, handler) = (Arc::clone(engine), handler.clone());
            let found = blocking(move || {
                let inputs = Inputs::of(&handler.definition);
                Ok((inputs, PodRuntime::of(&handler, &shared.config, false)?))
            });
            found
                .await
                .map_err(|error| chain(&error))
                .and_then(|(inputs, runtime)| {
                    Ok(Some((inputs, usable(engine, &runtime)?, runtime)))
                })
        };
        let refused = found.as_ref().err().cloned();
        if let Some(reason) = &refused
            && counts.get(name).and_then(|counts| counts.refused.as_ref()) != Some(reason)
        {
            tracing::warn!(handler = name, reason, "no pod sandboxes wait");
        }
        let found = found.unwrap_or_default();
        engine.warm.note(name, |counts| {
            counts.wanted = if found.is_some() { count } else { 0 };
            counts.refused = refused;
        });
        wanted.extend(found.map(|(inputs, network, runtime)| Wanted {
            handler: name.to_owned(),
            runtime,
            inputs,
            network,
            count,
        }));
    }
    wanted
}

/// The network in which sandboxes of a runtime can wait, or why they can't.
fn usable(engine: &Shared, runtime: &PodRuntime) -> Result<Network, String> {
    if let Some(reason) = fits::refusal(runtime) {
        return Err(reason);
    }
    let network = match &runtime.cni_conf_dir {
        Some(dir) => cni::current(std::slice::from_ref(dir)),
        None => engine.network(),
    };
    let network = network.map_err(|error| chain(&error))?;
    match network::refusal(&network) {
        Some(reason) => Err(reason),
        None => Ok(network),
    }
}

/// Removes those that are of no use: of another handler, network or size than wanted, or too many.
async fn discard(engine: &Shared, wanted: &[Wanted], resized: &mut BTreeMap<String, Instant>) {
    let mut entries = engine.warm.entries();
    entries.sort_by_key(|(_, entry)| entry.since);
    let mut wishes: Vec<(&Wanted, Vec<Size>)> = wanted
        .iter()
        .map(|one| (one, engine.warm.wished(&one.handler, one.count)))
        .collect();
    let mut ends = Vec::new();
    for (id, entry) in entries {
        if entry.stage != Stage::Waiting {
            continue;
        }
        let record = entry.sandbox.record();
        let found = wishes
            .iter_mut()
            .find(|(one, _)| one.handler == entry.handler);
        let reason = match found {
            None => Some("not_wanted"),
            Some((one, sizes)) => one.refuses(&record).or_else(|| {
                let place = sizes.iter().position(|size| *size == entry.size);
                match place {
                    Some(place) => {
                        sizes.swap_remove(place);
                        None
                    }
                    None if sizes.is_empty() => Some("not_wanted"),
                    None => {
                        let last = resized.get(&entry.handler);
                        let may = last.is_none_or(|last| last.elapsed() >= SIZE_CHANGE_INTERVAL);
                        may.then(|| {
                            resized.insert(entry.handler.clone(), Instant::now());
                            "limits"
                        })
                    }
                }
            }),
        };
        if let Some(reason) = reason
            && engine.warm.discard(&id, Stage::Waiting, reason)
        {
            tracing::info!(
                id,
                handler = entry.handler,
                reason,
                "a waiting pod sandbox is removed"
            );
            ends.push(remove(engine, entry.sandbox));
        }
    }
    futures::future::join_all(ends).await;
}

/// One that is to be made.
fn missing<'a>(
    engine: &Shared,
    wanted: &'a [Wanted],
    paused: impl Fn(&str) -> bool,
) -> Option<(&'a Wanted, Size)> {
    let entries = engine.warm.entries();
    let used = entries.iter().map(|(_, entry)| {
        let kind = entry.sandbox.record().runtime.kind();
        bound::memory(kind, entry.size)
    });
    let left = bound::memory_limit().saturating_sub(used.fold(0, u64::saturating_add));
    let mut tried = wanted.iter().filter(|one| !paused(&one.handler));
    tried.find_map(|one| {
        let mut sizes = engine.warm.wished(&one.handler, one.count);
        let mut of_other_sizes = 0;
        for (_, entry) in &entries {
            let counts = matches!(entry.stage, Stage::Making | Stage::Waiting);
            if counts && entry.handler == one.handler {
                match sizes.iter().position(|size| *size == entry.size) {
                    Some(place) => _ = sizes.swap_remove(place),
                    None => of_other_sizes += 1,
                }
            }
        }
        // One of another size holds its place until it is taken or removed.
        sizes.truncate(sizes.len().saturating_sub(of_other_sizes));
        let kind = one.runtime.kind();
        let size = sizes
            .into_iter()
            .find(|size| bound::memory(kind, *size) <= left);
        size.map(|size| (one, size))
    })
}
