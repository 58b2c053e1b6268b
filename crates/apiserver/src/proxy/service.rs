//! A Service by reference: under which name its server must be known, and at which addresses it can be reached.
//!
//! Whoever may write in the Service's namespace decides what its endpoints are, and the server's own requests (to
//! webhooks, to the servers of APIServices, `services/proxy`) go there. So an endpoint is judged like the pod of a
//! `pods/proxy` ([`address`]): neither loopback nor link-local nor the server's own machine, and a node's address only as
//! that of a pod with its network that declares the port. The addresses are literal; no name service is asked.

mod pods;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use rand::seq::SliceRandom;
use serde_json::Value;
use tokio::net::TcpStream;

use super::address::{self, Peer, PodNetwork, canonical};
use super::target::{addresses, has_host_port};
use crate::storage::{Storage, Stored, Unreadable};

const SERVICES: &str = "core/services";
const SLICES: &str = "discovery.k8s.io/endpointslices";
const ENDPOINTS: &str = "core/endpoints";
const PODS: &str = "core/pods";
const NODES: &str = "core/nodes";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Endpoints that are tried before a connection is given up.
const TRIES: usize = 4;
/// Endpoints of a Service that are looked at.
const MAX_ENDPOINTS: usize = 1000;

/// Why a Service cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    /// There is none.
    #[error("service {0:?} not found")]
    NotFound(String),
    /// It has no such port.
    #[error("no service port {port} found for service {service:?}")]
    NoPort {
        /// The Service.
        service: String,
        /// The port that was asked for.
        port: String,
    },
    /// It stands for a name of somebody else's.
    #[error("unsupported service type {0:?}")]
    Type(String),
    /// Nothing that is ready stands behind it.
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
    /// An endpoint that the server sends nothing to.
    #[error("address not allowed: {ip} is {refusal}")]
    Refused {
        /// Its address.
        ip: IpAddr,
        /// What is wrong with it.
        refusal: address::Refusal,
    },
    /// An endpoint that does not answer.
    #[error("dial tcp {address}: {source}")]
    Dial {
        /// Its address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// What belongs to it cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// A port of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port<'a> {
    /// By number.
    Number(u16),
    /// By name.
    Name(&'a str),
}

impl std::fmt::Display for Port<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// Where the requests to a Service go.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    service: String,
    endpoints: Vec<Endpoint>,
}

/// One server of a Service.
#[derive(Clone, Debug)]
struct Endpoint {
    address: SocketAddr,
    /// Namespace and name of the pod that it says it is.
    pod: Option<(String, String)>,
}

/// The name that the certificate of a Service's servers must have.
pub(crate) fn server_name(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.svc")
}

/// The servers of a Service that are ready.
///
/// # Errors
/// When there is no such Service or port, or nothing behind it.
pub(crate) fn resolve(
    storage: &Storage,
    namespace: &str,
    name: &str,
    port: Port<'_>,
) -> Result<Backend, ServiceError> {
    let service: Service = storage
        .read(SERVICES, namespace, name)?
        .ok_or_else(|| ServiceError::NotFound(name.to_owned()))?;
    let spec = service.spec.unwrap_or_default();
    match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        other => return Err(ServiceError::Type(other.to_owned())),
    }
    let ports = spec.ports.unwrap_or_default();
    let wanted = ports.iter().find(|p| match port {
        Port::Number(number) => p.port == i32::from(number),
        Port::Name(name) => p.name.as_deref().unwrap_or_default() == name,
    });
    let wanted = wanted.ok_or_else(|| ServiceError::NoPort {
        service: name.to_owned(),
        port: port.to_string(),
    })?;
    let mut endpoints = of_slices(storage, namespace, name, wanted)?;
    if endpoints.is_none() {
        endpoints = of_endpoints(storage, namespace, name, wanted)?;
    }
    if endpoints.is_none() {
        endpoints = Some(pods::selected(storage, namespace, spec.selector, wanted)?);
    }
    let endpoints = endpoints.unwrap_or_default();
    if endpoints.is_empty() {
        return Err(ServiceError::NoEndpoints(name.to_owned()));
    }
    Ok(Backend {
        service: name.to_owned(),
        endpoints,
    })
}

/// Those of the EndpointSlices; none when the Service has no slices.
fn of_slices(
    storage: &Storage,
    namespace: &str,
    service: &str,
    port: &ServicePort,
) -> Result<Option<Vec<Endpoint>>, ServiceError> {
    let all = storage.list(SLICES, Some(namespace));
    let own = |slice: &&Arc<Stored>| slice.label(SERVICE_NAME) == Some(service);
    let mut found = None;
    for slice in all.iter().filter(own) {
        let slice: EndpointSlice = slice.decode()?;
        let found = found.get_or_insert_with(Vec::new);
        let ports = slice.ports.iter().flatten();
        let Some(number) = ports
            .filter(|p| is_tcp(p.protocol.as_deref()) && is_port(port, p.name.as_deref()))
            .find_map(|p| u16::try_from(p.port?).ok())
        else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.as_ref();
            if conditions.and_then(|c| c.ready) == Some(false) {
                continue;
            }
            let pod = endpoint.target_ref.as_ref().and_then(|target| {
                let is_pod = target.kind.as_deref() == Some("Pod");
                Some((namespace.to_owned(), target.name.clone()?)).filter(|_| is_pod)
            });
            push(found, endpoint.addresses.first(), number, pod);
        }
    }
    Ok(found)
}

/// Those of the Endpoints object.
fn of_endpoints(
    storage: &Storage,
    namespace: &str,
    service: &str,
    port: &ServicePort,
) -> Result<Option<Vec<Endpoint>>, ServiceError> {
    let endpoints: Option<Endpoints> = storage.read(ENDPOINTS, namespace, service)?;
    let Some(endpoints) = endpoints else {
        return Ok(None);
    };
    let mut found = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = subset.ports.iter().flatten();
        let Some(number) = ports
            .filter(|p| is_tcp(p.protocol.as_deref()) && is_port(port, p.name.as_deref()))
            .find_map(|p| u16::try_from(p.port).ok())
        else {
            continue;
        };
        for endpoint in subset.addresses.iter().flatten() {
            let pod = endpoint.target_ref.as_ref().and_then(|target| {
                let is_pod = target.kind.as_deref() == Some("Pod");
                Some((namespace.to_owned(), target.name.clone()?)).filter(|_| is_pod)
            });
            push(&mut found, Some(&endpoint.ip), number, pod);
        }
    }
    Ok(Some(found))
}

fn is_tcp(protocol: Option<&str>) -> bool {
    matches!(protocol, None | Some("" | "TCP"))
}

fn is_port(port: &ServicePort, name: Option<&str>) -> bool {
    port.name.as_deref().unwrap_or_default() == name.unwrap_or_default()
}

/// Adds an endpoint; what is no IP address is none.
fn push(
    found: &mut Vec<Endpoint>,
    address: Option<&String>,
    port: u16,
    pod: Option<(String, String)>,
) {
    let ip = address.and_then(|address| address.parse::<IpAddr>().ok());
    if let Some(ip) = ip.filter(|_| port != 0 && found.len() < MAX_ENDPOINTS) {
        let address = SocketAddr::new(canonical(ip), port);
        found.push(Endpoint { address, pod });
    }
}

impl Backend {
    /// A connection to one of the servers, drawn by lot; another one is tried when it does not answer.
    ///
    /// # Errors
    /// That of the last one that was tried.
    pub(crate) async fn connect(&self, storage: &Storage) -> Result<TcpStream, ServiceError> {
        let mut order: Vec<&Endpoint> = self.endpoints.iter().collect();
        order.shuffle(&mut rand::rng());
        let mut last = ServiceError::NoEndpoints(self.service.clone());
        for endpoint in order.into_iter().take(TRIES) {
            match endpoint.connect(storage).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// An address of one of the servers that may be connected to, drawn by lot, for who connects by other means.
    ///
    /// # Errors
    /// When none of those that were looked at may be.
    #[allow(dead_code, reason = "for who connects by other means")]
    pub(crate) fn address(&self, storage: &Storage) -> Result<SocketAddr, ServiceError> {
        let mut order: Vec<&Endpoint> = self.endpoints.iter().collect();
        order.shuffle(&mut rand::rng());
        let mut last = ServiceError::NoEndpoints(self.service.clone());
        for endpoint in order.into_iter().take(TRIES) {
            match endpoint.check(storage) {
                Ok(()) => return Ok(endpoint.address),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Endpoint {
    async fn connect(&self, storage: &Storage) -> Result<TcpStream, ServiceError> {
        self.check(storage)?;
        let address = self.address;
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| ServiceError::Dial { address, source })?;
        // best effort: without it only latency suffers
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// Whether the server sends anything there.
    fn check(&self, storage: &Storage) -> Result<(), ServiceError> {
        let nodes = storage.list(NODES, None);
        let mut network = PodNetwork::default();
        let pod: Option<Value> = match &self.pod {
            Some((namespace, name)) => storage.read(PODS, namespace, name)?,
            None => None,
        };
        let host = pod
            .as_ref()
            .filter(|pod| has_host_port(pod, self.address.port()))
            .and_then(|pod| pod.pointer("/spec/nodeName")?.as_str());
        for node in &nodes {
            // Whoever cannot be read has addresses that nobody knows.
            let value = node.value()?;
            let own: BTreeSet<IpAddr> = addresses(&value).collect();
            if host == Some(&*node.name) {
                network.host.extend(&own);
            }
            network.nodes.extend(own);
        }
        let ip = self.address.ip();
        address::check(ip, &Peer::Pod(network), |_| false, address::is_own)
            .map_err(|refusal| ServiceError::Refused { ip, refusal })
    }
}
