//! Kinds that are asked and not stored: SubjectAccessReview and its siblings, TokenReview,
//! SelfSubjectReview, SelfSubjectRulesReview.

use std::sync::Arc;

use serde_json::Value;

use berth_api::status::ApiError;

use crate::api::Api;
use crate::registry::Resource;
use crate::request::RequestInfo;
use crate::user::User;

/// Answers a create of a row whose handler is `Review`: the object with its status.
///
/// # Errors
/// `Invalid` or `BadRequest` for a bad question.
pub fn create(
    _api: &Arc<Api>,
    _user: &User,
    _row: &Resource,
    _info: &RequestInfo,
    _review: Value,
) -> Result<Value, ApiError> {
    Err(ApiError::Internal("reviews are not built yet".to_owned()))
}
