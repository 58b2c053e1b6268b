//! Which groups and names a CustomResourceDefinition may have.
//!
//! Kubernetes' own groups are the server's, and those under `k8s.io` and `kubernetes.io` are the community's: they
//! need the annotation `api-approved.kubernetes.io`, as on the stock server.

use std::collections::BTreeMap;

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionNames;

/// The annotation that says where a group was approved, or why it was not: a URL, or a text that begins with
/// `unapproved`.
pub const APPROVED: &str = "api-approved.kubernetes.io";

/// The groups of the stock API server's built-in kinds, and metrics.k8s.io, which is served as well. `core` is how storage keys name the group without a name.
const OWN_GROUPS: [&str; 26] = [
    "",
    "core",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "metrics.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Whether kinds of this group are for the API server alone.
#[must_use]
pub fn is_own(group: &str) -> bool {
    OWN_GROUPS.contains(&group)
}

/// What the annotation [`APPROVED`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// The group needs none.
    NotNeeded,
    /// A URL.
    Approved,
    /// A text that begins with `unapproved`: somebody knows and goes on.
    Bypassed,
    /// Nothing.
    Missing,
    /// Something else.
    Invalid,
}

/// Whether a definition with this group and these annotations is approved.
#[must_use]
pub fn approval(group: &str, annotations: Option<&BTreeMap<String, String>>) -> Approval {
    let within = |domain: &str| {
        group
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if !within("k8s.io") && !within("kubernetes.io") {
        return Approval::NotNeeded;
    }
    match annotations
        .and_then(|a| a.get(APPROVED))
        .map(String::as_str)
    {
        None | Some("") => Approval::Missing,
        Some(text) if text.starts_with("unapproved") => Approval::Bypassed,
        Some(text) if is_url(text) => Approval::Approved,
        Some(_) => Approval::Invalid,
    }
}

/// Whether the text is a URL with a scheme and a host.
fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    let clean = text.chars().all(|c| !c.is_control() && c != ' ');
    named && clean && !host.is_empty()
}

/// Checks the group of a new definition.
#[must_use]
pub fn validate_group(group: &str) -> Vec<FieldError> {
    let at = FieldPath::new("spec").child("group");
    if group.is_empty() {
        return vec![FieldError::required(&at, "")];
    }
    let wrong = names::dns1123_subdomain(group);
    if !wrong.is_empty() {
        return wrong
            .into_iter()
            .map(|text| FieldError::invalid(&at, group, text))
            .collect();
    }
    if !group.contains('.') {
        let text = "should be a domain with at least one dot";
        return vec![FieldError::invalid(&at, group, text)];
    }
    if is_own(group) {
        let text = "this group is served by the API server itself";
        return vec![FieldError::invalid(&at, group, text)];
    }
    Vec::new()
}

/// Checks the approval of a definition; `old` is the approval before an update, which may stay as bad as it was.
#[must_use]
pub fn validate_approval(
    group: &str,
    annotations: Option<&BTreeMap<String, String>>,
    old: Option<Approval>,
) -> Vec<FieldError> {
    let state = approval(group, annotations);
    if old == Some(state) {
        return Vec::new();
    }
    let at = FieldPath::new("metadata")
        .child("annotations")
        .key(APPROVED);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match state {
        Approval::NotNeeded | Approval::Approved | Approval::Bypassed => Vec::new(),
        Approval::Missing => vec![FieldError::required(
            &at,
            format!("protected groups must have approval annotation {APPROVED:?}, {see}"),
        )],
        Approval::Invalid => {
            let value = annotations.and_then(|a| a.get(APPROVED));
            let text = format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \
                 \"unapproved\", {see}"
            );
            vec![FieldError::invalid(&at, value, text)]
        }
    }
}

/// Checks the names of a definition; which are required is checked elsewhere.
#[must_use]
pub fn validate_names(given: &CustomResourceDefinitionNames) -> Vec<FieldError> {
    let at = FieldPath::new("spec").child("names");
    let mut errors = Vec::new();
    let mut label = |at: &FieldPath, value: &str, shown: &str| {
        if !value.is_empty() {
            let wrong = names::dns1035_label(value).into_iter();
            errors.extend(wrong.map(|text| FieldError::invalid(at, shown, text)));
        }
    };
    let singular = given.singular.as_deref().unwrap_or_default();
    let list_kind = given.list_kind.as_deref().unwrap_or_default();
    label(&at.child("plural"), &given.plural, &given.plural);
    label(&at.child("singular"), singular, singular);
    label(&at.child("kind"), &given.kind.to_lowercase(), &given.kind);
    label(&at.child("listKind"), &list_kind.to_lowercase(), list_kind);
    for (n, name) in given.short_names.iter().flatten().enumerate() {
        label(&at.child("shortNames").index(n), name, name);
    }
    for (n, name) in given.categories.iter().flatten().enumerate() {
        label(&at.child("categories").index(n), name, name);
    }
    if !given.kind.is_empty() && given.kind == list_kind {
        let text = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&at.child("listKind"), list_kind, text));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_the_server_are_not_for_others() {
        for (group, allowed) in [
            ("example.com", true),
            ("gateway.networking.k8s.io", true),
            ("core", false),
            ("", false),
            ("apps", false),
            ("custom", false),
            ("node.k8s.io", false),
            ("networking.k8s.io", false),
            ("Example.com", false),
            ("example.com/x", false),
        ] {
            assert_eq!(validate_group(group).is_empty(), allowed, "{group:?}");
        }
    }

    #[test]
    fn community_groups_need_approval() {
        let state = |group: &str, text: Option<&str>| {
            let annotations: BTreeMap<String, String> = text
                .map(|t| (APPROVED.to_owned(), t.to_owned()))
                .into_iter()
                .collect();
            approval(group, Some(&annotations))
        };
        for (group, text, wanted) in [
            ("example.com", None, Approval::NotNeeded),
            ("myk8s.io", None, Approval::NotNeeded),
            ("k8s.io", None, Approval::Missing),
            ("x.k8s.io", None, Approval::Missing),
            ("x.kubernetes.io", Some(""), Approval::Missing),
            ("x.k8s.io", Some("unapproved, a test"), Approval::Bypassed),
            (
                "x.k8s.io",
                Some("https://github.com/kubernetes/kubernetes/pull/1"),
                Approval::Approved,
            ),
            ("x.k8s.io", Some("yes"), Approval::Invalid),
            ("x.k8s.io", Some("https:///x"), Approval::Invalid),
            ("x.k8s.io", Some("/path"), Approval::Invalid),
        ] {
            assert_eq!(state(group, text), wanted, "{group} {text:?}");
        }
        assert_eq!(validate_approval("x.k8s.io", None, None).len(), 1);
        assert_eq!(
            validate_approval("x.k8s.io", None, Some(Approval::Approved)).len(),
            1
        );
        let kept = validate_approval("x.k8s.io", None, Some(Approval::Missing));
        assert_eq!(kept, [], "an old definition can be changed otherwise");
    }

    #[test]
    fn names_are_labels() {
        let given = |plural: &str, kind: &str, short: &str| CustomResourceDefinitionNames {
            plural: plural.to_owned(),
            kind: kind.to_owned(),
            short_names: Some(vec![short.to_owned()]),
            list_kind: Some(format!("{kind}List")),
            ..CustomResourceDefinitionNames::default()
        };
        assert_eq!(validate_names(&given("widgets", "Widget", "wd")), []);
        for bad in [
            given("wid.gets", "Widget", "wd"),
            given("widgets", "Wid/get", "wd"),
            given("widgets", "Widget", "Wd"),
        ] {
            assert!(!validate_names(&bad).is_empty(), "{bad:?}");
        }
    }
}
