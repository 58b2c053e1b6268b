//! The tasks that work as long as the server does. One that ends by itself, or panics, ends the server: it must not go
//! on answering from a cache that nobody fills any more.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinError, JoinSet};

/// Why a server ended before it was told to.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ServeError {
    /// A task ended by itself.
    #[error("the API server's task {task:?} ended by itself")]
    Ended {
        /// Its name.
        task: &'static str,
    },
    /// A task panicked.
    #[error("the API server's task {task:?} panicked: {reason}")]
    Panicked {
        /// Its name.
        task: &'static str,
        /// What the panic said.
        reason: String,
    },
}

/// The tasks, by name.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Starts one.
    pub(super) fn spawn(
        &mut self,
        task: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.set.spawn(work).id();
        self.names.insert(id, task);
    }

    /// Waits until one of them ends.
    pub(super) async fn ended(&mut self) -> ServeError {
        match self.set.join_next_with_id().await {
            Some(Ok((id, ()))) => ServeError::Ended {
                task: self.name(id),
            },
            Some(Err(error)) => ServeError::Panicked {
                task: self.name(error.id()),
                reason: panic_text(error),
            },
            None => std::future::pending().await,
        }
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or_default()
    }

    /// Ends them all.
    pub(super) async fn stop(mut self) {
        self.set.shutdown().await;
    }
}

/// What a panic said.
fn panic_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => payload_text(panic.as_ref()).to_owned(),
        Err(cancelled) => cancelled.to_string(),
    }
}

/// The message of a panic's payload.
pub(super) fn payload_text(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_or_panics_is_named() {
        let mut tasks = Tasks::default();
        tasks.spawn("works on", std::future::pending());
        tasks.spawn("maintenance", async { panic!("no clock") });
        assert_eq!(
            tasks.ended().await.to_string(),
            "the API server's task \"maintenance\" panicked: no clock"
        );
        tasks.spawn("follower", async {});
        assert_eq!(
            tasks.ended().await.to_string(),
            "the API server's task \"follower\" ended by itself"
        );
        tasks.stop().await;
    }
}
