//! /proc stays masked.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, has_own_users, text};

pub(super) fn check(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let (mut bad, mut types) = (Vec::new(), BTreeSet::new());
    for c in containers::all(spec) {
        let own = c.security.and_then(|s| s.proc_mount.as_deref());
        if let Some(kind) = own.filter(|kind| *kind != "Default") {
            bad.push(c.name);
            types.insert(kind);
        }
    }
    (!bad.is_empty()).then(|| Violation {
        reason: "procMount",
        detail: format!(
            "{} must not set securityContext.procMount to {}",
            text::containers(&bad),
            text::quoted(types)
        ),
    })
}

/// Since v1.35 baseline lets pods with users of their own see all of /proc.
pub(super) fn check_host_users(metadata: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if has_own_users(spec) {
        return None;
    }
    check(metadata, spec)
}
