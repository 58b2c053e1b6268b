//! The roles as tasks of one process, and their end.
//!
//! Every task belongs to a stage. A shutdown goes stage by stage, from the one that nobody needs to the
//! one that all need, each with its share of the time.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::anyhow;
use berth_supervise::panic_reason;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::service_manager;

pub(crate) mod cri;
pub(crate) mod dns;
pub(crate) mod node;
pub(crate) mod policies;
pub(crate) mod server;

/// In the order in which they stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Node agent, scheduler, controllers: clients of the others.
    Clients,
    /// The CRI runtime.
    Runtime,
    /// The API server.
    Server,
}

/// The runtime limits itself: its requests have seconds, what a pod that is not whole has to be undone has longer.
const STAGES: [(Stage, Duration); 3] = [
    (Stage::Clients, Duration::from_secs(4)),
    (Stage::Runtime, Duration::from_secs(50)),
    (Stage::Server, Duration::from_secs(2)),
];

/// How a role ended: a panic is an error like others here.
struct Ended {
    stage: Stage,
    name: &'static str,
    result: anyhow::Result<()>,
}

/// The running roles.
pub(crate) struct Roles {
    tokens: [CancellationToken; 3],
    tasks: JoinSet<anyhow::Result<()>>,
    /// Those that have not ended.
    running: HashMap<Id, (Stage, &'static str)>,
}

impl Roles {
    /// None yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            tokens: std::array::from_fn(|_| CancellationToken::new()),
            tasks: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// Starts a role; `start` gets the token that ends it.
    pub(crate) fn spawn<F>(
        &mut self,
        stage: Stage,
        name: &'static str,
        start: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let work = start(self.tokens[index(stage)].clone());
        let task = self.tasks.spawn(work);
        self.running.insert(task.id(), (stage, name));
    }

    /// Waits for SIGTERM, SIGINT or a role that ends by itself, while `meanwhile` runs once; then
    /// stops all. At the end of `meanwhile` the service manager hears that all is ready.
    ///
    /// # Errors
    /// When a role failed; the others are stopped all the same.
    pub(crate) async fn run(
        mut self,
        meanwhile: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut meanwhile = std::pin::pin!(meanwhile);
        let mut waiting = true;
        let result = loop {
            tokio::select! {
                _ = terminate.recv() => break Ok(()),
                _ = interrupt.recv() => break Ok(()),
                Some(ended) = self.tasks.join_next_with_id() => break Err(too_early(self.ended(ended))),
                done = &mut meanwhile, if waiting => match done {
                    Ok(()) => {
                        waiting = false;
                        service_manager::ready();
                    }
                    Err(error) => break Err(error),
                },
            }
        };
        service_manager::stopping();
        info!("stopping; pods keep running");
        self.stop().await;
        result
    }

    /// Which role it was that ended, and how.
    fn ended(&mut self, joined: Result<(Id, anyhow::Result<()>), JoinError>) -> Ended {
        let (id, result) = match joined {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(broken(error))),
        };
        let unknown = (Stage::Clients, "unnamed role");
        let (stage, name) = self.running.remove(&id).unwrap_or(unknown);
        Ended {
            stage,
            name,
            result,
        }
    }

    fn left(&self, stage: Stage) -> bool {
        self.running.values().any(|(of, _)| *of == stage)
    }

    async fn stop(mut self) {
        for (stage, limit) in STAGES {
            self.tokens[index(stage)].cancel();
            let drained = tokio::time::timeout(limit, async {
                while self.left(stage)
                    && let Some(joined) = self.tasks.join_next_with_id().await
                {
                    let Ended {
                        stage,
                        name,
                        result,
                    } = self.ended(joined);
                    if let Err(error) = result {
                        warn!(
                            role = name,
                            ?stage,
                            error = format!("{error:#}"),
                            "failed while it stopped"
                        );
                    }
                }
            });
            if drained.await.is_err() {
                warn!(?stage, "did not stop in time and is cut off");
            }
        }
    }
}

fn broken(error: JoinError) -> anyhow::Error {
    match error.try_into_panic() {
        Ok(panic) => anyhow!("it panicked: {}", panic_reason(&*panic)),
        Err(_) => anyhow!("it was cut off"),
    }
}

/// Why the process ends.
fn too_early(ended: Ended) -> anyhow::Error {
    let name = ended.name;
    let error = match ended.result {
        Ok(()) => anyhow!("the {name} ended by itself"),
        Err(error) => error.context(format!("the {name} cannot go on")),
    };
    error!(role = name, error = format!("{error:#}"), "a role ended");
    error
}

fn index(stage: Stage) -> usize {
    match stage {
        Stage::Clients => 0,
        Stage::Runtime => 1,
        Stage::Server => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_role_that_fails_stops_the_others_in_order() {
        let (report, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut roles = Roles::new();
        for (stage, name) in [(Stage::Server, "server"), (Stage::Clients, "node")] {
            let report = report.clone();
            roles.spawn(stage, name, |token| async move {
                token.cancelled().await;
                report.send(name)?;
                Ok(())
            });
        }
        roles.spawn(Stage::Runtime, "cri", |_| async { Err(anyhow!("no disk")) });
        let error = roles.run(std::future::pending()).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "the cri cannot go on: no disk");
        assert_eq!(
            (order.recv().await, order.recv().await),
            (Some("node"), Some("server"))
        );
    }

    #[tokio::test]
    #[allow(clippy::panic)]
    async fn a_role_that_panics_or_returns_is_named_with_its_reason() {
        let mut roles = Roles::new();
        roles.spawn(Stage::Clients, "node agent", |_| async {
            panic!("no entry for {}", "x")
        });
        let error = roles.run(std::future::pending()).await.unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "the node agent cannot go on: it panicked: no entry for x"
        );
        let mut roles = Roles::new();
        roles.spawn(Stage::Server, "API server", |_| async { Ok(()) });
        let error = roles.run(std::future::pending()).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "the API server ended by itself");
    }
}
