//! The server's tasks, none of which is without an owner.
//!
//! A task of the server that panics, or ends although it never should, leaves a server that looks alive and does part of
//! its work: containers whose end nobody notices, a table that doesn't reload. So it ends the server with the reason.
//! Containers live on under their shims, and the next server takes them over. A request's or a stream's task is another
//! matter: its panic is its client's, who is told.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A task of the server that is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskFailed {
    pub(crate) name: &'static str,
    pub(crate) reason: String,
}

/// Where tasks are begun.
#[derive(Debug)]
pub(crate) struct Tasks {
    requests: TaskTracker,
    undoings: TaskTracker,
    /// Ends all but the requests.
    ended: CancellationToken,
    failed: mpsc::Sender<TaskFailed>,
}

/// The owner of the tasks: with it they end.
#[derive(Debug)]
pub(crate) struct TasksOwner {
    requests: TaskTracker,
    undoings: TaskTracker,
    failed: mpsc::Receiver<TaskFailed>,
    _ended: DropGuard,
}

/// Both sides.
pub(crate) fn tasks() -> (Tasks, TasksOwner) {
    let ended = CancellationToken::new();
    let (requests, undoings) = (TaskTracker::new(), TaskTracker::new());
    let (failed, receiver) = mpsc::channel(1);
    let owner = TasksOwner {
        requests: requests.clone(),
        undoings: undoings.clone(),
        failed: receiver,
        _ended: ended.clone().drop_guard(),
    };
    let tasks = Tasks {
        requests,
        undoings,
        ended,
        failed,
    };
    (tasks, owner)
}

impl Tasks {
    /// Begins a task that ends when its work is done. A panic ends the server.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let (failed, ended) = (self.failed.clone(), self.ended.clone());
        tokio::spawn(async move {
            let work = AssertUnwindSafe(work).catch_unwind();
            if let Some(Err(panic)) = ended.run_until_cancelled_owned(work).await {
                let reason = format!("it panicked: {}", text(&*panic));
                // The first one is enough.
                let _ = failed.try_send(TaskFailed { name, reason });
            }
        });
    }

    /// Begins a task that lasts until the shutdown. A panic or an earlier end ends the server.
    pub(crate) fn keep(
        &self,
        name: &'static str,
        shutdown: &CancellationToken,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let (failed, shutdown) = (self.failed.clone(), shutdown.clone());
        self.spawn(name, async move {
            work.await;
            if !shutdown.is_cancelled() {
                let reason = "it ended, which it never should".to_owned();
                let _ = failed.try_send(TaskFailed { name, reason });
            }
        });
    }

    /// Begins a request's work, which goes on when its client leaves, and is waited for at the shutdown.
    pub(crate) fn request<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.requests.spawn(work)
    }

    /// While it is held, a request undoes what it has begun: the shutdown waits for that longer than for requests.
    pub(crate) fn undoing(&self) -> TaskTrackerToken {
        self.undoings.token()
    }

    /// Begins what a client's connection needs, and ends it with the server at the latest.
    pub(crate) fn connection(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        tokio::spawn(async move {
            let work = AssertUnwindSafe(work).catch_unwind();
            if let Some(Err(panic)) = ended.run_until_cancelled_owned(work).await {
                tracing::error!(reason = text(&*panic), "a stream's task panicked");
            }
        });
    }
}

impl TasksOwner {
    /// Waits for a task of the server to fail.
    pub(crate) async fn failed(&mut self) -> TaskFailed {
        match self.failed.recv().await {
            Some(failed) => failed,
            // Nobody is left who could fail.
            None => std::future::pending().await,
        }
    }

    /// Waits for the requests under way, and for those that undo what they have begun with another patience.
    pub(crate) async fn drain(&self, patience: Duration, undoing: Duration) {
        self.requests.close();
        self.undoings.close();
        if tokio::time::timeout(patience, self.requests.wait())
            .await
            .is_err()
        {
            let _ = tokio::time::timeout(undoing, self.undoings.wait()).await;
        }
        if !self.requests.is_empty() {
            tracing::warn!(
                requests = self.requests.len(),
                "requests are still under way; what they change is found by the next server"
            );
        }
    }
}

/// What a panic said.
pub(crate) fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_and_an_early_end_are_told_once() {
        let (tasks, mut owner) = tasks();
        let shutdown = CancellationToken::new();
        tasks.spawn("done", async {});
        tasks.spawn("panics", async { panic!("no {}", "luck") });
        let failed = owner.failed().await;
        assert_eq!(
            (failed.name, failed.reason.as_str()),
            ("panics", "it panicked: no luck")
        );
        tasks.keep("ends", &shutdown, async {});
        assert_eq!(owner.failed().await.name, "ends");
        // At the shutdown it may.
        shutdown.cancel();
        tasks.keep("last", &shutdown, async {});
        // The next one that is logged is another one.
        tasks.spawn("other", async { panic!("later") });
        assert_eq!(owner.failed().await.name, "other");
    }

    #[tokio::test]
    async fn requests_are_waited_for_and_the_rest_ends_with_the_owner() {
        let (tasks, owner) = tasks();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let request = tasks.request(async move { gone.await.is_ok() });
        let (alive, mut ended) = mpsc::channel::<()>(1);
        let watcher = alive.clone();
        tasks.spawn("watcher", async move {
            std::future::pending::<()>().await;
            drop(watcher);
        });
        tasks.connection(async move {
            std::future::pending::<()>().await;
            drop(alive);
        });
        go.send(()).unwrap();
        owner.drain(Duration::from_secs(30), Duration::ZERO).await;
        assert!(request.await.unwrap());
        drop(owner);
        assert_eq!(ended.recv().await, None);
    }

    #[tokio::test]
    async fn undoing_is_waited_for_longer_than_a_request() {
        let (tasks, owner) = tasks();
        let undoing = tasks.undoing();
        let request = tasks.request(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            drop(undoing);
            true
        });
        // One that only takes long is not.
        let long = tasks.request(std::future::pending::<()>());
        let began = tokio::time::Instant::now();
        let (patience, undoing) = (Duration::from_millis(10), Duration::from_secs(60));
        owner.drain(patience, undoing).await;
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(300) && waited < undoing);
        assert!(request.await.unwrap() && !long.is_finished());
        long.abort();
    }

    #[tokio::test]
    async fn a_request_that_panics_is_its_client_s() {
        let (tasks, owner) = tasks();
        let request = tasks.request(async { panic!("bad request") });
        assert!(request.await.unwrap_err().is_panic());
        owner.drain(Duration::from_secs(30), Duration::ZERO).await;
    }
}
