//! What authorization sees of a request: who asks for what.
//!
//! [`Attributes::of`] takes them from the request as it was read; reviews, impersonation and checks inside a request
//! (creation by an update, say) make them from their own parts. Nothing else is ever authorized.

use berth_api::status::{ApiError, Subject};

use crate::request::{ApiRequest, Target, Verb, limited_to};
use crate::selector::Selection;
use crate::user::User;

/// Who asks for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a User,
    /// What.
    pub asked: Asked<'a>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Something about objects.
    Resource(ResourceAttributes<'a>),
    /// Some other path.
    Path {
        /// The HTTP method in lower case.
        method: &'a str,
        /// The path.
        path: &'a str,
    },
}

/// Something about objects. Empty strings stand for "none" and "all".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceAttributes<'a> {
    /// What is to be done.
    pub action: Action<'a>,
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Version.
    pub version: &'a str,
    /// Namespace.
    pub namespace: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Subresource.
    pub subresource: &'a str,
    /// Name of the object.
    pub name: &'a str,
    /// What a request for a collection selects.
    pub(crate) selection: Option<&'a Selection>,
}

impl<'a> ResourceAttributes<'a> {
    /// The value that the selection demands of a field, e.g. `spec.nodeName`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'a str> {
        self.selection?.field(name)
    }
}

/// What is to be done with objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// A verb of the API.
    Verb(Verb),
    /// Another verb of rules, such as `impersonate`, `bind`, `escalate`.
    Other(&'a str),
}

impl<'a> Action<'a> {
    /// The action of that name.
    #[must_use]
    pub fn from_name(name: &'a str) -> Self {
        Verb::from_name(name).map_or(Self::Other(name), Self::Verb)
    }

    /// Its name in rules.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        match self {
            Self::Verb(verb) => verb.as_str(),
            Self::Other(name) => name,
        }
    }

    /// Whether it is this verb.
    #[must_use]
    pub fn is(self, verb: Verb) -> bool {
        self == Self::Verb(verb)
    }

    /// Whether it only reads.
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Self::Verb(verb) if verb.reads())
    }
}

impl<'a> Attributes<'a> {
    /// Those of a request, one for each verb that the user must have.
    #[must_use]
    pub fn of(user: &'a User, request: &'a ApiRequest) -> Vec<Self> {
        match request {
            ApiRequest::Resource(request) => request
                .needed_verbs()
                .map(|verb| Self::of_target(user, verb, &request.target, &request.selection))
                .collect(),
            ApiRequest::Path(request) => vec![Self {
                user,
                asked: Asked::Path {
                    method: &request.method,
                    path: &request.path,
                },
            }],
        }
    }

    /// Those of a verb on a target.
    pub(crate) fn of_target(
        user: &'a User,
        verb: Verb,
        target: &'a Target,
        selection: &'a Selection,
    ) -> Self {
        Self {
            user,
            asked: Asked::Resource(ResourceAttributes {
                action: Action::Verb(verb),
                group: &target.group,
                version: &target.version,
                namespace: &target.namespace,
                resource: &target.resource,
                subresource: &target.subresource,
                name: limited_to(target, verb, selection),
                selection: Some(selection),
            }),
        }
    }

    /// Those of a verb on all objects of a resource, in every namespace.
    pub(crate) fn of_all(user: &'a User, verb: Verb, group: &'a str, resource: &'a str) -> Self {
        Self {
            user,
            asked: Asked::Resource(ResourceAttributes {
                action: Action::Verb(verb),
                group,
                version: "v1",
                namespace: "",
                resource,
                subresource: "",
                name: "",
                selection: None,
            }),
        }
    }

    /// The refusal, in the stock server's words.
    #[must_use]
    pub fn forbidden(&self, reason: &str) -> ApiError {
        let tail = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        let user = &self.user.name;
        let asked = match &self.asked {
            Asked::Path { method, path } => {
                return ApiError::Forbidden {
                    subject: Subject::default(),
                    message: format!("User {user:?} cannot {method} path {path:?}{tail}"),
                };
            }
            Asked::Resource(asked) => asked,
        };
        let mut resource = asked.resource.to_owned();
        if !asked.subresource.is_empty() {
            resource = format!("{resource}/{}", asked.subresource);
        }
        let place = if asked.namespace.is_empty() {
            " at the cluster scope".to_owned()
        } else {
            format!(" in the namespace {:?}", asked.namespace)
        };
        ApiError::Forbidden {
            subject: Subject::new(asked.group, asked.resource, asked.name),
            message: format!(
                "User {user:?} cannot {} resource {resource:?} in API group {:?}{place}{tail}",
                asked.action.as_str(),
                asked.group
            ),
        }
    }
}
