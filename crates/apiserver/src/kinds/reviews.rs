//! Kinds that are asked and not stored; [`crate::reviews`] answers them.

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};

use super::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{self, Printer};
use crate::registry::{ResourceHandler, Scope, Subresource};
use crate::strategy::FieldLabel;

macro_rules! review {
    ($($kind:ty: $scope:ident,)*) => {
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
                ResourceHandler::Review
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
    SelfSubjectReview: Cluster,
    TokenReview: Cluster,
    LocalSubjectAccessReview: Namespaced,
    SelfSubjectAccessReview: Cluster,
    SelfSubjectRulesReview: Cluster,
    SubjectAccessReview: Cluster,
);
