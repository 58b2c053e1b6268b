//! Removes bootstrap tokens that have expired. They are good for nothing from that moment on: the API server looks at the
//! expiration itself.

use std::sync::Arc;
use std::time::Duration;

use berth_supervise::measures::WorkQueue;
use berth_supervise::{Brief, Tasks};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::server::{is_code, only_unchanged};
use crate::{Reflected, reflect};

const MEASURES: WorkQueue = WorkQueue::new("token_cleaner");
const NAMESPACE: &str = "kube-system";
pub(crate) const TYPE: &str = "bootstrap.kubernetes.io/token";
/// When it is looked at the latest: clocks may be set.
const PERIOD: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(5);

/// Watches the bootstrap tokens.
pub(crate) fn tokens(tasks: &Tasks, client: Client) -> Reflected<Secret> {
    let secrets = Api::namespaced(client, NAMESPACE);
    reflect(tasks, secrets, Some(&format!("type={TYPE}")))
}

/// Runs until `shutdown`.
pub async fn run(client: Client, mut tokens: Reflected<Secret>, shutdown: CancellationToken) {
    let api: Api<Secret> = Api::namespaced(client, NAMESPACE);
    loop {
        let mut pause = PERIOD;
        if tokens.is_complete() {
            let now = Timestamp::now();
            for token in tokens.all() {
                match left(&token, now) {
                    None => {}
                    Some(left) if !left.is_zero() => pause = pause.min(left),
                    Some(_) if MEASURES.look(remove(&api, &token)).await => {}
                    Some(_) => pause = pause.min(AGAIN),
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokens.changed_or(pause) => {}
        }
    }
}

/// How long a token has, zero when it is over; none for one without an end, or that is no token. One whose expiration can't be
/// read is over, as on the stock controller manager: the API server refuses it as well.
fn left(secret: &Secret, now: Timestamp) -> Option<Duration> {
    if secret.type_.as_deref() != Some(TYPE) || secret.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let expiration = &secret.data.as_ref()?.get("expiration")?.0;
    if expiration.is_empty() {
        return None;
    }
    let end = std::str::from_utf8(expiration)
        .ok()
        .and_then(|text| text.parse::<Timestamp>().ok());
    let left = end.map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default());
    Some(left.unwrap_or_default())
}

/// False when it has to be tried again.
async fn remove(api: &Api<Secret>, token: &Arc<Secret>) -> bool {
    let name = token.name_any();
    // Somebody may have given it more time.
    let params = only_unchanged(&token.metadata);
    match api.delete(&name, &params).await {
        Ok(_) => {
            info!(secret = name, "removed an expired bootstrap token");
            true
        }
        Err(error) if is_code(&error, &[404, 409]) => true,
        Err(error) => {
            warn!(secret = name, error = %Brief(&error), "cannot remove an expired bootstrap token");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(kind: &str, expiration: Option<&str>) -> Secret {
        let mut value = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": kind});
        let mut secret: Secret = serde_json::from_value(value.take()).expect("a secret");
        let data = secret.data.get_or_insert_default();
        if let Some(text) = expiration {
            let bytes = k8s_openapi::ByteString(text.as_bytes().to_vec());
            data.insert("expiration".to_owned(), bytes);
        }
        secret
    }

    #[test]
    fn a_token_has_the_time_until_its_expiration() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let left = |kind: &str, expiration: Option<&str>| {
            left(&secret(kind, expiration), now).map(|left| left.as_secs())
        };
        assert_eq!(left(TYPE, Some("2026-01-01T00:01:00Z")), Some(60));
        assert_eq!(left(TYPE, Some("2026-01-01T00:00:00Z")), Some(0));
        assert_eq!(left(TYPE, Some("2025-01-01T00:00:00Z")), Some(0));
        assert_eq!(left(TYPE, Some("tomorrow")), Some(0));
        assert_eq!(left(TYPE, Some("")), None);
        assert_eq!(left(TYPE, None), None);
        assert_eq!(left("Opaque", Some("2025-01-01T00:00:00Z")), None);
    }
}
