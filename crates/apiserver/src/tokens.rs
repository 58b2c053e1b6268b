//! Service account tokens: `serviceaccounts/token`, and the keys that check them.

use std::sync::Arc;

use serde_json::Value;

use berth_api::status::ApiError;

use crate::api::Api;
use crate::request::RequestInfo;
use crate::user::User;

/// How service account tokens are made and checked.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// Issuer, e.g. `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// Audiences that the server itself accepts.
    pub audiences: Vec<String>,
    /// ECDSA P-256 key, PEM (PKCS#8); its public half checks tokens.
    pub key: Vec<u8>,
}

/// Answers a create of `serviceaccounts/token`: a `TokenRequest` with its status.
///
/// # Errors
/// `NotFound` for no such account, `Invalid` for a bad request.
pub fn create(
    _api: &Arc<Api>,
    _user: &User,
    _info: &RequestInfo,
    _request: Value,
) -> Result<Value, ApiError> {
    Err(ApiError::Internal(
        "service account tokens are not built yet".to_owned(),
    ))
}
