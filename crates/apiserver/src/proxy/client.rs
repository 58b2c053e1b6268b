//! One request to a node or pod over a connection of its own, upgraded if both sides agree.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use berth_api::status::ApiError;

use super::{
    LocalNode, NodeClientConfig,
    address::{self, Peer},
    identity::NodeVerifier,
    is_private,
    target::{self, Target},
    tunnels::Tunnels,
};
use crate::{
    audit::Connected,
    flow::Held,
    http_types::{self, Request, Response},
    storage::Storage,
    tls::{TlsError, identity, provider},
};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one side of an upgraded connection may go on when the other has ended.
const HALF_CLOSED: Duration = Duration::from_secs(10);

/// Reaches nodes with the server's client certificate, and pods without one.
#[derive(Clone)]
pub struct NodeClient {
    node: TlsConnector,
    anyone: TlsConnector,
    verifier: NodeVerifier,
    local_nodes: Arc<BTreeMap<String, LocalNode>>,
    tunnels: Tunnels,
}

impl NodeClient {
    pub(super) fn new(config: &NodeClientConfig) -> Result<Self, TlsError> {
        let (chain, key) = identity(&config.certificate, &config.key)?;
        let builder = || {
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
        };
        let any = || Arc::new(AnyCertificate(provider()));
        // a node's certificate is judged after the handshake, and before anything is sent
        let node = builder()?
            .dangerous()
            .with_custom_certificate_verifier(any())
            .with_client_auth_cert(chain, key)?;
        let anyone = builder()?
            .dangerous()
            .with_custom_certificate_verifier(any())
            .with_no_client_auth();
        Ok(Self {
            node: TlsConnector::from(Arc::new(node)),
            anyone: TlsConnector::from(Arc::new(anyone)),
            verifier: NodeVerifier::new(config.ca.as_deref(), config.issuer.as_deref())?,
            local_nodes: Arc::new(config.local_nodes.clone()),
            tunnels: Tunnels::default(),
        })
    }

    /// Sends the request on and answers with the response, its body streamed.
    pub(super) async fn send(
        &self,
        target: Target,
        request: Request,
        storage: &Storage,
    ) -> Result<Response, ApiError> {
        let place = format!("{}:{}", target.host, target.port);
        let path = &target.path_and_query;
        let stream = self.dial(&target, &place).await?;
        if !target.tls {
            return exchange(&self.tunnels, stream, &place, path, request).await;
        }
        let stream = self.secure(&target, &place, stream, storage).await?;
        exchange(&self.tunnels, stream, &place, path, request).await
    }

    /// What a node's own server answers to a GET; at most so many bytes of it. Who waits says for how long.
    ///
    /// # Errors
    /// `Internal` when the node cannot be reached, is not who it says, or answers anything but 200 with as much.
    pub(crate) async fn fetch(
        &self,
        node: &Value,
        path: &str,
        limit: usize,
        storage: &Storage,
    ) -> Result<Bytes, ApiError> {
        let target = target::kubelet(node, path.to_owned())?;
        let place = format!("{}:{}", target.host, target.port);
        let failed = |error: &dyn std::fmt::Display| {
            ApiError::Internal(format!("error dialing backend {place}: {error}"))
        };
        let stream = self.dial(&target, &place).await?;
        let stream = self.secure(&target, &place, stream, storage).await?;
        let request = http::Request::get(path)
            .header(header::HOST, &place)
            .body(Empty::<Bytes>::new())
            .map_err(|e| failed(&e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| failed(&e))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
            let code = response.status();
            if code != StatusCode::OK {
                return Err(failed(&format!("the node answered {code}")));
            }
            let body = Limited::new(response.into_body(), limit).collect().await;
            Ok(body.map_err(|e| failed(&e))?.to_bytes())
        };
        tokio::pin!(answer);
        // In this task: the connection ends when nobody waits any more.
        tokio::select! {
            answer = &mut answer => answer,
            ended = connection => {
                ended.map_err(|e| failed(&e))?;
                answer.await
            }
        }
    }

    async fn dial(&self, target: &Target, place: &str) -> Result<TcpStream, ApiError> {
        let addresses = self.resolve(target).await?;
        let stream = match timeout(CONNECT, TcpStream::connect(addresses.as_slice())).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(dialing(place, &error.to_string())),
            Err(_) => return Err(dialing(place, "no answer within 10 seconds")),
        };
        // best effort: without it only latency suffers
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// The TLS handshake; a node's server must be that of the node.
    async fn secure(
        &self,
        target: &Target,
        place: &str,
        stream: TcpStream,
        storage: &Storage,
    ) -> Result<TlsStream<TcpStream>, ApiError> {
        let failed = |what: &str| dialing(place, what);
        let name = server_name(&target.host).ok_or_else(|| failed("not a name for TLS"))?;
        let connector = match &target.peer {
            Peer::Kubelet(_) => &self.node,
            Peer::NodePort(_) | Peer::Pod(_) => &self.anyone,
        };
        let stream = match timeout(CONNECT, connector.connect(name.clone(), stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(&error.to_string())),
            Err(_) => return Err(failed("no TLS handshake within 10 seconds")),
        };
        if let Peer::Kubelet(node) = &target.peer {
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let issued = self.local_nodes.get(&node.name).is_some_and(|n| n.issued);
            self.verifier
                .check(chain, node, &name, issued, storage)
                .await
                .map_err(|error| failed(&error.to_string()))?;
        }
        Ok(stream)
    }

    /// Ends all connections to nodes and pods.
    pub(crate) async fn close(&self) {
        self.tunnels.end().await;
    }

    /// The addresses behind the target's host, if the peer may be at every one of them.
    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, ApiError> {
        let host = target.host.trim_matches(['[', ']']);
        let failed = |what: &str| {
            ApiError::Internal(format!("error dialing backend {}: {what}", target.host))
        };
        let found = match timeout(CONNECT, lookup_host((host, target.port))).await {
            Ok(Ok(found)) => found.collect::<Vec<_>>(),
            Ok(Err(error)) => return Err(failed(&error.to_string())),
            Err(_) => return Err(failed("the name was not resolved within 10 seconds")),
        };
        if found.is_empty() {
            return Err(failed("no addresses for hostname"));
        }
        let local = |name: &str| self.local_nodes.contains_key(name);
        for address in &found {
            let ip = address.ip();
            address::check(ip, &target.peer, local, address::is_own).map_err(|refusal| {
                ApiError::BadRequest(format!("address not allowed: {ip} is {refusal}"))
            })?;
        }
        Ok(found)
    }
}

fn dialing(place: &str, what: &str) -> ApiError {
    ApiError::Internal(format!("error dialing backend {place}: {what}"))
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => Some(ServerName::IpAddress(ip.into())),
        Err(_) => ServerName::try_from(host.to_owned()).ok(),
    }
}

/// Sends a request over a connection of its own, and joins it with the client's if both sides upgrade.
///
/// # Errors
/// `Internal` when the other side does not answer.
pub(crate) async fn exchange<S>(
    tunnels: &Tunnels,
    stream: S,
    place: &str,
    path_and_query: &str,
    mut request: Request,
) -> Result<Response, ApiError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: &dyn std::fmt::Display| {
        ApiError::Internal(format!("error dialing backend {place}: {error}"))
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed(&e))?;
    // ends with the exchange, or with the joined connection after an upgrade
    tunnels.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a node");
        }
    });
    // An upgraded connection goes on when its request is answered, and still has the place of it.
    let held: Option<Held> = request.extensions_mut().remove();
    let audited: Option<Connected> = request.extensions_mut().remove();
    let client = request
        .headers()
        .contains_key(header::UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let outgoing =
        outgoing(place, path_and_query, request, client.is_some()).map_err(|e| failed(&e))?;
    let mut response = sender
        .send_request(outgoing)
        .await
        .map_err(|e| failed(&e))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = client
    {
        let node = hyper::upgrade::on(&mut response);
        tunnels.spawn(async move {
            join(client, node).await;
            drop((held, audited));
        });
        let (parts, _) = response.into_parts();
        return Ok(http::Response::from_parts(parts, http_types::full("")));
    }
    let response = without_hops(response);
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// An answer without the headers that concern its connection alone.
pub(super) fn without_hops<B>(mut response: http::Response<B>) -> http::Response<B> {
    for hop in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        response.headers_mut().remove(hop);
    }
    response
}

/// The request as the other side gets it.
pub(super) fn outgoing(
    place: &str,
    path_and_query: &str,
    request: Request,
    upgrade: bool,
) -> Result<http::Request<hyper::body::Incoming>, http::Error> {
    let (parts, body) = request.into_parts();
    let mut outgoing = http::Request::builder()
        .method(parts.method)
        .uri(path_and_query);
    if let Some(headers) = outgoing.headers_mut() {
        for (name, value) in parts.headers.iter().filter(|(name, _)| !is_private(name)) {
            let hop = matches!(
                *name,
                header::CONNECTION | header::UPGRADE | header::TRANSFER_ENCODING | header::TE
            );
            if !hop || (upgrade && *name != header::TRANSFER_ENCODING) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers.insert(header::HOST, HeaderValue::from_str(place)?);
    }
    outgoing.body(body)
}

async fn join(client: hyper::upgrade::OnUpgrade, node: hyper::upgrade::OnUpgrade) {
    match tokio::try_join!(client, node) {
        Ok((client, node)) => {
            let (from_client, to_client) = split(TokioIo::new(client));
            let (from_node, to_node) = split(TokioIo::new(node));
            let up = pass(from_client, to_node);
            let down = pass(from_node, to_client);
            tokio::pin!(up, down);
            // A client that is gone is not noticed by a pod that never ends, and the other way round.
            let rest = tokio::select! {
                () = up.as_mut() => timeout(HALF_CLOSED, down).await,
                () = down.as_mut() => timeout(HALF_CLOSED, up).await,
            };
            if rest.is_err() {
                tracing::debug!("an upgraded connection ended on one side only, and was closed");
            }
        }
        Err(error) => tracing::debug!(%error, "an upgrade failed"),
    }
}

/// Passes on what comes until it ends, and the end.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let passed = copy(&mut from, &mut to).await;
    let ended = match passed {
        Ok(_) => to.shutdown().await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an upgraded connection ended");
    }
}

/// Takes any certificate, for who has said that nobody is to be verified.
pub(crate) fn any_certificate() -> Arc<dyn ServerCertVerifier> {
    Arc::new(AnyCertificate(provider()))
}

/// Takes any certificate whose key the other side has: [`NodeVerifier`] follows for nodes, and of pods nothing is known.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
