//! Events about pods: written beside the bindings, and behind them.
//!
//! As with the stock scheduler nobody waits for an event. While many pods are being bound only a few are written at a time, so
//! that the server has its time for the bindings; the others wait, each with the time at which what it tells has happened.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::warn;

use crate::write::{Occurrence, Writer};

/// Events that may wait. With more, new ones are dropped, as everywhere in Kubernetes.
const EVENTS_WAITING: usize = 10_000;
/// Events that are written at once.
const EVENTS_AT_ONCE: usize = 16;
/// The same while pods are being bound.
const EVENTS_WHILE_BINDING: usize = 2;
/// From so many writes on pods are being bound.
const BINDING: usize = 8;

/// Events that wait, and those that are being written.
#[derive(Default)]
pub(super) struct Recorder {
    waiting: VecDeque<Occurrence>,
    writing: JoinSet<()>,
    dropped: u64,
}

impl Recorder {
    pub(super) fn add(&mut self, occurrence: Occurrence) {
        if self.waiting.len() < EVENTS_WAITING {
            return self.waiting.push_back(occurrence);
        }
        // Once for each time that it is full.
        if self.dropped == 0 {
            warn!("events about pods are dropped: the API server takes them too slowly");
        }
        self.dropped += 1;
    }

    /// Begins to write what may be written now, beside so many other writes.
    pub(super) fn write(&mut self, writer: &Arc<Writer>, others: usize) {
        let most = if others >= BINDING {
            EVENTS_WHILE_BINDING
        } else {
            EVENTS_AT_ONCE
        };
        while self.writing.len() < most
            && let Some(occurrence) = self.waiting.pop_front()
        {
            let writer = Arc::clone(writer);
            self.writing
                .spawn(async move { writer.event(&occurrence).await });
        }
        if self.waiting.is_empty() && self.dropped > 0 {
            warn!(count = self.dropped, "events about pods were dropped");
            self.dropped = 0;
        }
    }

    /// Resolves when one is written; never when none is.
    pub(super) async fn written(&mut self) {
        if self.writing.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Writes all that wait.
    pub(super) async fn drain(&mut self, writer: &Arc<Writer>) {
        self.write(writer, 0);
        while self.writing.join_next().await.is_some() {
            self.write(writer, 0);
        }
    }
}
