//! Kinds whose objects are answered and never stored: reviews, Binding, Eviction, Scale, TokenRequest.

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Binding;
use k8s_openapi::api::policy::v1::Eviction;

use crate::Rules;
use crate::pod::binding;

/// There is nothing stored that could be updated.
fn not_stored() -> Vec<FieldError> {
    vec![FieldError::forbidden(
        &FieldPath::new("[]"),
        "objects of this kind are answered and not stored",
    )]
}

/// Whoever answers the request judges its spec.
macro_rules! answered {
    ($($kind:ty),*) => {
        $(impl Rules for $kind {
            fn validate(&self) -> Vec<FieldError> {
                Vec::new()
            }

            fn validate_update(&self, _old: &Self) -> Vec<FieldError> {
                not_stored()
            }
        })*
    };
}

answered!(
    SelfSubjectReview,
    TokenRequest,
    TokenReview,
    LocalSubjectAccessReview,
    SelfSubjectAccessReview,
    SelfSubjectRulesReview,
    SubjectAccessReview,
    Eviction,
    Scale
);

impl Rules for Binding {
    fn validate(&self) -> Vec<FieldError> {
        binding::validate(self)
    }

    fn validate_update(&self, _old: &Self) -> Vec<FieldError> {
        not_stored()
    }
}
