//! A snapshot of all roles and bindings that answers requests.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Request, User, rule};
use berth_core::selector;

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, and by what.
    Allow(String),
    /// Nothing allows it.
    NoOpinion,
}

impl Decision {
    /// Whether the request is allowed.
    #[must_use]
    pub fn allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// All roles and bindings at one moment. Aggregated roles are resolved when it is built; the others are shared with
/// whoever decoded them, so that the next policy costs little when few of them change.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    cluster_roles: HashMap<String, Vec<PolicyRule>>,
    roles: HashMap<String, HashMap<String, Arc<Role>>>,
    cluster_bindings: Vec<Arc<ClusterRoleBinding>>,
    bindings: HashMap<String, Vec<Arc<RoleBinding>>>,
}

impl Policy {
    /// Takes a snapshot.
    #[must_use]
    pub fn new(
        cluster_roles: &[Arc<ClusterRole>],
        roles: Vec<Arc<Role>>,
        cluster_bindings: Vec<Arc<ClusterRoleBinding>>,
        bindings: Vec<Arc<RoleBinding>>,
    ) -> Self {
        let mut policy = Self {
            cluster_bindings,
            ..Self::default()
        };
        for role in cluster_roles {
            let name = role.metadata.name.clone().unwrap_or_default();
            policy
                .cluster_roles
                .insert(name, effective_rules(role, cluster_roles));
        }
        for role in roles {
            let namespace = role.metadata.namespace.clone().unwrap_or_default();
            let name = role.metadata.name.clone().unwrap_or_default();
            policy
                .roles
                .entry(namespace)
                .or_default()
                .insert(name, role);
        }
        for binding in bindings {
            let namespace = binding.metadata.namespace.clone().unwrap_or_default();
            policy.bindings.entry(namespace).or_default().push(binding);
        }
        policy
    }

    /// Decides a request.
    #[must_use]
    pub fn authorize(&self, user: &User, request: &Request<'_>) -> Decision {
        if user.is_master() {
            return Decision::Allow(format!("group {:?} may do everything", super::MASTERS));
        }
        let namespace = match request {
            Request::Resource { namespace, .. } => namespace,
            Request::Path { .. } => "",
        };
        for granted in self.granted(user, namespace) {
            if let Some(rule) = granted.rules.iter().find(|r| rule::allows(r, request)) {
                return Decision::Allow(format!(
                    "RBAC: allowed by {} ({})",
                    granted.by,
                    rule::compact(rule)
                ));
            }
        }
        Decision::NoOpinion
    }

    /// Every rule that holds for a user in a namespace (empty: cluster-wide only).
    pub fn rules_for<'s>(
        &'s self,
        user: &'s User,
        namespace: &'s str,
    ) -> impl Iterator<Item = &'s PolicyRule> {
        self.granted(user, namespace).flat_map(|g| g.rules)
    }

    /// The rules of the role that a binding in `namespace` (empty: a cluster binding) refers to.
    #[must_use]
    pub fn role_rules(&self, role: &RoleRef, namespace: &str) -> Option<&[PolicyRule]> {
        match role.kind.as_str() {
            "ClusterRole" => self.cluster_roles.get(&role.name).map(Vec::as_slice),
            "Role" => {
                let role = self.roles.get(namespace)?.get(&role.name)?;
                Some(role.rules.as_deref().unwrap_or_default())
            }
            _ => None,
        }
    }

    /// The rules of a user in a namespace: those of each role once, however many bindings give it. Whoever may bind a role
    /// chooses how often, and must not make each question and each answer so many times as long.
    fn granted<'s>(
        &'s self,
        user: &'s User,
        namespace: &'s str,
    ) -> impl Iterator<Item = Granted<'s>> {
        let who = Rc::new(Who::from(user));
        let of_cluster = Rc::clone(&who);
        let cluster = self
            .cluster_bindings
            .iter()
            .filter(move |b| of_cluster.is_one_of(b.subjects.as_deref(), ""))
            .map(|b| ("", b.metadata.name.as_deref(), &b.role_ref));
        let local = self
            .bindings
            .get(namespace)
            .filter(|_| !namespace.is_empty())
            .into_iter()
            .flatten()
            .filter(move |b| who.is_one_of(b.subjects.as_deref(), namespace))
            .map(move |b| (namespace, b.metadata.name.as_deref(), &b.role_ref));
        let mut given = HashSet::new();
        cluster.chain(local).filter_map(move |(at, name, role)| {
            let rules = self.role_rules(role, at)?;
            given
                .insert((role.kind.as_str(), role.name.as_str()))
                .then_some(Granted {
                    rules,
                    by: By {
                        namespace: at,
                        name: name.unwrap_or_default(),
                        role,
                    },
                })
        })
    }
}

struct Granted<'s> {
    rules: &'s [PolicyRule],
    by: By<'s>,
}

/// The binding that gives a role.
struct By<'s> {
    /// Empty for a ClusterRoleBinding.
    namespace: &'s str,
    name: &'s str,
    role: &'s RoleRef,
}

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "ClusterRoleBinding {:?}", self.name)?;
        } else {
            write!(f, "RoleBinding \"{}/{}\"", self.namespace, self.name)?;
        }
        write!(f, " of {} {:?}", self.role.kind, self.role.name)
    }
}

/// So many groups are looked through one by one.
const FEW_GROUPS: usize = 8;

/// A user, to be looked for among the subjects of many bindings. Reviews ask about users with as many groups as somebody
/// likes, and bindings have as many subjects.
struct Who<'u> {
    user: &'u User,
    /// The groups when they are many.
    groups: Option<HashSet<&'u str>>,
    /// Namespace and name of a service account.
    account: Option<(&'u str, &'u str)>,
}

impl<'u> From<&'u User> for Who<'u> {
    fn from(user: &'u User) -> Self {
        let many = user.groups.len() > FEW_GROUPS;
        Self {
            user,
            groups: many.then(|| user.groups.iter().map(String::as_str).collect()),
            account: user
                .name
                .strip_prefix("system:serviceaccount:")
                .and_then(|rest| rest.split_once(':')),
        }
    }
}

impl Who<'_> {
    /// Whether one of the subjects is the user; `namespace` is where the binding lives, for service accounts without one.
    fn is_one_of(&self, subjects: Option<&[Subject]>, namespace: &str) -> bool {
        subjects
            .into_iter()
            .flatten()
            .any(|s| self.is(s, namespace))
    }

    fn is(&self, subject: &Subject, namespace: &str) -> bool {
        match subject.kind.as_str() {
            "User" => subject.name == self.user.name,
            "Group" => match &self.groups {
                Some(groups) => groups.contains(subject.name.as_str()),
                None => self.user.groups.contains(&subject.name),
            },
            "ServiceAccount" => {
                let of = subject
                    .namespace
                    .as_deref()
                    .filter(|n| !n.is_empty())
                    .unwrap_or(namespace);
                !of.is_empty() && self.account == Some((of, subject.name.as_str()))
            }
            _ => false,
        }
    }
}

/// The rules of a role: its own, or of those that its aggregation rule selects, and theirs in turn.
#[must_use]
pub fn effective_rules(role: &ClusterRole, all: &[impl Borrow<ClusterRole>]) -> Vec<PolicyRule> {
    let mut rules = Vec::new();
    collect(role, all, &mut BTreeSet::new(), &mut rules);
    let mut before = HashSet::new();
    rules.retain(|rule| {
        let lists = [
            &rule.api_groups,
            &rule.resources,
            &rule.resource_names,
            &rule.non_resource_urls,
        ];
        before.insert((rule.verbs.clone(), lists.map(Clone::clone)))
    });
    rules
}

fn collect<'r>(
    role: &'r ClusterRole,
    all: &'r [impl Borrow<ClusterRole>],
    seen: &mut BTreeSet<&'r str>,
    rules: &mut Vec<PolicyRule>,
) {
    if !seen.insert(role.metadata.name.as_deref().unwrap_or_default()) {
        return;
    }
    let Some(selectors) = aggregated(role) else {
        rules.extend(role.rules.iter().flatten().cloned());
        return;
    };
    for selector in selectors {
        for other in all {
            let other = other.borrow();
            if selector::label_selector_matches(selector, other.metadata.labels.as_ref()) {
                collect(other, all, seen, rules);
            }
        }
    }
}

/// The selectors of an aggregated role.
#[must_use]
pub fn aggregated(role: &ClusterRole) -> Option<&[LabelSelector]> {
    role.aggregation_rule
        .as_ref()
        .and_then(|a| a.cluster_role_selectors.as_deref())
        .filter(|s| !s.is_empty())
}
