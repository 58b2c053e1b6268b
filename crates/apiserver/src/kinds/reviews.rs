//! Kinds that are asked and not stored; [`crate::reviews`] answers them.

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{self, Printer};
use crate::registry::{ResourceHandler, Review, Scope, Subresource};

macro_rules! review {
    ($($kind:ty: $scope:ident $review:ident,)*) => {
        $(impl Kind for $kind {
            type Object = Self;

            const VERSIONS: &'static [&'static str] = &["v1"];
            const SCOPE: Scope = Scope::$scope;
            const SHORT_NAMES: &'static [&'static str] = &[];
            const CATEGORIES: &'static [&'static str] = &[];
            const FIELD_LABELS: &'static [FieldLabel] = &[];
            const GENERATION: Option<MovedOn<Self>> = None;
            const UPDATES: Updates = Updates {
                create: false,
                unconditional: false,
            };
            const DELETION: Deletion<Self> = Deletion::Immediate;

            fn handler() -> ResourceHandler {
                ResourceHandler::Review(Review::$review)
            }

            fn subresources() -> Vec<Subresource> {
                Vec::new()
            }

            fn printer() -> Printer {
                printer::plain()
            }
        })*
    };
}

review!(
    SelfSubjectReview: Cluster SelfSubject,
    TokenReview: Cluster Token,
    LocalSubjectAccessReview: Namespaced LocalSubjectAccess,
    SelfSubjectAccessReview: Cluster SelfSubjectAccess,
    SelfSubjectRulesReview: Cluster SelfSubjectRules,
    SubjectAccessReview: Cluster SubjectAccess,
);
