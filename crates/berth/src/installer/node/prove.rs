//! Which handlers are to be proved now, and what came of it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, ensure};
use berth_installer::plan::Plan;
use berth_installer::report::{Report, State, label};
use berth_installer::wanted::Handler;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{AGAIN, Installer, Proved, told_before};
use crate::installer::list::List;
use crate::installer::proof::Changed;
use crate::installer::runtime::Cri;

impl Installer {
    /// Proves what is new, or due again, and notes how each handler stands.
    pub(super) async fn prove(
        &mut self,
        node: &Node,
        handlers: &[Handler],
        plan: &Plan,
        report: &mut Report,
        cri: &Cri,
        lists: &watch::Receiver<List>,
    ) -> anyhow::Result<()> {
        // The installer runs on the node's kernel.
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .context("cannot tell which kernel the node has")?;
        let kernel = kernel.trim();
        ensure!(!kernel.is_empty(), "the node's kernel has no name");
        let names: BTreeSet<&str> = handlers
            .iter()
            .map(|handler| handler.name.as_str())
            .collect();
        self.proved.retain(|name, _| names.contains(name.as_str()));
        let labelled = told_before(node);
        for handler in handlers
            .iter()
            .filter(|handler| plan.advertisable.contains(&handler.name))
        {
            let of = self.identity(handler, plan);
            let period = self.config.period;
            let is_known = self.proved.get(&handler.name).is_some_and(|proved| {
                // What failed may have failed for a reason that passes.
                let period = if proved.outcome.is_ok() {
                    period
                } else {
                    period.min(AGAIN)
                };
                proved.of == of && proved.at.elapsed() < period
            });
            if !is_known {
                // A handler that is not wanted any more waits for no pod of another one.
                if lists.has_changed().unwrap_or(true) {
                    return Err(Changed.into());
                }
                let was_working = labelled.working().contains(handler.name.as_str())
                    && node.labels().contains_key(&label(&handler.name))
                    && self
                        .proved
                        .get(&handler.name)
                        .is_none_or(|proved| proved.of == of && proved.outcome.is_ok());
                if !was_working {
                    let mut meanwhile = report.clone();
                    meanwhile.note(&handler.name, State::Verifying, "a pod is trying it");
                    for other in handlers
                        .iter()
                        .filter(|other| plan.advertisable.contains(&other.name))
                    {
                        if let Some(line) = labelled
                            .handlers
                            .get(&other.name)
                            .filter(|_| other.name != handler.name)
                        {
                            meanwhile
                                .handlers
                                .entry(other.name.clone())
                                .or_insert_with(|| line.clone());
                        }
                    }
                    let fresh = self.nodes.get(&self.config.node).await?;
                    self.tell(&fresh, meanwhile).await?;
                }
                let outcome = match self.config.prover.prove(handler, kernel, cri, lists).await {
                    Ok(outcome) => outcome,
                    Err(error) if error.is::<Changed>() => return Err(error),
                    // Nothing was found out: what was known of it holds for a while, and it is tried at the next look.
                    Err(error) => {
                        let state = if was_working && self.is_recent(&handler.name) {
                            State::Works
                        } else {
                            State::Verifying
                        };
                        report.note(&handler.name, state, &format!("{error:#}"));
                        continue;
                    }
                };
                match &outcome {
                    Ok(seen) => info!(handler = handler.name, seen, "the handler works"),
                    Err(reason) => {
                        warn!(handler = handler.name, reason, "the handler does not work")
                    }
                }
                self.proved.insert(
                    handler.name.clone(),
                    Proved {
                        of,
                        at: Instant::now(),
                        outcome,
                    },
                );
            }
            match self.proved.get(&handler.name).map(|proved| &proved.outcome) {
                Some(Ok(_)) => report.note(&handler.name, State::Works, ""),
                Some(Err(reason)) => report.note(&handler.name, State::Broken, reason),
                None => {}
            }
        }
        Ok(())
    }

    /// Whether a handler was seen to work within the last two periods, or before this program ran, if that is no longer ago.
    pub(super) fn is_recent(&self, handler: &str) -> bool {
        let proved = self.proved.get(handler);
        let at = proved.map_or(self.start, |proved| proved.at);
        at.elapsed() < self.config.period.saturating_mul(2)
    }

    /// What a proof is a proof of.
    pub(super) fn identity(&self, handler: &Handler, plan: &Plan) -> String {
        let files = handler.files();
        let files: Vec<_> = files
            .iter()
            .map(|file| self.config.host.identity(Path::new(file)))
            .collect();
        format!(
            "{:?} {files:?} {}",
            plan.entries.get(&handler.name),
            handler.has_own_kernel()
        )
    }
}
