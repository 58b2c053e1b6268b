//! The program of each node: it makes the node's handlers those of the list, one look after the other.
//!
//! Each look does, in this order: labels of handlers that may not be advertised go; files and the runtime follow; pods prove what is
//! new, or due again; labels of what works come.
//!
//! - `node/files.rs`: handlers' own files, and berth's shim.
//! - `node/prove.rs`: which handlers are to be proved now.
//! - `node/tell.rs`: labels, the annotation, events.

mod files;
mod prove;
mod tell;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use berth_installer::entry::{self, Entries, Place as EntryPlace};
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
use super::proof::Prover;
use super::runtime::{Cri, Process, Restart};

/// After a change that failed, the same one is tried again.
const AGAIN: Duration = Duration::from_secs(600);

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
}

/// What was found out of a handler.
struct Proved {
    /// Of what: its entry, and the files behind it.
    of: String,
    at: Instant,
    outcome: Result<String, String>,
}

/// A change that failed.
struct Failed {
    /// The change.
    what: String,
    at: Instant,
    why: String,
    /// How often.
    times: u32,
}

impl Failed {
    /// When it is tried again: each restart of a runtime that fails costs the node's pods something.
    fn wait(&self) -> Duration {
        let doubled = self.times.saturating_sub(1).min(7);
        AGAIN.saturating_mul(2_u32.saturating_pow(doubled))
    }
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
    failed: Option<Failed>,
    /// The handlers of the list that were registered as they are wanted when that could be seen last.
    sure: BTreeMap<String, Handler>,
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
    let mut installer = Installer {
        config,
        nodes,
        ground: None,
        proved: BTreeMap::new(),
        start: Instant::now(),
        usage: Usage::default(),
        failed: None,
        sure: BTreeMap::new(),
        told: Report::default(),
    };
    info!(node = installer.config.node, "keeping the node's handlers");
    if let Err(error) = installer.config.prover.clean().await {
        warn!(
            error = format!("{error:#}"),
            "pods of an earlier run may be left"
        );
    }
    while !shutdown.is_cancelled() {
        let known = list.borrow_and_update().clone();
        if let Err(error) = installer.look(&known).await {
            warn!(
                error = format!("{error:#}"),
                "cannot look after the node's handlers"
            );
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            changed = list.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(installer.config.look) => {}
        }
    }
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
    async fn look(&mut self, list: &List) -> anyhow::Result<()> {
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
                self.tell(&node, report).await
            }
            List::Handlers(handlers) => self.install(&node, handlers).await,
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

    async fn install(&mut self, node: &Node, handlers: &[Handler]) -> anyhow::Result<()> {
        let outcome = self.settle(node, handlers).await;
        match outcome {
            Ok(report) => self.tell(node, report).await,
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
                // What is advertised stays so for a while if it was registered as it is wanted, and nothing says that it doesn't work.
                let mut report = told_before(node);
                report
                    .handlers
                    .retain(|name, _| handlers.iter().any(|handler| handler.name == *name));
                for handler in handlers {
                    let is_sure = self.sure.get(&handler.name) == Some(handler)
                        && self.is_recent(&handler.name);
                    if let Some(line) = report.handlers.get_mut(&handler.name)
                        && line.state == State::Works
                        && !is_sure
                    {
                        line.state = State::Verifying;
                        line.reason = "it can't be tried now".to_owned();
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
    async fn settle(&mut self, node: &Node, listed: &[Handler]) -> anyhow::Result<Report> {
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
        self.sure = listed
            .iter()
            .filter(|handler| {
                plan.advertisable.contains(&handler.name) && !plan.changed.contains(&handler.name)
            })
            .map(|handler| (handler.name.clone(), handler.clone()))
            .collect();
        let mut report = Report::default();
        for (name, reason) in &plan.reasons {
            let state = if plan.entries.contains_key(name) && !seen.unfit.contains_key(name) {
                State::Kept
            } else {
                State::Broken
            };
            report.note(name, state, reason);
        }
        if self.hide(node, &plan).await? {
            // A pod that was bound to this node a moment ago may not have been seen yet: nothing changes before another look.
            waiting(&mut report, &told_before(node), &plan, &place.entries);
            return Ok(report);
        }
        let problem = self
            .change(&found, &inputs, &ground, &place, handlers, words, &plan)
            .await?;
        if let Some(problem) = problem {
            report.problem = shortened(&problem);
            // Those that are registered as they are wanted are proved nonetheless.
            for name in std::mem::take(&mut plan.changed) {
                plan.advertisable.remove(&name);
                report.note(&name, State::Verifying, "it is not registered yet");
            }
        }
        self.prove(node, handlers, &plan, &mut report, &found.cri)
            .await?;
        Ok(report)
    }

    /// Makes the entries those of the plan. Gives why that failed, if it did.
    #[expect(clippy::too_many_arguments, reason = "what a look has found")]
    async fn change(
        &mut self,
        found: &Found,
        inputs: &str,
        ground: &Ground,
        place: &Place,
        handlers: &[Handler],
        words: EntryPlace<'_>,
        plan: &Plan,
    ) -> anyhow::Result<Option<String>> {
        let what = format!("{inputs}\n{:?}", plan.entries);
        let before = self.failed.as_ref().filter(|failed| failed.what == what);
        let times = before.map_or(0, |failed| failed.times);
        if let Some(failed) = before.filter(|failed| failed.at.elapsed() < failed.wait()) {
            return Ok(Some(failed.why.clone()));
        }
        self.put_shim(handlers, words, &plan.entries)?;
        let is_live = found.runtime.is_crio && found.runtime.version >= (1, 31);
        let applied = apply(self.tools(found), ground, place, &plan.entries, is_live).await;
        match applied {
            Ok(was_changed) => {
                self.failed = None;
                if was_changed {
                    info!(handlers = ?plan.entries.keys().collect::<Vec<_>>(), "the runtime knows the handlers");
                    self.ground = None;
                }
            }
            Err(error) => {
                let why = format!("{error:#}");
                if !error.is::<Untried>() {
                    warn!(error = why, "the node's handlers can't be changed");
                    self.failed = Some(Failed {
                        what,
                        at: Instant::now(),
                        why: why.clone(),
                        times: times.saturating_add(1),
                    });
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
