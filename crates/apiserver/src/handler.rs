//! The way of every request: what it asks for, who asks, whether they may, then the verb.

mod dispatch;
mod documents;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_api::status::ApiError;
use bytes::Bytes;
use http::HeaderValue;
use http_body::Body as _;
use tokio_util::sync::CancellationToken;

use crate::admission::{self, Form, NoOptions, Operation};
use crate::aggregation::Remote;
use crate::api::Api;
use crate::attributes::Attributes;
use crate::audit::{self, Asking, Open, Trail};
use crate::authn::Certificate;
use crate::authz::Decision;
use crate::connections::Connection;
use crate::finish::Finish;
use crate::flow::{self, Asked, Counted, Seats};
use crate::http_types::{self, Request, Response};
use crate::metrics::RequestLabels;
use crate::query::Parameters;
use crate::registry::{Connect, Resource, ResourceHandler};
use crate::request::{self, ApiRequest, ConnectRequest, Target, Verb};
use crate::rest::Call;
use crate::trace::{self, Traced};
use crate::user::User;
use crate::warnings::Warnings;
use crate::{body, health, negotiate, proxy, query};

use self::socket::Socket;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// The certificate that it showed.
    pub(crate) certificate: Certificate,
    /// The connection, which counts for the first user of it.
    pub(crate) connection: Connection,
}

/// Answers a request.
pub(crate) async fn handle(
    api: Arc<Api>,
    peer: Arc<Peer>,
    request: Request,
    shutdown: CancellationToken,
) -> Response {
    let begun = Instant::now();
    let started = tokio::time::Instant::now();
    let head = request::is_head(request.method());
    let read = ApiRequest::read(
        request.method(),
        request.uri(),
        request.headers(),
        &api.registry.table(),
    );
    // What a node or pod answers is not the server's to change: to hold it whole would take as much memory as the pod
    // likes.
    let remote = read
        .as_ref()
        .ok()
        .and_then(|read| api.aggregation.find(&api.registry.table(), read));
    let finish = if remote.is_some() || read.as_ref().is_ok_and(ApiRequest::is_connection) {
        Finish::default()
    } else {
        Finish::of(request.headers(), &Parameters::of(request.uri()))
    };
    let labels = RequestLabels::of(read.as_ref().ok());
    let id = audit::request_id(request.headers());
    let audited = api.auditor.as_ref().map(|auditor| {
        auditor.open(Asking {
            id: &id,
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            peer: peer.address.ip(),
            request: read.as_ref().ok(),
        })
    });
    let traced = trace::open(&api.tracer);
    let trail = audited.as_ref().map(Open::trail).unwrap_or_default();
    let long_running = read.as_ref().is_ok_and(ApiRequest::is_long_running);
    let open = long_running.then(|| api.metrics.long_running(&labels));
    let longest = api.limits.request_timeout;
    let wanted = query::request_timeout(&Parameters::of(request.uri()));
    let (read, limit) = match (read, wanted) {
        // As on the stock server: a client waits as long as it wants, but no longer than anybody may.
        (Ok(read), Ok(wanted)) => (
            Ok(read),
            wanted.map_or(longest, |wanted| wanted.min(longest)),
        ),
        (Ok(_), Err(error)) if !long_running => (Err(error), longest),
        (read, _) => (read, longest),
    };
    let deadline = started + if long_running { longest } else { limit };
    let limit = (!long_running).then_some(limit);
    let answering = answer(
        Arc::clone(&api),
        Arc::clone(&peer),
        request,
        read,
        open,
        Place {
            seats: Seats::exempt(),
            deadline,
            remote,
            id: id.clone(),
            trail,
            traced: traced.clone(),
        },
        shutdown,
    );
    let answered = within(limit, std::pin::pin!(answering)).await;
    let response = answered.unwrap_or_else(|error| http_types::error(&error));
    traced.answered(response.status().as_u16());
    let response = match audited {
        Some(audited) => Box::pin(audited.answered(response)).await,
        None => response,
    };
    let mut response = finish.apply(response).await;
    response.headers_mut().insert(audit::AUDIT_ID, id);
    if head {
        *response.body_mut() = http_types::full(Bytes::new());
    }
    tracing::debug!(
        address = %peer.address,
        verb = labels.verb(),
        resource = labels.resource(),
        code = response.status().as_u16(),
        elapsed = ?begun.elapsed(),
        "request"
    );
    let bytes = response.body().size_hint().exact();
    api.metrics
        .request(labels, response.status(), begun.elapsed(), bytes);
    response
}

/// Who asks is found out before what is wrong with the request is said.
async fn answer(
    api: Arc<Api>,
    peer: Arc<Peer>,
    request: Request,
    read: Result<ApiRequest, ApiError>,
    open: Option<Counted>,
    mut place: Place,
    shutdown: CancellationToken,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    // Tokens, roles and bindings are judged by the caches.
    if !health::is_about_server(parts.uri.path()) {
        api.storage.check_fresh()?;
    }
    let authenticated = api.authenticator.authenticate(&parts, &peer.certificate);
    let user = authenticated.inspect_err(|_| place.trail.unauthenticated(&parts.headers))?;
    if let Some(seconds) = peer.certificate.seconds_left() {
        api.metrics.certificate(seconds);
    }
    let request = read.as_ref().ok();
    place
        .traced
        .begin(&user, request, &parts.headers, &parts.method, &place.id);
    if place.trail.is_kept() {
        Box::pin(place.trail.begin(&user)).await?;
    }
    peer.connection.authenticated(&user)?;
    let user = match api.authorizer.impersonate(&user, &parts.headers)? {
        Some(impersonated) => {
            place.trail.impersonated(&impersonated);
            impersonated
        }
        None => user,
    };
    let read = read?;
    let mut permit = api.flow.admit(&user, &load(&api, &read)).await?;
    if let Some(open) = open {
        permit.keep(open);
    }
    place.seats = permit.seats();
    let mut request = Request::from_parts(parts, body);
    let socket = match place.remote {
        Some(_) => None,
        None => Socket::wanted(&mut request, &read)?,
    };
    let send = |response: Response, api: &Api| match socket {
        Some(socket) => socket.open(response, &api.sockets, api.limits.deadlines.stall),
        None => response,
    };
    if place.remote.is_some() || read.is_connection() {
        // As on the stock server: whoever runs the pod decides when it answers, and nobody else may wait for that.
        permit.leave_seat();
        let held = permit.shared();
        request.extensions_mut().insert(held.clone());
        if let Some(connected) = place.trail.connected() {
            request.extensions_mut().insert(connected);
        }
        let serving = serve(Arc::clone(&api), user, request, read, place, shutdown);
        let mut response = serving.await?;
        response.extensions_mut().insert(held);
        return Ok(send(response, &api));
    }
    let serving = serve(Arc::clone(&api), user, request, read, place, shutdown);
    let mut response = serving.await?;
    permit.accompany(&mut response);
    Ok(send(response, &api))
}

/// What flow control needs to know of a request.
fn load<'a>(api: &Api, request: &'a ApiRequest) -> Asked<'a> {
    let asked = match request {
        ApiRequest::Path(asked) => {
            return Asked {
                verb: &asked.method,
                is_resource: false,
                group: "",
                resource: "",
                subresource: "",
                namespace: "",
                path: &asked.path,
                width: 1,
            };
        }
        ApiRequest::Resource(asked) => asked,
    };
    let lists = matches!(
        asked.verb,
        Verb::List | Verb::Watch | Verb::DeleteCollection
    );
    let target = &asked.target;
    let width = match target.row() {
        Ok(_) if lists && asked.options.reads_past() => flow::MAX_WIDTH,
        Ok(row) if lists => {
            let storage = match row.handler {
                ResourceHandler::Measured(what) => what.storage(),
                ResourceHandler::Stored
                | ResourceHandler::ReadOnly
                | ResourceHandler::Binding
                | ResourceHandler::Review(_) => &row.storage,
            };
            let cache = api.storage.cache(storage);
            flow::of_list(cache.len(), cache.bytes(), 0)
        }
        Ok(_) | Err(_) => 1,
    };
    Asked {
        verb: asked.verb.as_str(),
        is_resource: true,
        group: &target.group,
        resource: &target.resource,
        subresource: &target.subresource,
        namespace: &target.namespace,
        path: "",
        width,
    }
}

/// An answer in time, or 504 with the stock words.
async fn within(
    limit: Option<Duration>,
    answering: impl Future<Output = Result<Response, ApiError>>,
) -> Result<Response, ApiError> {
    let Some(limit) = limit else {
        return answering.await;
    };
    tokio::time::timeout(limit, answering)
        .await
        .unwrap_or_else(|_| {
            Err(ApiError::Timeout(
                "request did not complete within the allotted timeout".to_owned(),
            ))
        })
}

/// What a request has of the server.
struct Place {
    seats: Seats,
    /// When it must be answered.
    deadline: tokio::time::Instant,
    /// Who answers instead of this server.
    remote: Option<Arc<Remote>>,
    /// By what its events and traces are known.
    id: HeaderValue,
    /// What the audit log is told of it.
    trail: Trail,
    /// Its span.
    traced: Traced,
}

async fn serve(
    api: Arc<Api>,
    user: User,
    request: Request,
    read: ApiRequest,
    place: Place,
    shutdown: CancellationToken,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    {
        let _stage = place.traced.stage("authorize");
        for attributes in Attributes::of(&user, &read) {
            authorize(&api, &attributes, &place.trail)?;
        }
    }
    if let Some(remote) = &place.remote {
        parts.headers.insert(audit::AUDIT_ID, place.id);
        let request = Request::from_parts(parts, body);
        return Box::pin(remote.send(&api.storage, &user, request)).await;
    }
    let asked = match read {
        ApiRequest::Path(asked) => {
            return documents::answer(&api, &asked, &parts.headers).await;
        }
        ApiRequest::Resource(asked) => *asked,
    };
    let row = Arc::clone(asked.target.row()?);
    dispatch::check_served(&row, &asked)?;
    if let Some(connect) = &asked.connect {
        let admitted = admit_connection(&api, &user, &row, &asked.target, connect, &place);
        Box::pin(admitted).await?;
        let request = Request::from_parts(parts, body);
        let proxied = proxy::handle(
            api.nodes.as_ref(),
            &api.storage,
            &asked.target,
            connect,
            request,
        );
        return Box::pin(proxied).await;
    }
    let has_table = !matches!(row.handler, ResourceHandler::Review(_));
    let accepted = negotiate::accept(&parts.headers, has_table, || {
        row.has_message(&asked.target.version)
    })?;
    let body = body::read(body, &api.limits.deadlines).await?;
    place.trail.body(&parts.headers, &body);
    let call = Call {
        row,
        verb: asked.verb,
        target: asked.target,
        selection: asked.selection,
        query: asked.options,
        patch: asked.patch,
        accepted,
        body,
        headers: parts.headers,
        warnings: Warnings::default(),
        trail: place.trail,
        traced: place.traced,
        now: jiff::Timestamp::now(),
        seats: place.seats,
        deadline: place.deadline,
        api,
        user,
        shutdown,
    };
    dispatch::boxed(call).await
}

/// Logs are read; all else opens a connection, which admission is asked about.
async fn admit_connection(
    api: &Api,
    user: &User,
    row: &Resource,
    target: &Target,
    connect: &ConnectRequest,
    place: &Place,
) -> Result<(), ApiError> {
    if connect.kind == Connect::Log {
        return Ok(());
    }
    let options = connect.options(&target.resource);
    let attributes = admission::Attributes {
        user,
        operation: Operation::Connect,
        resource: row,
        version: &target.version,
        subresource: &target.subresource,
        namespace: &target.namespace,
        name: &target.name,
        old: None,
        dry_run: false,
        warnings: &Warnings::default(),
        trail: &place.trail,
        traced: &place.traced,
        form: Form::Connection(&options),
        options: &NoOptions,
        seats: &place.seats,
        deadline: place.deadline,
    };
    api.admission.judge(&attributes).await
}

fn authorize(api: &Api, attributes: &Attributes<'_>, trail: &Trail) -> Result<(), ApiError> {
    match api.authorizer.authorize(attributes) {
        Decision::Allow(why) => {
            trail.authorized(true, &why);
            Ok(())
        }
        Decision::NoOpinion(reason) => {
            trail.authorized(false, &reason);
            Err(attributes.forbidden(&reason))
        }
    }
}
