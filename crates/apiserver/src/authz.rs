//! Who may: RBAC, impersonation, escalation.
//!
//! Decisions are `berth_rules::rbac`'s; here are the snapshot of roles and bindings that they are made
//! from, what nodes may not do although their role allows it, and the stock roles of a new cluster.

pub mod aggregation;
mod impersonation;
mod node;
pub mod seed;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use parking_lot::Mutex;

use berth_api::status::ApiError;
use berth_rules::rbac::escalation::Grant;
use berth_rules::rbac::{self, Policy};
use berth_store::Revision;

use crate::{
    attributes::{Asked, Attributes},
    storage::{Decoded, Storage},
    user::{MASTERS, User},
};

pub(crate) const ROLES: &str = "rbac.authorization.k8s.io/roles";
pub(crate) const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
pub(crate) const ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings";
pub(crate) const CLUSTER_ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/clusterrolebindings";

/// How requests are authorized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthzMode {
    /// Roles and bindings.
    #[default]
    Rbac,
    /// Everybody may do everything; tests only.
    AlwaysAllow,
}

/// The answer to "may this user do this".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// No rule allows it; the text says more when there is more to say.
    NoOpinion(String),
}

impl Decision {
    /// Whether it is allowed.
    #[must_use]
    pub fn allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// A policy and the revisions of the four kinds that it was made from.
struct Snapshot {
    revisions: [Revision; 4],
    policy: Arc<Policy>,
}

/// Decides what users may do.
pub struct Authorizer {
    mode: AuthzMode,
    storage: Arc<Storage>,
    snapshot: ArcSwapOption<Snapshot>,
    /// What the next snapshot is made from. Held while it is made, so that of many requests one does the work.
    decoded: Mutex<DecodedPolicy>,
}

/// Roles and bindings, decoded once each.
#[derive(Default)]
struct DecodedPolicy {
    cluster_roles: Decoded<ClusterRole>,
    roles: Decoded<Role>,
    cluster_role_bindings: Decoded<ClusterRoleBinding>,
    role_bindings: Decoded<RoleBinding>,
}

impl Authorizer {
    /// An authorizer that reads roles and bindings from `storage`.
    #[must_use]
    pub fn new(mode: AuthzMode, storage: Arc<Storage>) -> Self {
        Self {
            mode,
            storage,
            snapshot: ArcSwapOption::empty(),
            decoded: Mutex::default(),
        }
    }

    /// How it decides.
    #[must_use]
    pub fn mode(&self) -> AuthzMode {
        self.mode
    }

    /// The policy as the roles and bindings are now. One that cannot be decoded gives nothing, and was logged.
    fn policy(&self) -> Arc<Policy> {
        if let Some(policy) = self.current() {
            return policy;
        }
        let mut decoded = self.decoded.lock();
        if let Some(policy) = self.current() {
            return policy;
        }
        // Before the objects: what changes meanwhile makes the next policy.
        let revisions = self.revisions();
        let list = |kind| self.storage.list(kind, None);
        let policy = Arc::new(Policy::new(
            &decoded.cluster_roles.of(list(CLUSTER_ROLES)),
            decoded.roles.of(list(ROLES)),
            decoded
                .cluster_role_bindings
                .of(list(CLUSTER_ROLE_BINDINGS)),
            decoded.role_bindings.of(list(ROLE_BINDINGS)),
        ));
        self.snapshot.store(Some(Arc::new(Snapshot {
            revisions,
            policy: Arc::clone(&policy),
        })));
        policy
    }

    fn revisions(&self) -> [Revision; 4] {
        [ROLES, CLUSTER_ROLES, ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS]
            .map(|kind| self.storage.changed_at(kind))
    }

    /// The policy that was made last, if nothing has changed since.
    fn current(&self) -> Option<Arc<Policy>> {
        let snapshot = self.snapshot.load();
        let snapshot = snapshot.as_ref()?;
        (snapshot.revisions == self.revisions()).then(|| Arc::clone(&snapshot.policy))
    }

    /// Whether the user may do what the attributes say.
    #[must_use]
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let user = attributes.user;
        if self.mode == AuthzMode::AlwaysAllow || user.in_group(MASTERS) {
            return Decision::Allow(String::new());
        }
        let request = rbac_request(attributes);
        // as on the stock server, other bindings may allow a node what the Node authorizer does not
        let refusal = match node::authorize(attributes, &request, &self.storage) {
            Some(Decision::Allow(why)) => return Decision::Allow(why),
            Some(Decision::NoOpinion(reason)) => reason,
            None => String::new(),
        };
        match self.policy().authorize(&rbac_user(user), &request) {
            rbac::Decision::Allow(why) => Decision::Allow(why),
            rbac::Decision::NoOpinion => Decision::NoOpinion(refusal),
        }
    }

    /// The rules that hold for a user in a namespace, until `takes` has enough of them.
    pub fn rules_for(
        &self,
        user: &User,
        namespace: &str,
        mut takes: impl FnMut(&PolicyRule) -> bool,
    ) -> Vec<PolicyRule> {
        let (policy, user) = (self.policy(), rbac_user(user));
        let rules = policy.rules_for(&user, namespace);
        rules.take_while(|rule| takes(rule)).cloned().collect()
    }

    /// Whether [`Authorizer::rules_for`] leaves out what a user may do: a node's rights depend on its pods.
    #[must_use]
    pub fn rules_are_incomplete(&self, user: &User) -> bool {
        node::is_node(user)
    }

    /// The user that the request's `Impersonate-*` headers name, when there are any and `user`
    /// may impersonate it.
    ///
    /// # Errors
    /// `Forbidden` when `user` may not.
    pub fn impersonate(&self, user: &User, headers: &HeaderMap) -> Result<Option<User>, ApiError> {
        let Some(wanted) = impersonation::requested(headers)? else {
            return Ok(None);
        };
        for attributes in wanted.permissions(user) {
            if let Decision::NoOpinion(reason) = self.authorize(&attributes) {
                return Err(attributes.forbidden(&reason));
            }
        }
        Ok(Some(wanted.user()))
    }

    /// Refuses a write of a role or binding that would give more than `user` has (unless it may
    /// `escalate` or `bind`). Called for every create and update of the four RBAC kinds.
    ///
    /// # Errors
    /// `Forbidden` naming what is too much.
    pub(crate) fn check_escalation(
        &self,
        user: &User,
        resource: &str,
        namespace: &str,
        name: &str,
        grant: &Grant<'_>,
    ) -> Result<(), ApiError> {
        if self.mode == AuthzMode::AlwaysAllow || user.in_group(MASTERS) {
            return Ok(());
        }
        grant
            .check(&self.policy(), &rbac_user(user), namespace, name)
            .map_err(|error| ApiError::forbidden(rbac::GROUP, resource, name, error.to_string()))
    }
}

fn rbac_user(user: &User) -> rbac::User {
    rbac::User {
        name: user.name.clone(),
        groups: user.groups.clone(),
    }
}

fn rbac_request<'a>(attributes: &Attributes<'a>) -> rbac::Request<'a> {
    match attributes.asked {
        Asked::Resource(asked) => rbac::Request::Resource {
            verb: asked.action.as_str(),
            namespace: asked.namespace,
            group: asked.group,
            resource: asked.resource,
            subresource: asked.subresource,
            name: asked.name,
        },
        Asked::Path { method, path } => rbac::Request::Path { verb: method, path },
    }
}
