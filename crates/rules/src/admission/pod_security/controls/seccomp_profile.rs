//! Seccomp: baseline refuses `Unconfined`, restricted demands that a profile is set.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSpec, SeccompProfile};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, is_windows, text};

const POD_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
const CONTAINER_ANNOTATION_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";
const REASON: &str = "seccompProfile";

fn is_allowed_annotation(value: &str) -> bool {
    matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
}

/// Before v1.19 profiles were annotations.
pub(super) fn baseline_annotations(metadata: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let annotations = metadata.annotations.as_ref()?;
    let mut forbidden = BTreeSet::new();
    let keys = containers::all(spec).map(|c| format!("{CONTAINER_ANNOTATION_PREFIX}{}", c.name));
    for key in std::iter::once(POD_ANNOTATION.to_owned()).chain(keys) {
        if let Some(value) = annotations.get(&key).filter(|v| !is_allowed_annotation(v)) {
            forbidden.insert(format!("{key}={value:?}"));
        }
    }
    (!forbidden.is_empty()).then(|| Violation {
        reason: REASON,
        detail: format!(
            "forbidden {} {}",
            text::plural(forbidden.len(), "annotation", "annotations"),
            text::plain(forbidden.iter().map(String::as_str))
        ),
    })
}

fn is_allowed(profile: &SeccompProfile) -> bool {
    matches!(profile.type_.as_str(), "RuntimeDefault" | "Localhost")
}

/// Since v1.19.
pub(super) fn baseline(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let profile = pod_profile(spec);
    let of_pod = profile.filter(|p| !is_allowed(p));
    types.extend(of_pod.map(|p| p.type_.as_str()));
    let mut bad = Vec::new();
    for c in containers::all(spec) {
        let own = c.security.and_then(|s| s.seccomp_profile.as_ref());
        if let Some(profile) = own.filter(|p| !is_allowed(p)) {
            bad.push(c.name);
            types.insert(&profile.type_);
        }
    }
    (of_pod.is_some() || !bad.is_empty()).then(|| Violation {
        reason: REASON,
        detail: format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            text::setters(of_pod.is_some(), &bad),
            text::quoted(types)
        ),
    })
}

fn pod_profile(spec: &PodSpec) -> Option<&SeccompProfile> {
    spec.security_context
        .as_ref()
        .and_then(|s| s.seccomp_profile.as_ref())
}

/// Since v1.19.
pub(super) fn restricted(metadata: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if let Some(violation) = baseline(metadata, spec) {
        return Some(violation);
    }
    if pod_profile(spec).is_some() {
        return None;
    }
    let silent = containers::named(spec, |security| {
        security.is_none_or(|s| s.seccomp_profile.is_none())
    });
    (!silent.is_empty()).then(|| Violation {
        reason: REASON,
        detail: format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            text::containers(&silent)
        ),
    })
}

/// Since v1.25: Windows has no seccomp.
pub(super) fn restricted_linux(metadata: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if is_windows(spec) {
        return None;
    }
    restricted(metadata, spec)
}
