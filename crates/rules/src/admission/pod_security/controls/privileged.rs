//! No privileged containers.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, text};

pub(super) fn check(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let bad = containers::named(spec, |security| {
        security.and_then(|s| s.privileged) == Some(true)
    });
    (!bad.is_empty()).then(|| Violation {
        reason: "privileged",
        detail: format!(
            "{} must not set securityContext.privileged=true",
            text::containers(&bad)
        ),
    })
}
