//! The roles and bindings that a new cluster begins with, as the reference's bootstrap policy has them.
//!
//! Differences: the scheduler may read RuntimeClasses (placement by handler needs the handler), and machines may join with
//! bootstrap tokens ([`join`]), and who enforces NetworkPolicies has a role of its own ([`network_policy`]).

mod controllers;
mod data;
mod join;
mod network_policy;

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef,
    Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::{GROUP, policy};

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// One line of the tables in [`data`].
struct Line {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    urls: &'static str,
}

impl Line {
    fn rule(&self) -> PolicyRule {
        let list = |text: &str| (!text.is_empty()).then(|| words(text));
        PolicyRule {
            verbs: words(self.verbs),
            api_groups: (!self.resources.is_empty()).then(|| {
                self.groups
                    .split(' ')
                    .map(|g| if g == "core" { "" } else { g }.to_owned())
                    .collect()
            }),
            resources: list(self.resources),
            resource_names: list(self.names),
            non_resource_urls: list(self.urls),
        }
    }
}

fn metadata(name: &str, namespace: Option<&str>) -> ObjectMeta {
    let pair = |k: &str, v: &str| Some(BTreeMap::from([(k.to_owned(), v.to_owned())]));
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: pair("kubernetes.io/bootstrapping", "rbac-defaults"),
        annotations: pair("rbac.authorization.kubernetes.io/autoupdate", "true"),
        ..ObjectMeta::default()
    }
}

fn aggregate_label(to: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(format!("{GROUP}/aggregate-to-{to}"), "true".to_owned())])
}

/// The cluster roles; the aggregated ones have their rules filled in.
#[must_use]
pub fn cluster_roles() -> Vec<ClusterRole> {
    let of_controllers = controllers::CONTROLLERS
        .iter()
        .map(|(name, lines)| ClusterRole {
            metadata: metadata(&format!("{}{name}", controllers::PREFIX), None),
            aggregation_rule: None,
            rules: Some(lines.iter().map(Line::rule).collect()),
        });
    let mut roles: Vec<ClusterRole> = data::CLUSTER_ROLES
        .iter()
        .map(|(name, aggregate_to, lines)| {
            let mut metadata = metadata(name, None);
            if !aggregate_to.is_empty() {
                metadata
                    .labels
                    .get_or_insert_default()
                    .extend(aggregate_label(aggregate_to));
            }
            let aggregation_rule =
                matches!(*name, "admin" | "edit" | "view").then(|| AggregationRule {
                    cluster_role_selectors: Some(vec![LabelSelector {
                        match_labels: Some(aggregate_label(name)),
                        ..LabelSelector::default()
                    }]),
                });
            ClusterRole {
                metadata,
                aggregation_rule,
                rules: Some(lines.iter().map(Line::rule).collect()),
            }
        })
        .chain(of_controllers)
        .chain([network_policy::cluster_role()])
        .collect();
    let resolved: Vec<_> = roles
        .iter()
        .map(|r| policy::effective_rules(r, &roles))
        .collect();
    for (role, rules) in roles.iter_mut().zip(resolved) {
        role.rules = Some(rules);
    }
    roles
}

/// The name of the role of nodes, and of the binding that has no subjects.
pub const NODE: &str = "system:node";

/// What nodes may do, of which the Node authorizer allows what concerns the node.
#[must_use]
pub fn node_rules() -> Vec<PolicyRule> {
    data::CLUSTER_ROLES
        .iter()
        .filter(|(name, _, _)| *name == NODE)
        .flat_map(|(_, _, lines)| lines.iter().map(Line::rule))
        .collect()
}

/// The roles in namespaces of the system.
#[must_use]
pub fn roles() -> Vec<Role> {
    data::ROLES
        .iter()
        .chain([&join::CLUSTER_INFO_ROLE])
        .map(|(namespace, name, lines)| Role {
            metadata: metadata(name, Some(namespace)),
            rules: Some(lines.iter().map(Line::rule).collect()),
        })
        .collect()
}

/// `User:name`, `Group:name` or `ServiceAccount:namespace:name`.
fn subject(text: &str) -> Subject {
    let (kind, rest) = text.split_once(':').unwrap_or(("User", text));
    let (namespace, name) = match (kind, rest.split_once(':')) {
        ("ServiceAccount", Some((namespace, name))) => (Some(namespace.to_owned()), name),
        _ => (None, rest),
    };
    Subject {
        api_group: (kind != "ServiceAccount").then(|| GROUP.to_owned()),
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace,
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: Some(GROUP.to_owned()),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

/// The cluster-wide bindings.
#[must_use]
pub fn cluster_role_bindings() -> Vec<ClusterRoleBinding> {
    let binding = |name: &str, subjects: Vec<Subject>| ClusterRoleBinding {
        metadata: metadata(name, None),
        role_ref: role_ref("ClusterRole", name),
        subjects: Some(subjects).filter(|all| !all.is_empty()),
    };
    let of_controllers = controllers::CONTROLLERS.iter().map(|(name, _)| {
        let account = subject(&format!("ServiceAccount:kube-system:{name}"));
        binding(&format!("{}{name}", controllers::PREFIX), vec![account])
    });
    data::CLUSTER_ROLE_BINDINGS
        .iter()
        .map(|(name, subjects)| {
            let subjects = subjects.split_whitespace().map(subject).collect();
            binding(name, subjects)
        })
        .chain(join::cluster_role_bindings())
        .chain([network_policy::cluster_role_binding()])
        .chain(of_controllers)
        .collect()
}

/// The bindings in namespaces of the system.
#[must_use]
pub fn role_bindings() -> Vec<RoleBinding> {
    data::ROLE_BINDINGS
        .iter()
        .chain([&join::CLUSTER_INFO_BINDING])
        .map(|(namespace, name, role, subjects)| RoleBinding {
            metadata: metadata(name, Some(namespace)),
            role_ref: role_ref("Role", role),
            subjects: Some(subjects.split_whitespace().map(subject).collect()),
        })
        .collect()
}
