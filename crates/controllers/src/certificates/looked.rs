//! Which requests that nobody has decided on are looked at again, and when.
//!
//! Each look costs requests to the API server, and whoever has a bootstrap token may make as many as they like: they are not all
//! looked at again for each one that comes.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::ResourceExt as _;
use tokio::time::Instant;

use super::request::{self, KUBELET_SERVING, State};

/// Between two looks at a request that is left to people: a Node that was in its way may be deleted.
const PAUSE: Duration = Duration::from_secs(30);
/// Between two looks at one of a node that has just registered, and how long it counts as that.
const SOON: Duration = Duration::from_secs(2);
const YOUNG: SignedDuration = SignedDuration::from_mins(2);

/// When requests were looked at last, by name, and as what.
#[derive(Debug, Default)]
pub(super) struct Looked(HashMap<String, (Option<String>, Instant)>);

impl Looked {
    /// Whether it is time for a look.
    pub(super) fn is_due(
        &self,
        request: &CertificateSigningRequest,
        now: Timestamp,
        at: Instant,
    ) -> bool {
        if request::state(request) != State::Pending {
            return true;
        }
        let pause = if waits_for_its_node(request, now) {
            SOON
        } else {
            PAUSE
        };
        self.0
            .get(&request.name_any())
            .is_none_or(|(version, last)| {
                *version != request.resource_version() || at.duration_since(*last) >= pause
            })
    }

    /// It was looked at, and nothing was done about it.
    pub(super) fn note(&mut self, request: &CertificateSigningRequest, at: Instant) {
        if request::state(request) != State::Pending {
            return;
        }
        let entry = (request.resource_version(), at);
        self.0.insert(request.name_any(), entry);
    }

    /// Forgets what isn't looked at any longer, and says when the next look is due at the latest.
    pub(super) fn next(&mut self, at: Instant, soon: bool) -> Option<Duration> {
        self.0
            .retain(|_, (_, last)| at.duration_since(*last) < PAUSE * 2);
        if soon {
            return Some(SOON);
        }
        (!self.0.is_empty()).then_some(PAUSE)
    }
}

/// Whether a change of its Node may make it one to approve: a node asks for its serving certificate when it has registered,
/// which the controller may see a little later.
pub(super) fn waits_for_its_node(request: &CertificateSigningRequest, now: Timestamp) -> bool {
    let created = request.metadata.creation_timestamp.as_ref();
    request.spec.signer_name == KUBELET_SERVING
        && request::state(request) == State::Pending
        && created.is_some_and(|created| now.duration_since(created.0) < YOUNG)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::request::tests::decode;
    use super::*;

    fn pending(name: &str, signer: &str, version: &str) -> CertificateSigningRequest {
        decode(
            json!({"metadata": {"name": name, "resourceVersion": version, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"request": "", "signerName": signer}}),
        )
    }

    #[test]
    fn one_that_was_left_is_looked_at_later() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let mut looked = Looked::default();
        let client = pending("a", super::super::request::KUBELET_CLIENT, "1");
        let serving = pending("b", KUBELET_SERVING, "1");
        let begin = Instant::now();
        assert_eq!(looked.next(begin, false), None);
        for request in [&client, &serving] {
            assert!(looked.is_due(request, now, begin));
            looked.note(request, begin);
            assert!(!looked.is_due(request, now, begin));
        }
        assert_eq!(looked.next(begin, false), Some(PAUSE));
        assert_eq!(looked.next(begin, true), Some(SOON));
        let soon = begin + SOON;
        assert!(looked.is_due(&serving, now, soon));
        assert!(!looked.is_due(&client, now, soon));
        // an old one is in no hurry
        let later: Timestamp = "2026-01-01T00:03:00Z".parse().expect("a time");
        assert!(!looked.is_due(&serving, later, soon));
        assert!(looked.is_due(&client, now, begin + PAUSE));
        // another version is another request
        let changed = pending("a", super::super::request::KUBELET_CLIENT, "2");
        assert!(looked.is_due(&changed, now, soon));
        // one that is gone is forgotten
        assert_eq!(looked.next(begin + PAUSE * 3, false), None);
    }
}
