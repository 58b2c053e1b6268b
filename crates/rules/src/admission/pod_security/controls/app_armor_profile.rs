//! AppArmor profiles: the runtime's own or one of the host's, by field or by annotation, never `Unconfined`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, text};

const ANNOTATION_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

fn bad_type(profile: Option<&AppArmorProfile>) -> Option<&str> {
    profile
        .map(|p| p.type_.as_str())
        .filter(|t| !matches!(*t, "RuntimeDefault" | "Localhost"))
}

fn is_allowed_annotation(value: &str) -> bool {
    value.is_empty() || value == "runtime/default" || value.starts_with("localhost/")
}

pub(super) fn check(metadata: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let of_pod = bad_type(
        spec.security_context
            .as_ref()
            .and_then(|s| s.app_armor_profile.as_ref()),
    );
    types.extend(of_pod);
    let mut bad = Vec::new();
    for c in containers::all(spec) {
        let profile = c.security.and_then(|s| s.app_armor_profile.as_ref());
        if let Some(kind) = bad_type(profile) {
            bad.push(c.name);
            types.insert(kind);
        }
    }
    let annotations: Vec<String> = metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(key, value)| key.starts_with(ANNOTATION_PREFIX) && !is_allowed_annotation(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut setters = Vec::new();
    if of_pod.is_some() || !bad.is_empty() {
        setters.push(text::setters(of_pod.is_some(), &bad));
    }
    if !annotations.is_empty() {
        setters.push(text::plural(annotations.len(), "annotation", "annotations").to_owned());
    }
    if setters.is_empty() {
        return None;
    }
    let count = types.len() + annotations.len();
    let values = types
        .into_iter()
        .chain(annotations.iter().map(String::as_str));
    Some(Violation {
        reason: text::plural(
            count,
            "forbidden AppArmor profile",
            "forbidden AppArmor profiles",
        ),
        detail: format!(
            "{} must not set AppArmor profile type to {}",
            setters.join(" and "),
            text::quoted(values)
        ),
    })
}
