//! Requests that a node answers: pods log, exec, attach, portforward; nodes proxy.

use std::sync::Arc;

use berth_api::status::ApiError;

use crate::api::Api;
use crate::http_types::{Request, Response};
use crate::request::RequestInfo;
use crate::user::User;

/// How the server reaches nodes (stock: `--kubelet-client-certificate` and so on).
#[derive(Clone, Debug)]
pub struct NodeClientConfig {
    /// Client certificate chain, PEM.
    pub certificate: Vec<u8>,
    /// Its key, PEM.
    pub key: Vec<u8>,
    /// CA of the nodes' serving certificates, PEM; none accepts any, as the stock default.
    pub ca: Option<Vec<u8>>,
}

/// Passes a request on to the node that has the pod, upgrades included.
///
/// # Errors
/// `NotFound` for no such pod, `BadRequest` for one without a node or with several containers and
/// none named, `ServiceUnavailable` or `InternalError` when the node cannot be reached.
pub async fn handle(
    _api: Arc<Api>,
    _user: User,
    _info: RequestInfo,
    _request: Request,
) -> Result<Response, ApiError> {
    Err(ApiError::Internal(
        "the way to nodes is not built yet".to_owned(),
    ))
}
