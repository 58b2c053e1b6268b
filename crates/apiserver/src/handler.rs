//! The way of every request: what it asks for, who asks, whether they may, then the verb.

mod dispatch;
mod documents;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use berth_api::status::ApiError;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::admission::{self, Operation};
use crate::api::Api;
use crate::attributes::Attributes;
use crate::authn::Certificate;
use crate::authz::Decision;
use crate::finish::Finish;
use crate::http_types::{self, Request, Response};
use crate::metrics::RequestLabels;
use crate::query::Parameters;
use crate::registry::{Connect, Resource};
use crate::request::{self, ApiRequest, ConnectRequest, Target};
use crate::rest::Call;
use crate::user::User;
use crate::{negotiate, proxy};

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
    let head = request::is_head(request.method());
    let finish = Finish::of(request.headers(), &Parameters::of(request.uri()));
    let read = ApiRequest::read(
        request.method(),
        request.uri(),
        request.headers(),
        &api.registry.table(),
    );
    let labels = RequestLabels::of(read.as_ref().ok());
    let answered = answer(Arc::clone(&api), Arc::clone(&peer), request, read, shutdown).await;
    let response = answered.unwrap_or_else(|error| http_types::error(&error));
    let mut response = finish.apply(response).await;
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
    api.metrics
        .request(labels, response.status(), begun.elapsed());
    response
}

/// Who asks is found out before what is wrong with the request is said.
async fn answer(
    api: Arc<Api>,
    peer: Arc<Peer>,
    request: Request,
    read: Result<ApiRequest, ApiError>,
    shutdown: CancellationToken,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let user = api.authenticator.authenticate(&parts, &peer.certificate)?;
    let user = match api.authorizer.impersonate(&user, &parts.headers)? {
        Some(impersonated) => impersonated,
        None => user,
    };
    let read = read?;
    for attributes in Attributes::of(&user, &read) {
        authorize(&api, &attributes)?;
    }
    let asked = match read {
        ApiRequest::Path(asked) => return documents::answer(&api, &asked, &parts.headers),
        ApiRequest::Resource(asked) => *asked,
    };
    let row = Arc::clone(asked.target.row()?);
    dispatch::check_served(&row, &asked)?;
    if let Some(connect) = &asked.connect {
        admit_connection(&api, &user, &row, &asked.target, connect)?;
        let request = Request::from_parts(parts, body);
        return proxy::handle(&api, &asked.target, connect, request).await;
    }
    let accepted = negotiate::accept(&parts.headers)?;
    let body = read_body(body).await?;
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
        warnings: Mutex::default(),
        now: jiff::Timestamp::now(),
        api,
        user,
        shutdown,
    };
    dispatch::boxed(call).await
}

/// Logs are read; all else opens a connection, which admission is asked about.
fn admit_connection(
    api: &Api,
    user: &User,
    row: &Resource,
    target: &Target,
    connect: &ConnectRequest,
) -> Result<(), ApiError> {
    if connect.kind == Connect::Log {
        return Ok(());
    }
    let attributes = admission::Attributes {
        user,
        operation: Operation::Connect,
        resource: row,
        subresource: &target.subresource,
        namespace: &target.namespace,
        name: &target.name,
        old: None,
        dry_run: false,
        warnings: &Mutex::default(),
    };
    api.admission.validate(&attributes, None)
}

fn authorize(api: &Api, attributes: &Attributes<'_>) -> Result<(), ApiError> {
    match api.authorizer.authorize(attributes) {
        Decision::Allow(_) => Ok(()),
        Decision::NoOpinion(reason) => Err(attributes.forbidden(&reason)),
    }
}

async fn read_body(mut body: Incoming) -> Result<Bytes, ApiError> {
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
