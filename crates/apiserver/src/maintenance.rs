//! What the server does by the clock: events are forgotten after an hour, and history after some
//! minutes, as the stock server has etcd do.

use std::sync::Arc;
use std::time::Duration;

use berth_store::{Expect, Revision};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::rest::meta;
use crate::storage::Stored;

const TICK: Duration = Duration::from_secs(60);
/// History is kept for so many ticks.
const HISTORY_TICKS: usize = 5;
/// Events live so long after they were last seen (stock: `--event-ttl`).
const EVENT_SECONDS: i64 = 3600;
/// History is kept for at least so many revisions, for watches to resume from after a restart.
const HISTORY_REVISIONS: Revision = 1000;

/// Works until `shutdown`.
pub(crate) async fn run(api: Arc<Api>, shutdown: CancellationToken) {
    let mut revisions = Vec::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(TICK) => {}
        }
        expire_events(&api, jiff::Timestamp::now()).await;
        revisions.push(api.storage.applied());
        if revisions.len() > HISTORY_TICKS {
            let revision = revisions
                .remove(0)
                .min(api.storage.applied() - HISTORY_REVISIONS);
            if revision > 0
                && let Err(error) = api.storage.compact(revision).await
            {
                tracing::warn!(%error, revision, "history could not be compacted");
            }
        }
    }
}

async fn expire_events(api: &Api, now: jiff::Timestamp) {
    for event in api.storage.list("core/events", None) {
        if !is_expired(&event, now) {
            continue;
        }
        let removed = api
            .storage
            .remove(
                "core/events",
                &event.namespace,
                &event.name,
                Expect::Revision(event.revision),
            )
            .await;
        if let Err(error) = removed {
            tracing::warn!(%error, name = %event.name, "an old event could not be removed");
            return;
        }
    }
}

fn is_expired(event: &Stored, now: jiff::Timestamp) -> bool {
    // One that cannot be read is left to an administrator.
    event
        .value()
        .ok()
        .and_then(|event| last_seen(&event))
        .is_some_and(|seen| now.as_second() - seen.as_second() > EVENT_SECONDS)
}

fn last_seen(event: &Value) -> Option<jiff::Timestamp> {
    [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/firstTimestamp",
        "/metadata/creationTimestamp",
    ]
    .iter()
    .filter_map(|pointer| meta::text(event, pointer).parse().ok())
    .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_counts_from_when_it_was_last_seen() {
        let event = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:50:00Z", "eventTime": null});
        assert_eq!(
            last_seen(&event),
            Some("2026-01-01T00:50:00Z".parse().unwrap())
        );
        assert_eq!(last_seen(&json!({})), None);
    }
}
