//! Containers must not run as root: `runAsNonRoot` is demanded of each, or of the pod.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, has_own_users, text};

const REASON: &str = "runAsNonRoot != true";

pub(super) fn check(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let of_pod = spec
        .security_context
        .as_ref()
        .and_then(|s| s.run_as_non_root);
    let own = |wanted: Option<bool>| {
        containers::named(spec, move |security| {
            security.and_then(|s| s.run_as_non_root) == wanted
        })
    };
    let bad = own(Some(false));
    if of_pod == Some(false) || !bad.is_empty() {
        return Some(Violation {
            reason: REASON,
            detail: format!(
                "{} must not set securityContext.runAsNonRoot=false",
                text::setters(of_pod == Some(false), &bad)
            ),
        });
    }
    let silent = own(None);
    (of_pod != Some(true) && !silent.is_empty()).then(|| Violation {
        reason: REASON,
        detail: format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            text::containers(&silent)
        ),
    })
}

/// Since v1.35: root of a pod with users of its own is nobody on the host.
pub(super) fn check_host_users(metadata: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if has_own_users(spec) {
        return None;
    }
    check(metadata, spec)
}
