//! Authorization checks: what `authorizer` can be asked.

use crate::named;

/// Who answers checks: the server's authorizer.
pub trait Authorizer {
    /// Whether it may be done.
    fn authorize(&self, question: &Question) -> Decision;
}

/// A whole check, as it was put together by an expression.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Another user than the request's: namespace and name of a service account.
    pub service_account: Option<(String, String)>,
    /// The verb, or the method of a path in lower case.
    pub verb: String,
    /// A path that is no resource; the rest is empty then.
    pub path: Option<String>,
    /// The group; empty for the core group.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// The subresource, or empty.
    pub subresource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The object's name, or empty.
    pub name: String,
    /// A field selector as text, or empty.
    pub field_selector: String,
    /// A label selector as text, or empty.
    pub label_selector: String,
}

/// What an authorizer answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why, or empty.
    pub reason: String,
    /// What went wrong while deciding.
    pub error: Option<String>,
}

/// A check that is being put together.
#[derive(Clone)]
pub struct Check<'a> {
    pub(crate) authorizer: &'a dyn Authorizer,
    pub(crate) stage: Stage,
    pub(crate) question: Question,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
}

impl<'a> Check<'a> {
    /// The value of `authorizer`.
    #[must_use]
    pub fn new(authorizer: &'a dyn Authorizer) -> Self {
        Self {
            authorizer,
            stage: Stage::Authorizer,
            question: Question::default(),
        }
    }

    /// The value of `authorizer.requestResource`: about what the request is about.
    #[must_use]
    pub fn resource(authorizer: &'a dyn Authorizer, question: Question) -> Self {
        Self {
            authorizer,
            stage: Stage::Resource,
            question,
        }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Authorizer => named::AUTHORIZER,
            Stage::Path => named::PATH_CHECK,
            Stage::Group => named::GROUP_CHECK,
            Stage::Resource => named::RESOURCE_CHECK,
        }
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        self.stage == other.stage && self.question == other.question
    }
}
