//! Role-based access control: who may do what, as rbac.authorization.k8s.io decides it.
//!
//! [`Policy`] is a snapshot of roles and bindings that answers requests; [`escalation`] keeps users from
//! granting what they don't hold; [`stock`] holds the roles and bindings that a new cluster begins with;
//! [`kinds`] validates the four kinds.

pub mod escalation;
pub mod kinds;
pub mod policy;
pub mod rule;
pub mod stock;

pub use policy::{Decision, Policy};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";
/// Members of this group may do everything, whatever the roles say.
pub const MASTERS: &str = "system:masters";

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// User name; service accounts are `system:serviceaccount:NAMESPACE:NAME`.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
}

impl User {
    /// A user with groups.
    pub fn new<G: Into<String>>(
        name: impl Into<String>,
        groups: impl IntoIterator<Item = G>,
    ) -> Self {
        Self {
            name: name.into(),
            groups: groups.into_iter().map(Into::into).collect(),
        }
    }

    /// Whether the user is in `system:masters`.
    #[must_use]
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|g| g == MASTERS)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Something about objects.
    Resource {
        /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `impersonate`, `bind`, ...
        verb: &'a str,
        /// Empty: cluster-scoped, or across all namespaces.
        namespace: &'a str,
        /// API group, empty for the core group.
        group: &'a str,
        /// Plural name.
        resource: &'a str,
        /// `log`, `status`, ...; empty for the resource itself.
        subresource: &'a str,
        /// Object name, empty for a collection (and for create).
        name: &'a str,
    },
    /// Some other path.
    Path {
        /// The HTTP method in lower case.
        verb: &'a str,
        /// The URL's path.
        path: &'a str,
    },
}

#[cfg(test)]
mod tests;
