//! The way of every request: what it asks for, who asks, whether they may, then the verb.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use berth_api::status::{ApiError, Subject};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::authn::Certificate;
use crate::authz::Decision;
use crate::finish::Finish;
use crate::http_types::{self, Request, Response};
use crate::negotiate;
use crate::query::Query;
use crate::registry::{Resource, ResourceHandler, SubresourceHandler};
use crate::request::RequestInfo;
use crate::rest::Call;
use crate::rest::update::Part;
use crate::user::User;
use crate::{discovery, health, heavy, openapi, proxy};

/// Largest request body: as much as the stock server takes.
const BODY_MAX: usize = 3 << 20;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// The certificate that it showed.
    pub(crate) certificate: Certificate,
}

/// Answers a request.
pub(crate) async fn handle(
    api: Arc<Api>,
    peer: Arc<Peer>,
    request: Request,
    shutdown: CancellationToken,
) -> Response {
    let begun = Instant::now();
    let head = request.method() == Method::HEAD;
    let finish = Finish::of(request.headers(), request.uri().query());
    let info = RequestInfo::parse(
        request.method(),
        request.uri().path(),
        request.uri().query().unwrap_or(""),
    );
    let answered = answer(
        Arc::clone(&api),
        Arc::clone(&peer),
        request,
        info.clone(),
        shutdown,
    )
    .await;
    let response = answered.unwrap_or_else(|error| http_types::error(&error));
    let mut response = finish.apply(response).await;
    if head {
        *response.body_mut() = http_types::full(Bytes::new());
    }
    api.metrics
        .request(&info, response.status(), begun.elapsed());
    tracing::debug!(
        address = %peer.address,
        verb = info.verb,
        path = info.path,
        code = response.status().as_u16(),
        elapsed = ?begun.elapsed(),
        "request"
    );
    response
}

async fn answer(
    api: Arc<Api>,
    peer: Arc<Peer>,
    request: Request,
    info: RequestInfo,
    shutdown: CancellationToken,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let user = api.authenticator.authenticate(&parts, &peer.certificate)?;
    let user = match api.authorizer.impersonate(&user, &parts.headers)? {
        Some(impersonated) => impersonated,
        None => user,
    };
    authorize(&api, &user, &info)?;
    if !info.is_resource_request {
        return plain(&api, &parts);
    }
    let row = row_of(&api, &info)?;
    let connect = row
        .subresource(&info.subresource)
        .is_some_and(|sub| sub.handler == SubresourceHandler::Connect);
    if connect {
        let request = Request::from_parts(parts, body);
        return proxy::handle(api, user, info, request).await;
    }
    let accepted = negotiate::accept(&parts.headers)?;
    let query = Query::parse(parts.uri.query().unwrap_or(""))?;
    let body = read(body).await?;
    let call = Call {
        row,
        accepted,
        query,
        body,
        headers: parts.headers,
        warnings: Mutex::default(),
        now: jiff::Timestamp::now(),
        api,
        info,
        user,
        shutdown,
    };
    boxed(call, parts.method).await
}

fn row_of(api: &Api, info: &RequestInfo) -> Result<Arc<Resource>, ApiError> {
    let table = api.registry.table();
    let row = table
        .find(&info.api_group, &info.api_version, &info.resource)
        .ok_or(ApiError::NoSuchPath)?;
    check_scope(row, info)?;
    Ok(Arc::clone(row))
}

/// Discovery, health and other paths that name no resource.
fn plain(api: &Arc<Api>, parts: &Parts) -> Result<Response, ApiError> {
    let path = parts.uri.path();
    let found = match path {
        "/healthz" | "/livez" | "/readyz" | "/version" | "/metrics" => health::handle(api, parts),
        _ if path.starts_with("/healthz/")
            || path.starts_with("/livez/")
            || path.starts_with("/readyz/") =>
        {
            health::handle(api, parts)
        }
        _ if path.starts_with("/openapi") => openapi::handle(api, parts),
        _ => discovery::handle(api, parts),
    };
    match found {
        Some(response) => Ok(response),
        // In a group that is served an API client wants a Status, elsewhere a plain page will do.
        None if in_known_group(api, path) => Err(ApiError::NoSuchPath),
        None => Ok(http_types::text(
            StatusCode::NOT_FOUND,
            "404 page not found\n",
        )),
    }
}

fn in_known_group(api: &Api, path: &str) -> bool {
    let mut parts = path.trim_matches('/').split('/');
    match parts.next() {
        Some("api") => parts.next().is_some(),
        Some("apis") => parts.next().is_some_and(|group| {
            let table = api.registry.table();
            table.rows().iter().any(|row| row.group == group)
        }),
        _ => false,
    }
}

/// Namespaced kinds are not served at the cluster's scope except as lists, and the reverse.
fn check_scope(row: &Resource, info: &RequestInfo) -> Result<(), ApiError> {
    let namespaced_path = !info.namespace.is_empty() && row.storage != "core/namespaces";
    let named = !info.parts.get(1).is_none_or(String::is_empty);
    if !row.namespaced() && namespaced_path {
        return Err(ApiError::NoSuchPath);
    }
    if row.namespaced() && info.namespace.is_empty() {
        if named {
            return Err(ApiError::NoSuchPath);
        }
        if !matches!(info.verb.as_str(), "list" | "watch" | "get") {
            return Err(ApiError::MethodNotAllowed);
        }
    }
    if info.parts.len() > 3 {
        return Err(ApiError::NoSuchPath);
    }
    Ok(())
}

async fn read(mut body: Incoming) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|e| ApiError::BadRequest(format!("the body could not be read: {e}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.len() + joined.len() + data.len() > BODY_MAX {
            return Err(ApiError::RequestEntityTooLarge(format!(
                "Request entity too large: limit is {BODY_MAX}"
            )));
        }
        if first.is_empty() && joined.is_empty() {
            first = data;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&std::mem::take(&mut first));
            }
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() {
        first
    } else {
        joined.freeze()
    })
}

/// One type for the futures of all verbs, which keeps connections' own small.
fn boxed(call: Call, method: Method) -> BoxFuture<'static, Result<Response, ApiError>> {
    Box::pin(heavy::run(call.body.len(), dispatch(call, method)))
}

async fn dispatch(call: Call, method: Method) -> Result<Response, ApiError> {
    let named = call.info.parts.len() > 1;
    if !call.info.subresource.is_empty() {
        return subresource(&call, &method).await;
    }
    match call.row.handler {
        ResourceHandler::Stored => {}
        ResourceHandler::Review if !named && method == Method::POST => return call.review().await,
        ResourceHandler::Binding if !named && method == Method::POST => return call.bind().await,
        ResourceHandler::Review | ResourceHandler::Binding => {
            return Err(ApiError::MethodNotAllowed);
        }
    }
    match (&method, named) {
        (&Method::GET | &Method::HEAD, _) if call.info.verb == "watch" => call.watch().await,
        (&Method::GET | &Method::HEAD, true) => call.get().await,
        (&Method::GET | &Method::HEAD, false) => call.list().await,
        (&Method::POST, false) => call.create().await,
        (&Method::PUT, true) => call.put(Part::Main).await,
        (&Method::PATCH, true) => call.patch(Part::Main).await,
        (&Method::DELETE, true) => call.delete().await,
        (&Method::DELETE, false) => call.delete_collection().await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}

async fn subresource(call: &Call, method: &Method) -> Result<Response, ApiError> {
    let sub = call
        .row
        .subresource(&call.info.subresource)
        .ok_or(ApiError::NoSuchPath)?;
    let part = match sub.handler {
        SubresourceHandler::Binding if *method == Method::POST => return call.bind().await,
        SubresourceHandler::Eviction if *method == Method::POST => return call.evict().await,
        SubresourceHandler::Token if *method == Method::POST => return call.token().await,
        SubresourceHandler::Status => Part::Status,
        SubresourceHandler::EphemeralContainers => Part::EphemeralContainers,
        SubresourceHandler::Resize => Part::Resize,
        SubresourceHandler::Finalize => Part::Finalize,
        SubresourceHandler::Binding
        | SubresourceHandler::Eviction
        | SubresourceHandler::Token
        | SubresourceHandler::Connect => return Err(ApiError::MethodNotAllowed),
    };
    match *method {
        Method::GET | Method::HEAD if sub.verbs.contains(&"get") => call.get().await,
        Method::PUT => call.put(part).await,
        Method::PATCH if sub.verbs.contains(&"patch") => call.patch(part).await,
        _ => Err(ApiError::MethodNotAllowed),
    }
}

fn authorize(api: &Api, user: &User, info: &RequestInfo) -> Result<(), ApiError> {
    match api.authorizer.authorize(user, info) {
        Decision::Allow(_) => Ok(()),
        Decision::NoOpinion(reason) => Err(forbidden(user, info, &reason)),
    }
}

/// The refusal of a request, in the stock server's words.
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
