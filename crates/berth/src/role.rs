//! The roles as tasks of one process, and their end.
//!
//! Every task belongs to a stage. A shutdown goes stage by stage, from the one that nobody needs to the
//! one that all need, each with its share of the time.

use std::time::Duration;

use anyhow::anyhow;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) mod cri;
pub(crate) mod node;
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

const STAGES: [(Stage, Duration); 3] = [
    (Stage::Clients, Duration::from_secs(4)),
    (Stage::Runtime, Duration::from_secs(2)),
    (Stage::Server, Duration::from_secs(2)),
];

struct Ended {
    stage: Stage,
    name: &'static str,
    result: anyhow::Result<()>,
}

/// The running roles.
pub(crate) struct Roles {
    tokens: [CancellationToken; 3],
    tasks: JoinSet<Ended>,
    left: [usize; 3],
}

impl Roles {
    /// None yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            tokens: std::array::from_fn(|_| CancellationToken::new()),
            tasks: JoinSet::new(),
            left: [0; 3],
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
        self.left[index(stage)] += 1;
        self.tasks.spawn(async move {
            Ended {
                stage,
                name,
                result: work.await,
            }
        });
    }

    /// Waits for SIGTERM, SIGINT or a role that ends by itself, while `meanwhile` runs once; then
    /// stops all.
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
                Some(ended) = self.tasks.join_next() => break self.too_early(ended),
                done = &mut meanwhile, if waiting => match done {
                    Ok(()) => waiting = false,
                    Err(error) => break Err(error),
                },
            }
        };
        info!("stopping; pods keep running");
        self.stop().await;
        result
    }

    fn too_early(&mut self, ended: Result<Ended, tokio::task::JoinError>) -> anyhow::Result<()> {
        match ended {
            Ok(Ended {
                stage,
                name,
                result,
            }) => {
                self.left[index(stage)] -= 1;
                match result {
                    Ok(()) => Err(anyhow!("the {name} ended by itself")),
                    Err(error) => Err(error.context(format!("the {name} cannot go on"))),
                }
            }
            Err(error) => Err(anyhow!(error).context("a part of berth broke")),
        }
    }

    async fn stop(mut self) {
        for (stage, limit) in STAGES {
            self.tokens[index(stage)].cancel();
            let drained = tokio::time::timeout(limit, async {
                while self.left[index(stage)] > 0 {
                    match self.tasks.join_next().await {
                        Some(Ok(ended)) => self.left[index(ended.stage)] -= 1,
                        Some(Err(_)) | None => break,
                    }
                }
            });
            if drained.await.is_err() {
                warn!(?stage, "did not stop in time and is cut off");
            }
        }
    }
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
}
