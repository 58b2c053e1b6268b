//! What the server does by the clock: events are forgotten after an hour, and history after some
//! minutes, as the stock server has etcd do.

use std::sync::Arc;
use std::time::Duration;

use berth_store::{Expect, Revision};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::metadata as meta;
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
        let namespaces = api.storage.cache("core/namespaces");
        api.storage
            .remove_unused_guards(|namespace| namespaces.get("", namespace).is_some())
            .await;
        revisions.push(api.storage.applied());
        if revisions.len() > HISTORY_TICKS {
            let before = revisions.remove(0);
            api.storage.end_lists_before(before);
            let revision = before.min(api.storage.applied() - HISTORY_REVISIONS);
            if revision > 0
                && let Err(error) = api.storage.compact(revision).await
            {
                tracing::warn!(%error, revision, "history could not be compacted");
            }
        }
    }
}

async fn expire_events(api: &Api, now: jiff::Timestamp) {
    let events = api.storage.list("core/events", None);
    // They may be many, and large.
    let reading = tokio::task::spawn_blocking(move || {
        let expired = events.into_iter().filter(|event| is_expired(event, now));
        expired.collect::<Vec<_>>()
    });
    let expired = match reading.await {
        Ok(expired) => expired,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The server ends.
        Err(_) => return,
    };
    for event in expired {
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
        .and_then(|event| last_seen(&event, now))
        .is_some_and(|seen| now.as_second() - seen.as_second() > EVENT_SECONDS)
}

/// When an event was last seen. Except for the creation this is what somebody says: what lies further in the future than
/// clocks differ does not count, so that nobody makes an event that stays.
fn last_seen(event: &Value, now: jiff::Timestamp) -> Option<jiff::Timestamp> {
    [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/firstTimestamp",
        "/metadata/creationTimestamp",
    ]
    .iter()
    .filter_map(|pointer| meta::text(event, pointer).parse::<jiff::Timestamp>().ok())
    .filter(|at| at.as_second() <= now.as_second().saturating_add(EVENT_SECONDS))
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
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let now = at("2026-01-01T01:00:00Z");
        assert_eq!(last_seen(&event, now), Some(at("2026-01-01T00:50:00Z")));
        assert_eq!(last_seen(&json!({}), now), None);
    }

    #[test]
    fn nobody_makes_an_event_that_stays() {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let event = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "lastTimestamp": "2099-01-01T00:00:00Z", "eventTime": "9999-01-01T00:00:00Z",
            "series": {"lastObservedTime": "2030-01-01T00:00:00Z"}});
        let seen = last_seen(&event, at("2026-01-01T01:00:01Z"));
        assert_eq!(seen, Some(at("2026-01-01T00:00:00Z")));
    }
}
