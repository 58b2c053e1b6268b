//! Nobody grants what they do not hold.

use k8s_openapi::Metadata;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use thiserror::Error;

use super::{GROUP, Policy, Request, User, policy, rule};

/// How many missing rules a refusal shows.
const SHOWN: usize = 100;

/// Why a role or binding may not be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EscalationError {
    /// 403: rules that the user does not hold.
    #[error(
        "user {user:?} (groups={groups:?}) is attempting to grant RBAC permissions not currently held:\n{missing}"
    )]
    NotHeld {
        /// The user.
        user: String,
        /// The user's groups.
        groups: Vec<String>,
        /// The missing rules, one a line.
        missing: String,
    },
    /// 403: rules that stand for more than can be compared with those that the user holds, or with so many.
    #[error(
        "the rules stand for more combinations of verb, group, resource and name (at most {limit}) than can be compared with all that user {user:?} holds; write fewer or wider rules, or ask somebody who may \"escalate\" (\"bind\" for a binding)",
        limit = rule::COMBINATIONS_LIMIT
    )]
    TooWide {
        /// The user.
        user: String,
    },
    /// 403: an aggregation rule can gather anything.
    #[error("must have cluster-admin privileges to use the aggregationRule")]
    Aggregation,
    /// 404: the role that a binding refers to is not there.
    #[error("{kind} {name:?} not found")]
    RoleNotFound {
        /// Role or ClusterRole.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// What a write of a role or binding would give to somebody.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Grant<'a> {
    /// The rules of a Role.
    Role(&'a [PolicyRule]),
    /// The rules of a ClusterRole, and what its aggregation may gather.
    ClusterRole {
        /// As it is written.
        role: &'a ClusterRole,
        /// What it replaces.
        old: Option<&'a ClusterRole>,
    },
    /// The rules of the role that a binding refers to.
    Binding(&'a RoleRef),
}

impl<'a> Grant<'a> {
    /// Whether `user` may write an object of this name in this namespace (empty for cluster-scoped kinds).
    ///
    /// # Errors
    /// [`EscalationError`] with what is too much.
    pub fn check(
        &self,
        policy: &Policy,
        user: &User,
        namespace: &str,
        name: &str,
    ) -> Result<(), EscalationError> {
        match self {
            Self::Role(rules) => check_role(policy, user, namespace, name, rules),
            Self::ClusterRole { role, old } => check_cluster_role(policy, user, role, *old),
            Self::Binding(role) => check_binding(policy, user, namespace, role),
        }
    }

    /// What a write of a Role gives.
    #[must_use]
    pub fn of_role(new: &'a Role, old: Option<&Role>) -> Option<Self> {
        is_more(new, old).then(|| Self::Role(new.rules.as_deref().unwrap_or_default()))
    }

    /// What a write of a ClusterRole gives. Its labels count: they may add its rules to those of other roles.
    #[must_use]
    pub fn of_cluster_role(new: &'a ClusterRole, old: Option<&'a ClusterRole>) -> Option<Self> {
        is_more(new, old).then_some(Self::ClusterRole { role: new, old })
    }

    /// What a write of a RoleBinding gives.
    #[must_use]
    pub fn of_role_binding(new: &'a RoleBinding, old: Option<&RoleBinding>) -> Option<Self> {
        is_more(new, old).then_some(Self::Binding(&new.role_ref))
    }

    /// What a write of a ClusterRoleBinding gives.
    #[must_use]
    pub fn of_cluster_role_binding(
        new: &'a ClusterRoleBinding,
        old: Option<&ClusterRoleBinding>,
    ) -> Option<Self> {
        is_more(new, old).then_some(Self::Binding(&new.role_ref))
    }
}

/// Whether a write can give anybody anything: all can but those that change nothing beside owners and finalizers, with
/// which a collector of garbage has to do, and who manages which field.
fn is_more<T: Metadata<Ty = ObjectMeta> + Clone + PartialEq>(new: &T, old: Option<&T>) -> bool {
    let Some(old) = old else {
        return true;
    };
    let mut rest = new.clone();
    let (metadata, was) = (rest.metadata_mut(), old.metadata());
    metadata.owner_references.clone_from(&was.owner_references);
    metadata.finalizers.clone_from(&was.finalizers);
    metadata.managed_fields.clone_from(&was.managed_fields);
    metadata.resource_version.clone_from(&was.resource_version);
    rest != *old
}

fn full_authority() -> [PolicyRule; 2] {
    let star = || vec!["*".to_owned()];
    [
        PolicyRule {
            verbs: star(),
            api_groups: Some(star()),
            resources: Some(star()),
            ..PolicyRule::default()
        },
        PolicyRule {
            verbs: star(),
            non_resource_urls: Some(star()),
            ..PolicyRule::default()
        },
    ]
}

fn hold(
    policy: &Policy,
    user: &User,
    namespace: &str,
    wanted: &[PolicyRule],
) -> Result<(), EscalationError> {
    let owned: Vec<&PolicyRule> = policy.rules_for(user, namespace).collect();
    let too_wide = || EscalationError::TooWide {
        user: user.name.clone(),
    };
    let uncovered = |wanted: &[PolicyRule]| {
        rule::uncovered(owned.iter().copied(), wanted).map_err(|rule::TooMany| too_wide())
    };
    if uncovered(&full_authority())?.is_empty() {
        return Ok(());
    }
    if rule::is_too_wide(wanted) {
        return Err(too_wide());
    }
    let missing = uncovered(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = missing.iter().take(SHOWN).map(rule::compact).collect();
    if missing.len() > SHOWN {
        lines.push("and more".to_owned());
    }
    Err(EscalationError::NotHeld {
        user: user.name.clone(),
        groups: user.groups.clone(),
        missing: lines.join("\n"),
    })
}

fn may(
    policy: &Policy,
    user: &User,
    verb: &str,
    namespace: &str,
    resource: &str,
    name: &str,
) -> bool {
    policy
        .authorize(
            user,
            &Request::Resource {
                verb,
                namespace,
                group: GROUP,
                resource,
                subresource: "",
                name,
            },
        )
        .allowed()
}

/// Whether a user may write a Role with these rules in a namespace.
///
/// # Errors
/// [`EscalationError::NotHeld`], unless the verb `escalate` on the role is allowed.
pub fn check_role(
    policy: &Policy,
    user: &User,
    namespace: &str,
    name: &str,
    rules: &[PolicyRule],
) -> Result<(), EscalationError> {
    if user.is_master() || may(policy, user, "escalate", namespace, "roles", name) {
        return Ok(());
    }
    hold(policy, user, namespace, rules)
}

/// Whether a user may write a ClusterRole; `old` is what it replaces.
///
/// # Errors
/// [`EscalationError::NotHeld`] or [`EscalationError::Aggregation`], unless the verb `escalate` is allowed.
pub fn check_cluster_role(
    policy: &Policy,
    user: &User,
    role: &ClusterRole,
    old: Option<&ClusterRole>,
) -> Result<(), EscalationError> {
    let name = role.metadata.name.as_deref().unwrap_or_default();
    if user.is_master() || may(policy, user, "escalate", "", "clusterroles", name) {
        return Ok(());
    }
    hold(policy, user, "", role.rules.as_deref().unwrap_or_default())?;
    let aggregates =
        policy::aggregated(role).is_some() || old.is_some_and(|o| policy::aggregated(o).is_some());
    if aggregates {
        hold(policy, user, "", &full_authority()).map_err(|_| EscalationError::Aggregation)?;
    }
    Ok(())
}

/// Whether a user may write a binding to a role; `namespace` is empty for a ClusterRoleBinding.
///
/// # Errors
/// [`EscalationError::NotHeld`] or [`EscalationError::RoleNotFound`], unless the verb `bind` is allowed.
pub fn check_binding(
    policy: &Policy,
    user: &User,
    namespace: &str,
    role: &RoleRef,
) -> Result<(), EscalationError> {
    let resource = if role.kind == "Role" {
        "roles"
    } else {
        "clusterroles"
    };
    if user.is_master() || may(policy, user, "bind", namespace, resource, &role.name) {
        return Ok(());
    }
    let rules =
        policy
            .role_rules(role, namespace)
            .ok_or_else(|| EscalationError::RoleNotFound {
                kind: role.kind.clone(),
                name: role.name.clone(),
            })?;
    hold(policy, user, namespace, rules)
}
