//! The program of each node: it makes the node's handlers those of the list, one look after the other.
//!
//! Each look does, in this order: labels of handlers that may not be advertised go; files and the runtime follow; pods prove what is
//! new, or due again; labels of what works come.
//!
//! - `node/files.rs`: handlers' own files, and berth's shim.
//! - `node/failure.rs`: a change that failed, remembered on the node.
//! - `node/prove.rs`: which handlers are to be proved now.
//! - `node/tell.rs`: labels, the annotation, events.

mod failure;
mod files;
mod prove;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use berth_installer::entry::{self, Entries, Place as EntryPlace};
use berth_installer::failure::{AGAIN, Failure, digest};
use berth_installer::layout::Runtime;
use berth_installer::plan::{Plan, Seen, plan};
use berth_installer::report::{ANNOTATION, Report, State, shortened};
use berth_installer::usage::Usage;
use berth_installer::wanted::Handler;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::apply::{Ground, Place, Tools, Untried, apply};
use super::host::Host;
use super::list::{self, List};
use super::proof::{Changed, Prover};
use super::runtime::{Cri, Process, Restart};
use super::turn::NodeTurns;

/// A node that waits for its turn looks this often.
const TURN_LOOK: Duration = Duration::from_secs(2);

/// Settings.
pub(crate) struct Config {
    pub(crate) client: Client,
    pub(crate) node: String,
    pub(crate) namespace: String,
    pub(crate) config_map: String,
    pub(crate) host: Host,
    /// The installer's folder on the node.
    pub(crate) dir: PathBuf,
    /// The kubelet's CRI socket; else it is looked for.
    pub(crate) socket: Option<PathBuf>,
    /// The runtime's main file; else the process says.
    pub(crate) config: Option<PathBuf>,
    pub(crate) restart: Restart,
    pub(crate) prover: Prover,
    /// How often a handler is proved again.
    pub(crate) period: Duration,
    /// How often the node is looked at.
    pub(crate) look: Duration,
    /// How many nodes start their runtimes again at the same time.
    pub(crate) max_restarting: u32,
}

/// What was found out of a handler.
struct Proved {
    /// Of what: its entry, and the files behind it.
    of: String,
    at: Instant,
    outcome: Result<String, String>,
}

struct Installer {
    config: Config,
    nodes: Api<Node>,
    /// What the configuration was read from, and what it is without us.
    ground: Option<(String, Ground)>,
    proved: BTreeMap<String, Proved>,
    start: Instant,
    usage: Usage,
    /// A change that failed.
    failed: Option<Failure>,
    turns: NodeTurns,
    /// Whether the turn goes on until the next look.
    keeps_turn: bool,
    /// Whether this node waits for its turn.
    waits: bool,
    /// What was told of last.
    told: Report,
}

/// Runs until `shutdown`.
///
/// # Errors
/// When the account may not read its own node.
pub(crate) async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (sender, mut list) = watch::channel(List::default());
    let maps: Api<ConfigMap> = Api::namespaced(config.client.clone(), &config.namespace);
    let follower = tokio::spawn(list::follow(
        maps,
        config.config_map.clone(),
        sender,
        shutdown.clone(),
    ));
    let nodes = Api::all(config.client.clone());
    let turns = NodeTurns::new(
        &config.client,
        &config.namespace,
        &config.config_map,
        &config.node,
        config.max_restarting,
    );
    let mut installer = Installer {
        config,
        nodes,
        ground: None,
        proved: BTreeMap::new(),
        start: Instant::now(),
        usage: Usage::default(),
        failed: None,
        turns,
        keeps_turn: false,
        waits: false,
        told: Report::default(),
    };
    installer.failed = installer.read_failure();
    info!(node = installer.config.node, "keeping the node's handlers");
    if let Err(error) = installer.config.prover.clean().await {
        warn!(
            error = format!("{error:#}"),
            "pods of an earlier run may be left"
        );
    }
    while !shutdown.is_cancelled() {
        let known = list.borrow_and_update().clone();
        if let Err(error) = installer.look(&known, &list).await {
            warn!(
                error = format!("{error:#}"),
                "cannot look after the node's handlers"
            );
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            changed = list.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(installer.pause()) => {}
        }
    }
    installer.turns.give_back().await;
    follower.abort();
    Ok(())
}

/// The node's runtime, as it is now.
struct Found {
    cri: Cri,
    process: Process,
    runtime: Runtime,
}

impl Installer {
    fn pause(&self) -> Duration {
        if self.waits || self.keeps_turn {
            self.config.look.min(TURN_LOOK)
        } else {
            self.config.look
        }
    }

    async fn look(&mut self, list: &List, lists: &watch::Receiver<List>) -> anyhow::Result<()> {
        let node = self
            .nodes
            .get(&self.config.node)
            .await
            .with_context(|| format!("cannot read node {:?}", self.config.node))?;
        match list {
            List::Unknown => Ok(()),
            // Nothing changes, and it is said.
            List::Unusable(reason) => {
                let mut report = self.told.clone();
                report.problem = shortened(reason);
                if report.handlers.is_empty() {
                    report.handlers = told_before(&node).handlers;
                }
                // Nobody tries them meanwhile.
                for (name, line) in &mut report.handlers {
                    if line.state == State::Works && !self.is_recent(name) {
                        line.state = State::Verifying;
                        line.reason = "it was not tried for long".to_owned();
                    }
                }
                self.tell(&node, report).await
            }
            List::Handlers(handlers) => self.install(&node, handlers, lists).await,
        }
    }

    async fn find(&self, node: &Node) -> anyhow::Result<Found> {
        let info = node
            .status
            .as_ref()
            .and_then(|status| status.node_info.as_ref());
        let said = info
            .map(|info| info.container_runtime_version.as_str())
            .unwrap_or_default();
        let name = said.split_once("://").map_or("", |(name, _)| name);
        let Config {
            host,
            socket,
            config,
            ..
        } = &self.config;
        let cri = Cri::find(host, socket.as_deref(), name).await?;
        let (name, version) = cri.version().await?;
        let process = cri.process().await?;
        let kubelet = info
            .map(|info| info.kubelet_version.as_str())
            .unwrap_or_default();
        let runtime = process.runtime(&name, &version, kubelet, config.as_deref())?;
        Ok(Found {
            cri,
            process,
            runtime,
        })
    }

    async fn install(
        &mut self,
        node: &Node,
        handlers: &[Handler],
        lists: &watch::Receiver<List>,
    ) -> anyhow::Result<()> {
        (self.keeps_turn, self.waits) = (false, false);
        let outcome = self.settle(node, handlers, lists).await;
        if !self.keeps_turn {
            self.turns.give_back().await;
        }
        match outcome {
            Ok(report) => self.tell(node, report).await,
            // What this look has found out is of a list that holds no more.
            Err(error) if error.is::<Changed>() => Ok(()),
            // Nothing is to be there, and nothing was ever put there: what can't be looked at holds nobody up.
            Err(error)
                if handlers.is_empty()
                    && Place::is_clean(&self.config.host, &self.config.dir).unwrap_or(false) =>
            {
                warn!(
                    error = format!("{error:#}"),
                    "cannot look at the node's runtime; nothing of the installer's is on the node"
                );
                self.tell(node, Report::default()).await
            }
            Err(error) => {
                // What can't be seen to be registered as it is wanted is not advertised. What was found out of it is remembered: its
                // label comes again with the next look that succeeds.
                let mut report = told_before(node);
                report
                    .handlers
                    .retain(|name, _| handlers.iter().any(|handler| handler.name == *name));
                for line in report.handlers.values_mut() {
                    if line.state == State::Works {
                        line.state = State::Verifying;
                        line.reason = "the node's runtime can't be looked at now".to_owned();
                    }
                }
                for (name, reason) in self.fit(handlers, false).1 {
                    report.note(&name, State::Broken, &reason);
                }
                report.problem = shortened(&format!("{error:#}"));
                self.tell(node, report).await
            }
        }
    }

    /// Does what is to be done, and gives what is to be told.
    async fn settle(
        &mut self,
        node: &Node,
        listed: &[Handler],
        lists: &watch::Receiver<List>,
    ) -> anyhow::Result<Report> {
        self.check_dir()?;
        let found = self.find(node).await?;
        self.read_ground(&found).await?;
        let Some((inputs, ground)) = self.ground.clone() else {
            anyhow::bail!("the configuration was not read")
        };
        let place = Place::look(&self.config.host, &self.config.dir, &ground.layout)?;
        let dir = self.config.dir.to_str();
        let dir = dir.context("the folder's name is no text")?.to_owned();
        let words = EntryPlace {
            form: ground.layout.form,
            systemd_cgroup: ground.systemd_cgroup,
            dir: &dir,
        };
        place.check_theirs(&ground.foreign)?;
        let (handlers, unfit) = self.fit(listed, found.runtime.is_crio);
        let handlers = handlers.as_slice();
        let seen = Seen {
            wanted: handlers
                .iter()
                .map(|handler| (handler.name.clone(), entry::entry(handler, words)))
                .collect(),
            unfit,
            registered: place.entries.clone(),
            foreign: ground.foreign.clone(),
            used: self
                .usage
                .of(&found.cri.sandboxes().await?, self.start.elapsed()),
        };
        let mut plan = plan(&seen);
        let mut report = Report::default();
        for (name, reason) in &plan.reasons {
            let state = if plan.entries.contains_key(name) && !seen.unfit.contains_key(name) {
                State::Kept
            } else {
                State::Broken
            };
            report.note(name, state, reason);
        }
        let change = digest(&format!("{inputs}\n{:?}", plan.entries));
        let is_due = !self.is_held_back(&change)
            && (plan.entries != place.entries
                || !place.is_confirmed()
                || !found.cri.said().await?.knows(plan.entries.keys()));
        if is_due && let Err(why) = self.turns.take().await? {
            // Other nodes are at it. What is advertised and registered stays so until it is this one's turn.
            self.waits = true;
            let changed = std::mem::take(&mut plan.changed);
            self.hide(node, &plan).await?;
            self.wait_for_turn(node, &mut plan, &place.entries, changed, &mut report, &why);
            self.prove(node, handlers, &plan, &mut report, &found.cri, lists)
                .await?;
            return Ok(report);
        }
        if self.hide(node, &plan).await? {
            // A pod that was bound to this node a moment ago may not have been seen yet: nothing changes before another look.
            self.keeps_turn = is_due;
            waiting(&mut report, &told_before(node), &plan, &place.entries);
            return Ok(report);
        }
        let problem = self
            .change(&found, change, &ground, &place, handlers, words, &plan)
            .await?;
        // Others don't wait for proofs.
        self.turns.give_back().await;
        if let Some(problem) = problem {
            report.problem = shortened(&problem);
            // Those that are registered as they are wanted are proved nonetheless.
            for name in std::mem::take(&mut plan.changed) {
                plan.advertisable.remove(&name);
                report.note(&name, State::Verifying, "it is not registered yet");
            }
        }
        self.prove(node, handlers, &plan, &mut report, &found.cri, lists)
            .await?;
        Ok(report)
    }

    fn is_held_back(&self, change: &str) -> bool {
        let failed = self.failed.as_ref();
        failed.is_some_and(|failed| failed.holds_back(change, Self::now()))
    }

    /// Notes what stays as it is while other nodes start their runtimes again. Handlers that change are not to be proved meanwhile.
    fn wait_for_turn(
        &self,
        node: &Node,
        plan: &mut Plan,
        registered: &Entries,
        changed: BTreeSet<String>,
        report: &mut Report,
        why: &str,
    ) {
        let told = told_before(node);
        for name in changed {
            plan.advertisable.remove(&name);
            let line = told.handlers.get(&name).filter(|line| {
                line.state == State::Works
                    && registered.contains_key(&name)
                    && self.is_recent(&name)
            });
            match line {
                Some(line) => {
                    report.handlers.insert(name, line.clone());
                }
                None => report.note(&name, State::Verifying, why),
            }
        }
        for name in registered
            .keys()
            .filter(|name| !plan.entries.contains_key(*name))
        {
            report.note(name, State::Kept, &format!("it is to be removed; {why}"));
        }
    }

    /// Makes the entries those of the plan. Gives why that failed, if it did.
    #[expect(clippy::too_many_arguments, reason = "what a look has found")]
    async fn change(
        &mut self,
        found: &Found,
        what: String,
        ground: &Ground,
        place: &Place,
        handlers: &[Handler],
        words: EntryPlace<'_>,
        plan: &Plan,
    ) -> anyhow::Result<Option<String>> {
        if self.is_held_back(&what) {
            return Ok(self.failed.as_ref().map(|failed| failed.why.clone()));
        }
        self.put_shim(handlers, words, &plan.entries)?;
        let applied = apply(self.tools(found), ground, place, &plan.entries).await;
        match applied {
            Ok(was_changed) => {
                self.note_failure(None);
                if was_changed {
                    info!(handlers = ?plan.entries.keys().collect::<Vec<_>>(), "the runtime knows the handlers");
                    self.ground = None;
                }
            }
            Err(error) => {
                let why = format!("{error:#}");
                if !error.is::<Untried>() {
                    warn!(error = why, "the node's handlers can't be changed");
                    let failure = Failure::after(self.failed.as_ref(), &what, Self::now(), &why);
                    self.note_failure(Some(failure));
                }
                return Ok(Some(why));
            }
        }
        let taken = if plan.entries.is_empty() {
            self.take_shim(ground)
        } else {
            self.prune_shim(ground, &plan.entries)
        };
        Ok(taken.err().map(|error| format!("{error:#}")))
    }

    fn tools<'a>(&'a self, found: &'a Found) -> Tools<'a> {
        let Config {
            host, restart, dir, ..
        } = &self.config;
        Tools {
            host,
            cri: &found.cri,
            process: &found.process,
            restart,
            dir,
        }
    }

    /// Reads the configuration when it has changed.
    async fn read_ground(&mut self, found: &Found) -> anyhow::Result<()> {
        let tools = self.tools(found);
        let inputs = Ground::inputs(tools, &found.runtime)?;
        if self
            .ground
            .as_ref()
            .is_none_or(|(known, _)| *known != inputs)
        {
            let ground = Ground::read(tools, &found.runtime).await?;
            self.ground = Some((inputs, ground));
        }
        Ok(())
    }
}

/// Notes what goes on as it is, and what is to change at the next look.
fn waiting(report: &mut Report, told: &Report, plan: &Plan, registered: &Entries) {
    for name in &plan.advertisable {
        match told.handlers.get(name) {
            Some(line) if !plan.changed.contains(name) => {
                report.handlers.insert(name.clone(), line.clone());
            }
            Some(_) | None => report.note(name, State::Verifying, "its definition changes"),
        }
    }
    for name in registered.keys() {
        if !report.handlers.contains_key(name) {
            report.note(name, State::Kept, "it is to be removed");
        }
    }
}

/// What the node's annotation says.
fn told_before(node: &Node) -> Report {
    let told = node.annotations().get(ANNOTATION);
    told.and_then(|told| serde_json::from_str(told).ok())
        .unwrap_or_default()
}
