//! `allowPrivilegeEscalation` must be false: no more privileges by set-user-ID files.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, is_windows, text};

pub(super) fn check(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let bad = containers::named(spec, |security| {
        security.and_then(|s| s.allow_privilege_escalation) != Some(false)
    });
    (!bad.is_empty()).then(|| Violation {
        reason: "allowPrivilegeEscalation != false",
        detail: format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            text::containers(&bad)
        ),
    })
}

/// Since v1.25: Windows has no such thing.
pub(super) fn check_linux(metadata: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if is_windows(spec) {
        return None;
    }
    check(metadata, spec)
}
