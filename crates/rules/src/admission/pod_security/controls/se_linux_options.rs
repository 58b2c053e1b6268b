//! SELinux: only the types that confine containers, and neither user nor role.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSpec, SELinuxOptions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, text};

pub(super) fn v1_0(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    check(
        spec,
        &["", "container_t", "container_init_t", "container_kvm_t"],
    )
}

pub(super) fn v1_31(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    check(
        spec,
        &[
            "",
            "container_t",
            "container_init_t",
            "container_kvm_t",
            "container_engine_t",
        ],
    )
}

fn text_of(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

fn check(spec: &PodSpec, allowed: &[&str]) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let (mut user, mut role) = (false, false);
    let mut is_bad = |options: Option<&SELinuxOptions>, types: &mut BTreeSet<String>| {
        let Some(options) = options else {
            return false;
        };
        let kind = text_of(&options.type_);
        let bad_type = !allowed.contains(&kind);
        if bad_type {
            types.insert(kind.to_owned());
        }
        let (sets_user, sets_role) = (
            !text_of(&options.user).is_empty(),
            !text_of(&options.role).is_empty(),
        );
        user |= sets_user;
        role |= sets_role;
        bad_type || sets_user || sets_role
    };
    let of_pod = is_bad(
        spec.security_context
            .as_ref()
            .and_then(|s| s.se_linux_options.as_ref()),
        &mut types,
    );
    let mut bad = Vec::new();
    for c in containers::all(spec) {
        let own = c.security.and_then(|s| s.se_linux_options.as_ref());
        if is_bad(own, &mut types) {
            bad.push(c.name);
        }
    }
    if !of_pod && bad.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!(
            "{} {}",
            text::plural(types.len(), "type", "types"),
            text::quoted(types.iter().map(String::as_str))
        ));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    Some(Violation {
        reason: "seLinuxOptions",
        detail: format!(
            "{} set forbidden securityContext.seLinuxOptions: {}",
            text::setters(of_pod, &bad),
            what.join("; ")
        ),
    })
}
