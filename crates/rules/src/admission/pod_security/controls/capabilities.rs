//! Capabilities: baseline takes those that runtimes give by default, restricted demands that all are dropped.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, is_windows, text};

const DEFAULT: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The containers that add others than the allowed ones, and these others.
fn adding(spec: &PodSpec, allowed: impl Fn(&str) -> bool) -> (Vec<&str>, BTreeSet<&str>) {
    let (mut bad, mut added) = (Vec::new(), BTreeSet::new());
    for c in containers::all(spec) {
        let capabilities = c.security.and_then(|s| s.capabilities.as_ref());
        let add = capabilities
            .and_then(|c| c.add.as_deref())
            .unwrap_or_default();
        let mut others = add.iter().filter(|name| !allowed(name)).peekable();
        if others.peek().is_some() {
            bad.push(c.name);
        }
        added.extend(others.map(String::as_str));
    }
    (bad, added)
}

fn must_not_include(bad: &[&str], added: BTreeSet<&str>) -> String {
    format!(
        "{} must not include {} in securityContext.capabilities.add",
        text::containers(bad),
        text::quoted(added)
    )
}

pub(super) fn baseline(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let (bad, added) = adding(spec, |name| DEFAULT.contains(&name));
    (!bad.is_empty()).then(|| Violation {
        reason: "non-default capabilities",
        detail: must_not_include(&bad, added),
    })
}

/// Since v1.22.
pub(super) fn restricted(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let keeping = containers::named(spec, |security| {
        let dropped = security
            .and_then(|s| s.capabilities.as_ref())
            .and_then(|c| c.drop.as_ref());
        !dropped.is_some_and(|d| d.iter().any(|name| name == "ALL"))
    });
    let (bad, added) = adding(spec, |name| name == "NET_BIND_SERVICE");
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            text::containers(&keeping)
        ));
    }
    if !bad.is_empty() {
        details.push(must_not_include(&bad, added));
    }
    (!details.is_empty()).then(|| Violation {
        reason: "unrestricted capabilities",
        detail: details.join("; "),
    })
}

/// Since v1.25: Windows has no capabilities.
pub(super) fn restricted_linux(metadata: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if is_windows(spec) {
        return None;
    }
    restricted(metadata, spec)
}
