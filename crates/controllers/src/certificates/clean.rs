//! Which requests are removed, as on the stock controller manager.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use x509_parser::prelude::FromDer as _;

use super::request::{conditions, has_condition};

/// Requests that were decided, from then on.
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
/// Requests that nobody decided, from their creation on.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Why a request is to be removed; nothing while it is to be kept.
pub(super) fn why_removed(
    request: &CertificateSigningRequest,
    now: Timestamp,
) -> Option<&'static str> {
    let created = request.metadata.creation_timestamp.as_ref()?.0;
    let old = |at: Timestamp, limit| now.duration_since(at) > limit;
    let decided = |kind: &str| {
        let condition = conditions(request).iter().find(|c| c.type_ == kind);
        condition.map(|c| c.last_update_time.as_ref().map_or(created, |time| time.0))
    };
    let certificate = request.status.as_ref().and_then(|s| s.certificate.as_ref());
    if let Some(certificate) = certificate {
        if expires(&certificate.0).is_some_and(|at| at <= now) {
            return Some("its certificate has expired");
        }
        if decided("Approved").is_some_and(|at| old(at, DECIDED)) {
            return Some("its certificate was issued an hour ago");
        }
    }
    if decided("Denied").is_some_and(|at| old(at, DECIDED)) {
        return Some("it was denied an hour ago");
    }
    if decided("Failed").is_some_and(|at| old(at, DECIDED)) {
        return Some("it failed an hour ago");
    }
    let pending = certificate.is_none()
        && !["Denied", "Failed"]
            .iter()
            .any(|kind| has_condition(request, kind));
    if pending && old(created, PENDING) {
        return Some("nobody signed it for a day");
    }
    None
}

fn expires(pem: &[u8]) -> Option<Timestamp> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, certificate) =
        x509_parser::certificate::X509Certificate::from_der(&block.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::request::tests::decode;
    use super::*;

    #[test]
    fn old_requests_go() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        let removed = |created: &str, status: serde_json::Value| {
            let request = decode(
                json!({"metadata": {"name": "r", "creationTimestamp": created},
                "spec": {"request": "", "signerName": "a/b"}, "status": status}),
            );
            why_removed(&request, now).is_some()
        };
        let decided = |kind: &str, at: &str| json!({"conditions": [{"type": kind, "status": "True", "lastUpdateTime": at}]});
        assert!(!removed("2026-01-01T01:00:00Z", json!({})), "23 hours old");
        assert!(removed("2025-12-31T23:00:00Z", json!({})), "25 hours old");
        for kind in ["Denied", "Failed"] {
            assert!(!removed(
                "2025-12-01T00:00:00Z",
                decided(kind, "2026-01-01T23:30:00Z")
            ));
            assert!(removed(
                "2025-12-01T00:00:00Z",
                decided(kind, "2026-01-01T22:30:00Z")
            ));
        }
        let mut issued = decided("Approved", "2026-01-01T22:30:00Z");
        assert!(
            !removed("2026-01-01T22:00:00Z", issued.clone()),
            "not signed yet"
        );
        issued["certificate"] = json!("eA==");
        assert!(removed("2026-01-01T22:00:00Z", issued));
    }
}
