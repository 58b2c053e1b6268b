//! HTTP GET against a container, for probes and hooks.

use std::sync::Arc;
use std::time::Duration;

use berth_supervise::Chain;
use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;

const BODY_LIMIT: usize = 10 << 10;

/// A port by number or by the name that the container gives it.
pub(crate) fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(name) => name.parse().ok().or_else(|| {
            container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_deref() == Some(name))
                .map(|p| p.container_port)
        }),
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| {
            format!(
                "couldn't resolve port {} of container {}",
                match port {
                    IntOrString::Int(n) => n.to_string(),
                    IntOrString::String(name) => name.clone(),
                },
                container.name
            )
        })
}

/// Sends the request; Ok is the body's beginning of an answer from 200 to 399.
pub(crate) async fn get(
    container: &Container,
    action: &HTTPGetAction,
    pod_ip: Option<&str>,
    limit: Duration,
    probe: bool,
) -> Result<String, String> {
    let port = port(container, &action.port)?;
    let host = action
        .host
        .as_deref()
        .filter(|h| !h.is_empty())
        .or(pod_ip)
        .ok_or("the pod has no address")?;
    let tls = action.scheme.as_deref() == Some("HTTPS");
    let path = match action.path.as_deref() {
        None | Some("") => "/".to_owned(),
        Some(p) if p.starts_with('/') => p.to_owned(),
        Some(p) => format!("/{p}"),
    };
    let shown = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://{shown}{path}");
    let work = send(action, host, port, tls, &shown, &path, probe);
    match tokio::time::timeout(limit, work).await {
        Err(_) => Err(format!(
            "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
        Ok(Err(e)) => Err(format!("Get \"{url}\": {e}")),
        Ok(Ok((status, body))) if (200..400).contains(&status) => Ok(body),
        Ok(Ok((status, _))) => Err(format!("HTTP probe failed with statuscode: {status}")),
    }
}

async fn send(
    action: &HTTPGetAction,
    host: &str,
    port: u16,
    tls: bool,
    shown: &str,
    path: &str,
    probe: bool,
) -> Result<(u16, String), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let mut request = Request::get(path)
        .body(Empty::<Bytes>::new())
        .map_err(|e| text(&e))?;
    let headers = request.headers_mut();
    if let Ok(value) = HeaderValue::from_str(shown) {
        headers.insert(HOST, value);
    }
    let agent = if probe {
        "kube-probe/1.36"
    } else {
        "kube-lifecycle/1.36"
    };
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for h in action.http_headers.iter().flatten() {
        let name = HeaderName::from_bytes(h.name.as_bytes()).map_err(|e| text(&e))?;
        let value = HeaderValue::from_str(&h.value).map_err(|e| text(&e))?;
        headers.insert(name, value);
    }
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|e| format!("dial tcp {shown}: {e}"))?;
    if tls {
        let connector = tokio_rustls::TlsConnector::from(trusting().map_err(|e| text(&e))?);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| text(&e))?;
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|e| text(&e))?;
        exchange(TokioIo::new(stream), request).await
    } else {
        exchange(TokioIo::new(stream), request).await
    }
}

async fn exchange<T>(io: T, request: Request<Empty<Bytes>>) -> Result<(u16, String), String>
where
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .map_err(|e| e.to_string())?;
    let exchange = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|e| Chain(&e).to_string())?;
        let status = answer.status().as_u16();
        Ok((status, beginning(answer.into_body()).await))
    };
    // The connection is driven here, so that it ends with the probe.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        result = &mut exchange => result,
        _ = connection => exchange.await,
    }
}

/// The body's first 10 KiB; what comes after them, or breaks off, is not asked for.
async fn beginning(mut body: hyper::body::Incoming) -> String {
    let mut data = Vec::new();
    while data.len() < BODY_LIMIT
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Some(chunk) = frame.data_ref() {
            let left = BODY_LIMIT - data.len();
            data.extend_from_slice(&chunk[..chunk.len().min(left)]);
        }
    }
    String::from_utf8_lossy(&data).into_owned()
}

/// Probes do not check certificates (the documents say so): they ask whether the server answers.
fn trusting() -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
