//! The client of one webhook: verified TLS, pooled connections, deadlines and bounds.
//!
//! By URL, whatever address its host has is connected to, loopback included: only cluster administrators write
//! configurations, and the URL says so in so many words. By Service, the address is its endpoints', which others may write
//! ([`crate::proxy::service`]). HTTP/2 is spoken where it is offered by URL; to a Service HTTP/1.1 is spoken, as by the
//! stock server, so that requests are spread over its servers.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig as TlsClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tower::util::{BoxCloneSyncService, service_fn};

use super::failure::{self, CallError};
use super::places::{MAX_ANSWER, Places, SMALL_ANSWER};
use super::trust;
use crate::proxy::service::{self, Port};
use crate::storage::Storage;
use crate::tls::provider;

/// Idle connections that are kept.
const IDLE_CONNECTIONS: usize = 8;
/// After which an idle connection is closed.
const IDLE: Duration = Duration::from_secs(30);
const USER_AGENT: &str = "kube-apiserver-admission";

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// At a URL with scheme `https`.
    Url(String),
    /// Behind a Service.
    Service {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Path of the requests, with a slash before it; may be empty.
        path: String,
        /// Port of the Service.
        port: u16,
    },
}

/// How a webhook is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientConfig {
    /// Where it is.
    pub(crate) place: Whereabouts,
    /// The CAs of its certificate, PEM; those of the system when there are none.
    pub(crate) ca_bundle: Vec<u8>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connector = HttpsConnector<BoxCloneSyncService<Uri, TokioIo<TcpStream>, BoxError>>;

/// The client of one webhook.
pub(crate) struct HookClient {
    made: Result<Made, String>,
    places: Places,
}

struct Made {
    uri: Uri,
    client: Client<Connector, Full<Bytes>>,
}

impl HookClient {
    /// A client; one that cannot be made fails each call with the reason.
    pub(crate) fn new(config: &ClientConfig, storage: &Arc<Storage>) -> Self {
        Self {
            made: make(config, storage),
            places: Places::default(),
        }
    }

    /// Posts JSON and gives back what was answered with 200. `timeout` is for all of it; `traceparent` is the span that the
    /// webhook may go on with.
    ///
    /// # Errors
    /// When there is no such answer in time.
    pub(crate) async fn post(
        &self,
        body: Bytes,
        timeout: Duration,
        traceparent: Option<HeaderValue>,
    ) -> Result<Bytes, CallError> {
        let made = self
            .made
            .as_ref()
            .map_err(|why| CallError::Client(why.clone()))?;
        let _place = self.places.take(body.len()).ok_or(CallError::Busy)?;
        let uri = with_timeout(&made.uri, failure::seconds(timeout));
        let url = uri.to_string();
        let failed = |why: String| CallError::Send {
            url: url.clone(),
            why,
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        for (name, value) in [
            (header::CONTENT_TYPE, "application/json"),
            (header::ACCEPT, "application/json, */*"),
            (header::USER_AGENT, USER_AGENT),
        ] {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        if let Some(span) = traceparent {
            request
                .headers_mut()
                .insert(HeaderName::from_static("traceparent"), span);
        }
        let exchange = async {
            let response = made
                .client
                .request(request)
                .await
                .map_err(|error| failed(failure::transport(&error)))?;
            let code = response.status();
            let body = self.read(response.into_body()).await.map_err(&failed)?;
            if code == StatusCode::OK {
                Ok(body)
            } else {
                Err(failure::of_code(code, &body))
            }
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(failed(failure::deadline())))
    }

    async fn read(&self, mut body: Incoming) -> Result<Bytes, String> {
        let mut large = None;
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| failure::transport(&error))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if read.len() + data.len() > MAX_ANSWER {
                return Err(format!("the answer has more than {MAX_ANSWER} bytes"));
            }
            if read.len() + data.len() > SMALL_ANSWER && large.is_none() {
                large = self.places.large_answer().await;
            }
            read.extend_from_slice(&data);
        }
        Ok(read.freeze())
    }
}

fn with_timeout(uri: &Uri, seconds: u64) -> Uri {
    let mut parts = uri.clone().into_parts();
    let path = format!("{}?timeout={seconds}s", uri.path());
    parts.path_and_query = path.parse().ok();
    // What was a URI before is one with another query.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

fn make(config: &ClientConfig, storage: &Arc<Storage>) -> Result<Made, String> {
    let tls = TlsClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(trust::of_bundle(&config.ca_bundle)?)
        .with_no_client_auth();
    let builder = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only();
    let (uri, connector) = match &config.place {
        Whereabouts::Url(url) => {
            let uri: Uri = url.parse().map_err(|e| format!("{url:?}: {e}"))?;
            let tcp = BoxCloneSyncService::new(service_fn(|uri: Uri| -> BoxFuture<'static, _> {
                Box::pin(by_name(uri))
            }));
            (uri, builder.enable_all_versions().wrap_connector(tcp))
        }
        Whereabouts::Service {
            namespace,
            name,
            path,
            port,
        } => {
            let host = service::server_name(namespace, name);
            let path = if path.is_empty() { "/" } else { path };
            let uri = format!("https://{host}:{port}{path}");
            let uri: Uri = uri.parse().map_err(|e| format!("{uri:?}: {e}"))?;
            let server = ServerName::try_from(host).map_err(|e| e.to_string())?;
            let (storage, namespace) = (Arc::clone(storage), namespace.clone());
            let (name, port) = (name.clone(), *port);
            let tcp =
                BoxCloneSyncService::new(service_fn(move |_: Uri| -> BoxFuture<'static, _> {
                    let (storage, namespace) = (Arc::clone(&storage), namespace.clone());
                    let name = name.clone();
                    Box::pin(async move {
                        let port = Port::Number(port);
                        let backend = service::resolve(&storage, &namespace, &name, port)?;
                        let stream = backend.connect(&storage).await?;
                        Ok::<_, BoxError>(TokioIo::new(stream))
                    })
                }));
            let builder = builder.with_server_name_resolver(FixedServerNameResolver::new(server));
            (uri, builder.enable_http1().wrap_connector(tcp))
        }
    };
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http1_max_headers(100)
        .build(connector);
    Ok(Made { uri, client })
}

/// A connection to the host of a URL.
async fn by_name(uri: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(443);
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| format!("dial tcp {host}:{port}: {error}"))?;
    // best effort: without it only latency suffers
    let _ = stream.set_nodelay(true);
    Ok(TokioIo::new(stream))
}
