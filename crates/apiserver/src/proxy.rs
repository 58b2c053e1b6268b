//! Requests that a node or pod answers: pods log, exec, attach, portforward; nodes, pods and services proxy.
//!
//! [`target`] decides where a request goes and in which words, [`address`] which addresses that may be, [`identity`]
//! who must be there, and [`client`] takes it there. Upgraded connections (WebSocket, SPDY) are joined byte for byte, whatever protocol they speak.

pub(crate) mod address;
mod client;
mod identity;
mod links;
mod pool;
mod root;
pub(crate) mod service;
mod target;
mod tunnels;

use std::collections::BTreeMap;

use http::{StatusCode, header};
use http_body_util::BodyExt;

use berth_api::status::{ApiError, Subject};

use self::links::Links;
use self::service::{Port, ServiceError};
use self::target::Target;
use crate::{
    http_types::{self, Request, Response},
    registry::Connect,
    request::{self, ConnectRequest},
    storage::Storage,
    tls::TlsError,
};
pub use client::NodeClient;
pub(crate) use client::{any_certificate, exchange};
pub(crate) use pool::Pool;
pub(crate) use tunnels::Tunnels;

/// As much as is read of a node's error message.
const MAX_MESSAGE: usize = 50_000;

/// How the server reaches nodes (stock: `--kubelet-client-certificate` and so on).
#[derive(Clone, Debug)]
pub struct NodeClientConfig {
    /// Client certificate chain, PEM.
    pub certificate: Vec<u8>,
    /// Its key, PEM.
    pub key: Vec<u8>,
    /// CA of the nodes' serving certificates, PEM (stock: `--kubelet-certificate-authority`): every node must show one
    /// of it. With none, a node must go on to show what it showed first.
    pub ca: Option<Vec<u8>>,
    /// This server's own CA, PEM: its certificates count only for the nodes that they name.
    pub issuer: Option<Vec<u8>>,
    /// The nodes on this machine, by name: they may be reached at a loopback address.
    pub local_nodes: BTreeMap<String, LocalNode>,
}

/// A node on the API server's machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalNode {
    /// Whether it has a certificate of this server's own CA, and must show that.
    pub issued: bool,
}

impl NodeClientConfig {
    /// Reads the certificates.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn client(&self) -> Result<NodeClient, TlsError> {
        NodeClient::new(self)
    }
}

/// Passes a request on to the node that has the pod, upgrades included.
///
/// # Errors
/// `NotFound` for no such pod, `BadRequest` for one without a node or with several containers and
/// none named, `ServiceUnavailable` or `InternalError` when the node cannot be reached.
pub(crate) async fn handle(
    nodes: Option<&NodeClient>,
    storage: &Storage,
    asked: &request::Target,
    connect: &ConnectRequest,
    mut request: Request,
) -> Result<Response, ApiError> {
    let nodes = nodes.ok_or_else(|| {
        ApiError::ServiceUnavailable(
            "this server was started without a client certificate for nodes".to_owned(),
        )
    })?;
    let Some(target) = target(storage, asked, connect)? else {
        // logs of a pod that no node has yet: there are none
        let mut nothing = http::Response::new(http_types::full(""));
        *nothing.status_mut() = StatusCode::NO_CONTENT;
        return Ok(nothing);
    };
    if !connect.upgrade {
        // Not authorized as an upgrade: the other side must not see one.
        request.headers_mut().remove(header::UPGRADE);
    }
    let is_page = connect.kind == Connect::Proxy && !connect.upgrade;
    if is_page
        && let Some(elsewhere) =
            root::redirect(request.method(), request.uri(), &connect.path_and_query)
    {
        return Ok(elsewhere);
    }
    let links = is_page.then(|| {
        let server = format!("{}:{}", target.host, target.port);
        Links::of(&request, &target.path_and_query, &server)
    });
    let response = nodes.send(target, request, storage).await?;
    if let Some(links) = links {
        return links.lead_back(response).await;
    }
    if connect.kind == Connect::Log && !response.status().is_success() {
        return Err(refusal(asked, response).await);
    }
    Ok(response)
}

fn target(
    storage: &Storage,
    asked: &request::Target,
    connect: &ConnectRequest,
) -> Result<Option<Target>, ApiError> {
    let query = &connect.parameters;
    let find_node = |name: &str| storage.find::<serde_json::Value>("core/nodes", "", name);
    let path_and_query = || connect.path_and_query.clone();
    if asked.resource == "nodes" {
        return target::node_proxy(&asked.name, path_and_query(), find_node).map(Some);
    }
    if asked.resource == "services" {
        return service_proxy(storage, asked, path_and_query()).map(Some);
    }
    let name = match connect.kind {
        Connect::Proxy => target::split_name(&asked.name).1,
        Connect::Exec | Connect::Attach | Connect::PortForward | Connect::Log => &asked.name,
    };
    let pod: serde_json::Value = storage
        .read("core/pods", &asked.namespace, name)?
        .ok_or_else(|| ApiError::not_found("", "pods", name))?;
    match connect.kind {
        Connect::Proxy => {
            let nodes = all_nodes(storage)?;
            target::pod_proxy(&asked.name, path_and_query(), &pod, &nodes).map(Some)
        }
        Connect::Log => target::log(&pod, query, find_node),
        Connect::PortForward => target::port_forward(&pod, query, find_node).map(Some),
        Connect::Exec => target::exec("exec", &pod, query, find_node).map(Some),
        Connect::Attach => target::exec("attach", &pod, query, find_node).map(Some),
    }
}

/// Whoever cannot be read has addresses that nobody knows.
fn all_nodes(storage: &Storage) -> Result<Vec<serde_json::Value>, ApiError> {
    let nodes = storage.list("core/nodes", None);
    let values = nodes.iter().map(|node| node.value());
    Ok(values.collect::<Result<_, _>>()?)
}

/// `services/NAME/proxy`: a port of one of the pods behind the Service.
fn service_proxy(
    storage: &Storage,
    asked: &request::Target,
    path_and_query: String,
) -> Result<Target, ApiError> {
    let (scheme, name, port) = target::split_name(&asked.name);
    if !matches!(scheme, "" | "http" | "https") {
        return Err(ApiError::BadRequest(format!(
            "invalid service request {:?}",
            asked.name
        )));
    }
    let port = port.parse().map_or(Port::Name(port), Port::Number);
    let found = service::resolve(storage, &asked.namespace, name, port)
        .and_then(|backend| backend.pod(storage));
    let (pod, address) = found.map_err(|error| match error {
        ServiceError::NotFound(name) => ApiError::not_found("", "services", &name),
        ServiceError::Unreadable(error) => error.into(),
        // Of a Service whose ports have names one has to be named.
        ServiceError::NoPort { .. } if matches!(port, Port::Name(_)) => {
            let id = &asked.name;
            ApiError::ServiceUnavailable(format!("no endpoints available for service {id:?}"))
        }
        other => ApiError::ServiceUnavailable(other.to_string()),
    })?;
    let nodes = all_nodes(storage)?;
    let place = format!("{scheme}::{}", address.port());
    let mut target = target::pod_proxy(&place, path_and_query, &pod, &nodes)?;
    // A pod may have an address of each family.
    target.host = address.ip().to_string();
    Ok(target)
}

/// A node's refusal as a Status.
async fn refusal(asked: &request::Target, response: Response) -> ApiError {
    let code = response.status();
    let mut body = response.into_body();
    let mut message = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        message.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if message.len() > MAX_MESSAGE {
            message.truncate(MAX_MESSAGE);
            break;
        }
    }
    let message = String::from_utf8_lossy(&message).trim().to_owned();
    let subject = || Subject::new("", format!("pods/{}", asked.subresource), &*asked.name);
    match code {
        StatusCode::BAD_REQUEST => ApiError::BadRequest(message),
        StatusCode::NOT_FOUND => ApiError::NotFound(subject()),
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => ApiError::Forbidden {
            subject: subject(),
            message: format!("the node refused this server's certificate: {message}"),
        },
        code => ApiError::Internal(format!("the node answered {code}: {message}")),
    }
}

/// Headers that concern one connection, or the client's credentials.
pub(crate) fn is_private(name: &header::HeaderName) -> bool {
    let text = name.as_str();
    text.starts_with("impersonate-")
        || matches!(
            *name,
            header::AUTHORIZATION | header::HOST | header::COOKIE | header::PROXY_AUTHORIZATION
        )
}
