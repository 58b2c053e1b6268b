//! The way of every request: what it asks for, who asks, whether they may, then the verb.

use std::net::SocketAddr;
use std::sync::Arc;

use berth_api::status::{ApiError, Subject};
use http::StatusCode;
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::authz::Decision;
use crate::http_types::{self, Request, Response};
use crate::request::RequestInfo;
use crate::user::User;
use crate::{discovery, openapi};

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Its verified certificate chain, leaf first.
    pub(crate) certificates: Option<Vec<CertificateDer<'static>>>,
}

/// Answers a request.
pub(crate) async fn handle(
    api: Arc<Api>,
    peer: Arc<Peer>,
    request: Request,
    shutdown: CancellationToken,
) -> Response {
    match answer(api, &peer, request, shutdown).await {
        Ok(response) => response,
        Err(error) => http_types::error(&error),
    }
}

async fn answer(
    api: Arc<Api>,
    peer: &Peer,
    request: Request,
    _shutdown: CancellationToken,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let info = RequestInfo::parse(
        &parts.method,
        parts.uri.path(),
        parts.uri.query().unwrap_or(""),
    );
    let user = api
        .authenticator
        .authenticate(&parts, peer.certificates.as_deref())?;
    let user = match api.authorizer.impersonate(&user, &parts.headers)? {
        Some(impersonated) => impersonated,
        None => user,
    };
    authorize(&api, &user, &info)?;
    if !info.is_resource_request {
        return Ok(plain(&api, &parts)
            .unwrap_or_else(|| http_types::text(StatusCode::NOT_FOUND, "404 page not found\n")));
    }
    drop(body);
    Err(ApiError::NoSuchPath)
}

fn plain(api: &Arc<Api>, parts: &http::request::Parts) -> Option<Response> {
    match parts.uri.path() {
        "/healthz" | "/livez" | "/readyz" => Some(http_types::text(StatusCode::OK, "ok")),
        path if path.starts_with("/openapi") => openapi::handle(api, parts),
        _ => discovery::handle(api, parts),
    }
}

fn authorize(api: &Api, user: &User, info: &RequestInfo) -> Result<(), ApiError> {
    match api.authorizer.authorize(user, info) {
        Decision::Allow(_) => Ok(()),
        Decision::NoOpinion(reason) => Err(forbidden(user, info, &reason)),
    }
}

/// The refusal of a request, in the stock server's words.
#[must_use]
pub(crate) fn forbidden(user: &User, info: &RequestInfo, reason: &str) -> ApiError {
    let tail = if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    };
    if !info.is_resource_request {
        return ApiError::Forbidden {
            subject: Subject::default(),
            message: format!(
                "User {:?} cannot {} path {:?}{tail}",
                user.name, info.verb, info.path
            ),
        };
    }
    let mut resource = info.resource.clone();
    if !info.subresource.is_empty() {
        resource = format!("{resource}/{}", info.subresource);
    }
    let place = if info.namespace.is_empty() {
        " at the cluster scope".to_owned()
    } else {
        format!(" in the namespace {:?}", info.namespace)
    };
    ApiError::Forbidden {
        subject: Subject::new(&info.api_group, &info.resource, &info.name),
        message: format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?}{place}{tail}",
            user.name, info.verb, info.api_group
        ),
    }
}
