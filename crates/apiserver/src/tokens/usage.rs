//! When tokens that are kept in Secrets were last used. A controller manager takes those back that nobody uses
//! (`legacy-service-account-token-cleaner-controller`), and goes by a label of the Secret and by a ConfigMap that says
//! since when the label is written.

use std::fmt;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use berth_store::Expect;

use super::SECRETS;
use crate::storage::Storage;

/// The ConfigMap of `kube-system` that says since when uses are noted.
pub(crate) const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";

/// Writes the day into the Secret, once a day.
pub struct Usage {
    storage: Arc<Storage>,
    /// One write at a time: the next request notes what was left out.
    turn: Arc<Semaphore>,
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Usage").finish_non_exhaustive()
    }
}

impl Usage {
    /// Notes uses in this storage.
    #[must_use]
    pub fn new(storage: Arc<Storage>) -> Self {
        Self {
            storage,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// The token in this Secret is used now. Nobody waits for the write.
    pub fn note(&self, namespace: &str, name: &str) {
        let Some(stored) = self.storage.get(SECRETS, namespace, name) else {
            return;
        };
        let noted = stored.labels.iter().find(|(key, _)| &**key == LAST_USED);
        let now = Timestamp::now();
        if noted.is_some_and(|(_, at)| is_recent(at, now)) {
            return;
        }
        let (Ok(mut secret), Ok(turn)) =
            (stored.value(), Arc::clone(&self.turn).try_acquire_owned())
        else {
            return;
        };
        label(&mut secret, &day(now));
        let storage = Arc::clone(&self.storage);
        let expect = Expect::Revision(stored.revision);
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        tokio::spawn(async move {
            let written = storage.put(SECRETS, &namespace, &name, expect, secret);
            if let Err(error) = written.await {
                tracing::warn!(%error, namespace, name, "cannot label a service account token with the date of its last use");
            }
            drop(turn);
        });
    }
}

/// The day as the label and the ConfigMap have it.
pub(crate) fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

/// Today, or tomorrow by the clock of another server.
fn is_recent(noted: &str, now: Timestamp) -> bool {
    let tomorrow = now.to_zoned(TimeZone::UTC).checked_add(1.day());
    noted == day(now) || tomorrow.is_ok_and(|at| noted == day(at.timestamp()))
}

fn label(secret: &mut Value, day: &str) {
    let metadata = &mut secret["metadata"];
    if !metadata["labels"].is_object() {
        metadata["labels"] = json!({});
    }
    metadata["labels"][LAST_USED] = json!(day);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_noted_once_a_day() {
        let now: Timestamp = "2026-12-31T23:59:59Z".parse().unwrap();
        assert!(is_recent("2026-12-31", now) && is_recent("2027-01-01", now));
        assert!(
            !is_recent("2026-12-30", now) && !is_recent("2027-01-02", now) && !is_recent("", now)
        );
        let mut secret = json!({"metadata": {"name": "s"}});
        label(&mut secret, &day(now));
        assert_eq!(
            secret["metadata"]["labels"],
            json!({LAST_USED: "2026-12-31"})
        );
        secret["metadata"]["labels"]["a"] = json!("b");
        label(&mut secret, "2027-01-01");
        assert_eq!(
            secret["metadata"]["labels"],
            json!({LAST_USED: "2027-01-01", "a": "b"})
        );
    }
}
