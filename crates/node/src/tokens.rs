//! Service-account tokens that were already fetched, until they are due for another.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::TokenRequestStatus;
use parking_lot::Mutex;

struct Kept {
    token: String,
    until: Timestamp,
}

/// Tokens by pod, volume and path.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<String, Kept>>);

impl Tokens {
    /// A token with more than a fifth of its life left.
    pub(crate) fn fresh(&self, key: &str) -> Option<String> {
        let all = self.0.lock();
        let kept = all.get(key)?;
        (Timestamp::now() < kept.until).then(|| kept.token.clone())
    }

    pub(crate) fn keep(&self, key: String, status: &TokenRequestStatus) {
        let now = Timestamp::now();
        let (Some(token), Some(expires)) = (&status.token, &status.expiration_timestamp) else {
            return;
        };
        let life = expires.0.duration_since(now);
        // At the latest after a day, as the stock kubelet.
        let keep = (life / 5 * 4).min(SignedDuration::from_hours(24));
        let kept = Kept {
            token: token.clone(),
            until: now.saturating_add(keep).unwrap_or(now),
        };
        self.0.lock().insert(key, kept);
    }

    /// Forgets a pod's tokens.
    pub(crate) fn forget(&self, uid: &str) {
        let prefix = format!("{uid}/");
        self.0.lock().retain(|key, _| !key.starts_with(&prefix));
    }
}
