//! Makes a RuntimeClass for each handler that works on a node, and removes it when no node has the handler any more and
//! nothing names the class.
//!
//! Which handlers get one, and which classes are the server's, `berth_core::managed_class` says: names come from a list, not
//! from nodes, and a class that somebody has changed is theirs. So a node in the wrong hands can have a class made that the list
//! has, and delay its removal; it chooses no name, no overhead beyond bounds, and how far a class isolates is never taken from it.
//!
//! - `plan.rs`: what is to be done, as a function of what there is.
//! - `uses.rs`: what names a class, before it is removed.
//! - `measured.rs`: the overhead that nodes have measured.

mod measured;
mod plan;
mod uses;

use std::collections::HashMap;
use std::time::Duration;

use berth_core::managed_class::{UNUSABLE_SINCE, seal};
use berth_supervise::{Brief, Outage};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::node::v1::{Overhead, RuntimeClass};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Reflected;
use crate::server::{is_code, only_unchanged};
use plan::{Action, plan};

/// The field manager.
const MANAGER: &str = "runtimeclass-manager";
/// How often what is watched is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// And when nothing has changed: a grace ends by itself.
const CALM: Duration = Duration::from_secs(30);
/// The same class is not made or removed more often: a node whose handlers come and go makes no storm.
const APART: Duration = Duration::from_secs(60);
/// It is marked, or the mark is taken away, so often at most.
const MARKS_APART: Duration = Duration::from_secs(10);

/// Settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Handlers that get a class besides those of the list.
    pub more_handlers: Vec<String>,
    /// How long a class stays that no node can run and nothing names.
    pub grace: Duration,
    /// How often it is looked at what nodes have measured.
    pub measured_period: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            more_handlers: Vec::new(),
            grace: Duration::from_secs(600),
            measured_period: Duration::from_secs(300),
        }
    }
}

/// What is watched.
#[derive(Clone)]
pub struct Watched {
    /// Nodes.
    pub nodes: Reflected<Node>,
    /// Pods.
    pub pods: Reflected<Pod>,
    /// Namespaces.
    pub namespaces: Reflected<Namespace>,
    /// RuntimeClasses.
    pub classes: Reflected<RuntimeClass>,
}

/// Runs until `shutdown`.
pub async fn run(client: Client, watched: Watched, config: Config, shutdown: CancellationToken) {
    let mut manager = Manager {
        api: Api::all(client.clone()),
        client,
        watched,
        config,
        last: HashMap::new(),
    };
    let mut outage = Outage::new("cannot keep the RuntimeClasses of handlers");
    let mut seen = None;
    let mut looked = Instant::now();
    let mut measured = Instant::now();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = manager.revisions();
        if now.is_none() || (seen == now && looked.elapsed() < CALM) {
            continue;
        }
        let mut done = manager.look().await;
        if done.is_ok() && measured.elapsed() >= manager.config.measured_period {
            measured = Instant::now();
            done = manager.measure().await;
        }
        match done {
            Ok(()) => {
                seen = now;
                looked = Instant::now();
                outage.works();
            }
            Err(error) => {
                let pause = outage.failed(Brief(&error));
                let _ = tokio::time::timeout(pause, shutdown.cancelled()).await;
            }
        }
    }
}

struct Manager {
    client: Client,
    api: Api<RuntimeClass>,
    watched: Watched,
    config: Config,
    /// When a class of a name was made, removed or changed last.
    last: HashMap<String, Instant>,
}

impl Manager {
    /// The revisions of what is watched, once all of it is known.
    fn revisions(&self) -> Option<[u64; 2]> {
        let Watched {
            nodes,
            pods,
            namespaces,
            classes,
        } = &self.watched;
        let is_complete = nodes.is_complete()
            && pods.is_complete()
            && namespaces.is_complete()
            && classes.is_complete();
        is_complete.then(|| [nodes.revision(), classes.revision()])
    }

    async fn look(&mut self) -> kube::Result<()> {
        let now = Timestamp::now();
        let (nodes, classes) = (self.watched.nodes.all(), self.watched.classes.all());
        for action in plan(&nodes, &classes, &self.config, now) {
            match action {
                Action::Make(class) => self.make(*class).await?,
                // What a node says may change at any moment.
                Action::Mark(class) | Action::Unmark(class) if !self.may_mark(&class) => {}
                Action::Mark(class) => {
                    let name = class.name_any();
                    info!(
                        class = name,
                        handler = class.handler,
                        "no node has the handler of this RuntimeClass any more"
                    );
                    self.mark(&class, Some(now)).await?;
                }
                Action::Unmark(class) => self.mark(&class, None).await?,
                Action::Remove(class) => self.remove(&class).await?,
            }
        }
        Ok(())
    }

    fn may_mark(&mut self, class: &RuntimeClass) -> bool {
        // No class has such a name.
        let name = format!("mark {}", class.name_any());
        self.takes_turn(&name, MARKS_APART)
    }

    /// Whether a class of this name may be made, removed or changed again, which is then noted.
    fn takes_turn(&mut self, name: &str, apart: Duration) -> bool {
        let now = Instant::now();
        self.last
            .retain(|_, at| now.duration_since(*at) < measured::APART);
        let is_due = self
            .last
            .get(name)
            .is_none_or(|at| now.duration_since(*at) >= apart);
        if is_due {
            self.last.insert(name.to_owned(), now);
        }
        is_due
    }

    async fn make(&mut self, class: RuntimeClass) -> kube::Result<()> {
        let name = class.name_any();
        if !self.takes_turn(&name, APART) {
            return Ok(());
        }
        match self.api.create(&params(), &class).await {
            Ok(_) => {
                info!(class = name, "made a RuntimeClass for a handler that works");
                Ok(())
            }
            // Somebody was faster: it is theirs.
            Err(error) if is_code(&error, &[409]) => Ok(()),
            // A namespace counts on a stronger one of this name.
            Err(error) if is_code(&error, &[403, 422]) => {
                warn!(class = name, error = %Brief(&error), "no RuntimeClass is made for a handler that works");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn mark(&self, class: &RuntimeClass, since: Option<Timestamp>) -> kube::Result<()> {
        let since = since.map(|since| since.to_string());
        let meta = json!({"uid": class.uid(), "annotations": {UNUSABLE_SINCE: since}});
        let patch = Patch::Merge(json!({"metadata": meta}));
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let marked = self
            .api
            .patch_metadata(&class.name_any(), &params, &patch)
            .await;
        match marked {
            Ok(_) => Ok(()),
            Err(error) if is_code(&error, &[404, 409, 422]) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes a class, if nothing names it and it is still as it was read.
    async fn remove(&mut self, class: &RuntimeClass) -> kube::Result<()> {
        let name = class.name_any();
        let watched = &self.watched;
        if uses::by_objects(&name, &watched.pods.all(), &watched.namespaces.all())
            || uses::by_templates(&self.client, &name).await?
        {
            return Ok(());
        }
        if !self.takes_turn(&name, APART) {
            return Ok(());
        }
        match self
            .api
            .delete(&name, &only_unchanged(&class.metadata))
            .await
        {
            Ok(_) => {
                info!(
                    class = name,
                    "removed the RuntimeClass of a handler that no node has any more"
                );
                Ok(())
            }
            Err(error) if is_code(&error, &[404, 409]) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn measure(&mut self) -> kube::Result<()> {
        let (classes, pods) = (self.watched.classes.all(), self.watched.pods.all());
        let proposed = measured::proposals(&self.client, &classes, &pods).await;
        for (class, overhead) in proposed {
            let name = class.name_any();
            if self.takes_turn(&name, measured::APART) {
                self.change(&class, overhead).await?;
            }
        }
        Ok(())
    }

    /// Writes another overhead, if the class is still as it was read.
    async fn change(&self, class: &RuntimeClass, overhead: Overhead) -> kube::Result<()> {
        let mut changed = class.clone();
        changed.overhead = Some(overhead);
        seal(&mut changed);
        let name = class.name_any();
        match self.api.replace(&name, &params(), &changed).await {
            Ok(_) => {
                info!(
                    class = name,
                    "the overhead of a RuntimeClass is now what nodes have measured"
                );
                Ok(())
            }
            Err(error) if is_code(&error, &[404, 409, 422]) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}
