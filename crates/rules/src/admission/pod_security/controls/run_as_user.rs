//! `runAsUser` must not be 0. Since v1.23.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, has_own_users, text};

pub(super) fn check(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let of_pod = spec.security_context.as_ref().and_then(|s| s.run_as_user) == Some(0);
    let bad = containers::named(spec, |security| {
        security.and_then(|s| s.run_as_user) == Some(0)
    });
    (of_pod || !bad.is_empty()).then(|| Violation {
        reason: "runAsUser=0",
        detail: format!("{} must not set runAsUser=0", text::setters(of_pod, &bad)),
    })
}

/// Since v1.35: root of a pod with users of its own is nobody on the host.
pub(super) fn check_host_users(metadata: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if has_own_users(spec) {
        return None;
    }
    check(metadata, spec)
}
