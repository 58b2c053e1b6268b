//! What sandboxes cost beyond their containers: measured again and again, kept in a file, shown at `/stats/overhead`.
//!
//! The arithmetic is `berth_cost`'s; here is where its figures come from (docs/overhead.md). What the node finds is its own
//! report: it writes nothing of it to the API.

mod figures;
mod file;
mod known;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_cost::{ClassKey, Figures, SandboxReport, cost};
use berth_supervise::{Outage, unblock};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::agent::Agent;
use crate::usage::{self, PodScene};

pub(crate) use known::Costs;

/// How often what was measured is written to the file.
const SAVE_EVERY: Duration = Duration::from_secs(300);

/// What is remembered of a sandbox between two rounds.
struct Before {
    figures: Figures,
    /// It has been counted as a sandbox of its class.
    counted: bool,
}

/// Measures until `shutdown`.
pub(crate) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    let path = agent.config.root_dir.join("overhead.json");
    let read = path.clone();
    match unblock(move || file::load(&read)).await {
        Ok(ledger) => agent.costs.begin(ledger),
        Err(error) => warn!(%error, path = %path.display(), "what sandboxes cost is measured anew"),
    }
    let mut before: HashMap<String, Before> = HashMap::new();
    let mut saved = Instant::now();
    let mut outage = Outage::new("cannot write what sandboxes cost");
    loop {
        let stopping = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(agent.config.overhead_period) => false,
        };
        if !stopping {
            before = round(&agent, before).await;
        }
        if stopping || saved.elapsed() >= SAVE_EVERY.min(10 * agent.config.overhead_period) {
            let (path, ledger) = (path.clone(), agent.costs.ledger());
            match unblock(move || file::save(&path, &ledger)).await {
                Ok(()) => outage.works(),
                Err(error) => drop(outage.failed(error)),
            }
            saved = Instant::now();
        }
        if stopping {
            return;
        }
    }
}

/// Measures all sandboxes once.
async fn round(agent: &Agent, mut before: HashMap<String, Before>) -> HashMap<String, Before> {
    let scene = usage::gather(agent).await;
    let read = unblock(move || figures::read(&scene).map(|figures| (scene, figures))).await;
    // More processes than are looked at: what can't be counted whole isn't reported.
    let Some((scene, figures)) = read else {
        return HashMap::new();
    };
    let now = Timestamp::now().as_second();
    let (mut after, mut last) = (HashMap::new(), Vec::new());
    for (pod, figures) in scene.pods.iter().zip(figures) {
        let Some(figures) = figures else { continue };
        let old = before.remove(&pod.sandbox_id);
        let mut counted = old.as_ref().is_some_and(|old| old.counted);
        if let Some(cost) = old.and_then(|old| cost(&old.figures, &figures).ok()) {
            let key = key(pod);
            agent.costs.add(&key, &cost, !counted, now);
            counted = true;
            last.push(SandboxReport {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                uid: pod.uid.clone(),
                runtime_class: key.runtime_class,
                handler: key.handler,
                state: cost.state,
                memory_bytes: cost.memory,
                cpu_micro_cores: cost.cpu,
            });
        }
        after.insert(pod.sandbox_id.clone(), Before { figures, counted });
    }
    agent.costs.show(last);
    after
}

fn key(pod: &PodScene) -> ClassKey {
    let spec = pod.pod.spec.as_ref();
    ClassKey {
        runtime_class: spec
            .and_then(|s| s.runtime_class_name.clone())
            .unwrap_or_default(),
        handler: pod.handler.clone(),
    }
}
