//! The tasks of one role: each has an owner that learns how it ended.
//!
//! | spawned by | may end | a panic |
//! |---|---|---|
//! | [`Tasks::spawn_essential`] | at shutdown only | ends the role |
//! | [`Tasks::spawn`] | yes | ends the role |
//! | [`Tasks::spawn_isolated`] | yes | is logged: it harms only the request that the task serves |

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

/// Why a role cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// A defect of berth.
    #[error("its task \"{task}\" panicked: {reason}")]
    Panicked {
        /// The task's name.
        task: &'static str,
        /// What the panic said.
        reason: String,
    },
    /// It returned though nobody had asked for the end.
    #[error("its task \"{task}\" ended by itself")]
    Ended {
        /// The task's name.
        task: &'static str,
    },
}

/// Spawns and owns tasks; cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tracker: TaskTracker,
    /// Asks the tasks to end.
    stop: CancellationToken,
    /// Drops those that do not.
    cut: CancellationToken,
    failure: watch::Sender<Option<TaskError>>,
}

impl Tasks {
    /// No tasks yet; they are asked to end when `shutdown` is cancelled.
    #[must_use]
    pub fn new(shutdown: &CancellationToken) -> Self {
        let shared = Shared {
            tracker: TaskTracker::new(),
            stop: shutdown.child_token(),
            cut: CancellationToken::new(),
            failure: watch::Sender::new(None),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The token that asks the tasks to end.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.shared.stop.clone()
    }

    /// Spawns a task that the role cannot be without until it stops.
    pub fn spawn_essential(
        &self,
        task: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        self.shared.tracker.spawn(async move {
            match shared.run(work).await {
                Ran::Whole if !shared.stop.is_cancelled() => {
                    shared.fail(TaskError::Ended { task });
                }
                Ran::Whole | Ran::Cut => {}
                Ran::Panicked(reason) => shared.fail(TaskError::Panicked { task, reason }),
            }
        });
    }

    /// Spawns a task that may end whenever it is done.
    pub fn spawn(
        &self,
        task: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let shared = Arc::clone(&self.shared);
        // Some are large, and each layer of a spawn moves them once more on the caller's stack.
        let work = Box::pin(work);
        self.shared.tracker.spawn(async move {
            if let Ran::Panicked(reason) = shared.run(work).await {
                shared.fail(TaskError::Panicked { task, reason });
            }
        })
    }

    /// Spawns a task whose panic harms nothing but what it was about, such as one connection.
    pub fn spawn_isolated(
        &self,
        task: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let shared = Arc::clone(&self.shared);
        // Some are large, and each layer of a spawn moves them once more on the caller's stack.
        let work = Box::pin(work);
        self.shared.tracker.spawn(async move {
            if let Ran::Panicked(reason) = shared.run(work).await {
                error!(task, reason, "a task panicked; the others go on");
            }
        })
    }

    /// Waits until the role is asked to stop or a task fails; then asks all tasks to end, and drops those that have
    /// not ended within `limit`. When this future itself is dropped, so are the tasks.
    ///
    /// # Errors
    /// The first failure of a task.
    pub async fn run(&self, limit: Duration) -> Result<(), TaskError> {
        let _cut = self.shared.cut.clone().drop_guard();
        let mut failure = self.shared.failure.subscribe();
        tokio::select! {
            () = self.shared.stop.cancelled() => {}
            _ = failure.wait_for(Option::is_some) => {}
        }
        let failed = failure.borrow().clone();
        self.shared.stop.cancel();
        self.shared.tracker.close();
        if tokio::time::timeout(limit, self.shared.tracker.wait())
            .await
            .is_err()
        {
            let tasks = self.shared.tracker.len();
            warn!(tasks, "tasks did not end in time and are cut off");
        }
        failed.map_or(Ok(()), Err)
    }
}

enum Ran {
    Whole,
    Cut,
    Panicked(String),
}

impl Shared {
    async fn run(&self, work: impl Future<Output = ()>) -> Ran {
        tokio::select! {
            biased;
            () = self.cut.cancelled() => Ran::Cut,
            // What the work shared with others is guarded by locks that know no poison; whoever sees the panic ends
            // the role or drops everything that belonged to the task.
            result = AssertUnwindSafe(work).catch_unwind() => match result {
                Ok(()) => Ran::Whole,
                Err(panic) => Ran::Panicked(panic_reason(&*panic)),
            },
        }
    }

    fn fail(&self, failure: TaskError) {
        error!(error = %failure, "a task that is needed has ended");
        self.failure.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(failure);
            }
            is_first
        });
    }
}

/// What a panic said.
#[must_use]
pub fn panic_reason(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it said nothing".to_owned())
}

/// Runs what blocks on a thread of its own; its panic goes on in the caller.
pub async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels it, and then nobody waits any more.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn tasks() -> (Tasks, CancellationToken) {
        let shutdown = CancellationToken::new();
        (Tasks::new(&shutdown), shutdown)
    }

    #[tokio::test]
    #[allow(clippy::panic)]
    async fn a_panic_ends_the_role_with_its_reason_and_the_other_tasks() {
        let (tasks, _shutdown) = tasks();
        let (ended, other) = tokio::sync::oneshot::channel();
        let stop = tasks.stop_token();
        tasks.spawn_essential("other", async move {
            stop.cancelled().await;
            let _ = ended.send(());
        });
        tasks.spawn("worker", async { panic!("index {} is out", 7) });
        let error = tasks.run(LIMIT).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "its task \"worker\" panicked: index 7 is out"
        );
        other.await.unwrap();
    }

    #[tokio::test]
    async fn an_essential_task_may_end_at_shutdown_only() {
        let (tasks, _shutdown) = tasks();
        tasks.spawn("done", async {});
        tasks.spawn_essential("watch", async {});
        let ended = TaskError::Ended { task: "watch" };
        assert_eq!(tasks.run(LIMIT).await, Err(ended));

        let (tasks, shutdown) = self::tasks();
        let stop = tasks.stop_token();
        tasks.spawn_essential("watch", async move { stop.cancelled().await });
        shutdown.cancel();
        assert_eq!(tasks.run(LIMIT).await, Ok(()));
    }

    #[tokio::test]
    #[allow(clippy::panic)]
    async fn a_request_that_panics_harms_nobody() {
        let (tasks, shutdown) = tasks();
        let request = tasks.spawn_isolated("request", async { panic!("bad") });
        request.await.unwrap();
        shutdown.cancel();
        assert_eq!(tasks.run(LIMIT).await, Ok(()));
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_dropped_and_leaves_nothing_behind() {
        let (tasks, shutdown) = tasks();
        let (alive, dropped) = tokio::sync::oneshot::channel::<()>();
        let task = tasks.spawn("deaf", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        shutdown.cancel();
        assert_eq!(tasks.run(Duration::from_millis(20)).await, Ok(()));
        task.await.unwrap();
        assert!(dropped.await.is_err());
    }

    #[tokio::test]
    #[allow(clippy::panic)]
    async fn a_panic_beside_the_workers_reaches_the_task() {
        let (tasks, _shutdown) = tasks();
        tasks.spawn("reader", async {
            unblock::<()>(|| panic!("disk")).await;
        });
        let error = tasks.run(LIMIT).await.unwrap_err();
        assert_eq!(error.to_string(), "its task \"reader\" panicked: disk");
    }
}
