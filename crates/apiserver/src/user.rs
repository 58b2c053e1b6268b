//! Who makes a request, as the authenticators found out.

use std::collections::BTreeMap;

/// Name of the user of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// Group of requests without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Group of every request with valid credentials.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group that may do everything, whatever RBAC says.
pub const MASTERS: &str = "system:masters";

/// The identity of a request (stock: `user.Info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name that authorization and audit see.
    pub name: String,
    /// A value that is unique over time, when the authenticator has one.
    pub uid: String,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// Further facts, such as the pod that a token was issued for.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The user of requests without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// A member of `system:masters`; berth's own parts and tests use it.
    #[must_use]
    pub fn master(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            groups: vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// Whether the cluster cannot do without it: administrators, nodes, the scheduler, the controller manager and the
    /// service accounts of kube-system. Everybody else together leaves them room.
    #[must_use]
    pub fn is_of_system(&self) -> bool {
        const COMPONENTS: [&str; 2] = ["system:kube-controller-manager", "system:kube-scheduler"];
        const ACCOUNTS: &str = "system:serviceaccounts:kube-system";
        const NODE_PREFIX: &str = "system:node:";
        let node = self.in_group("system:nodes") && self.name.starts_with(NODE_PREFIX);
        node || self.in_group(MASTERS)
            || self.in_group(ACCOUNTS)
            || COMPONENTS.contains(&self.name.as_str())
    }

    /// Whether the user is a member of `group`.
    #[must_use]
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// The user of a token, and what the token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUser {
    /// The user.
    pub user: User,
    /// Those of the audiences that were asked about which the token is meant for.
    pub audiences: Vec<String>,
}
