//! One group and version of another server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use berth_api::status::ApiError;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{FrontProxyConfig, Swagger};
use crate::http_types::{Request, Response};
use crate::proxy::service::{self, Port};
use crate::proxy::{self, Pool, Tunnels};
use crate::storage::Storage;
use crate::tls::{TlsError, identity, provider};
use crate::user::User;
use crate::webhook;

/// How long a connection may take to come about, and the check whether a server is there.
const CONNECT: Duration = Duration::from_secs(5);
/// Requests that one server works on at a time.
const PLACES: usize = 200;
/// Most bytes of a server's list of resources, and of its index of OpenAPI documents.
const MAX_RESOURCES: usize = 1 << 20;
/// Most bytes of its OpenAPI document.
const MAX_DOCUMENT: usize = 4 << 20;
/// Characters of a header's name that stay as they are.
const HEADER_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// What this server shows of itself to others.
#[derive(Clone)]
pub(crate) struct Front {
    identity: Option<Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>>,
    tunnels: Tunnels,
}

impl Front {
    pub(super) fn new(config: Option<&FrontProxyConfig>) -> Result<Self, TlsError> {
        let own = config.map(|config| identity(&config.certificate, &config.key));
        Ok(Self {
            identity: own.transpose()?.map(Arc::new),
            tunnels: Tunnels::default(),
        })
    }

    pub(super) async fn close(&self) {
        self.tunnels.end().await;
    }
}

/// The OpenAPI 3 document of a group and version.
pub(crate) struct Document {
    /// Of its bytes.
    pub(crate) hash: String,
    pub(crate) bytes: Bytes,
    /// Where it was; the address changes with the content.
    url: String,
}

/// A group and version that another server serves.
pub(crate) struct Remote {
    pub(crate) group: String,
    pub(crate) version: String,
    /// What it was made from.
    pub(super) spec: APIServiceSpec,
    pub(crate) group_priority: i32,
    pub(crate) version_priority: i32,
    front: Front,
    connector: Result<TlsConnector, String>,
    available: AtomicBool,
    /// Its APIResourceList, as it was last seen.
    resources: ArcSwapOption<Value>,
    document: ArcSwapOption<Document>,
    swagger: ArcSwapOption<Swagger>,
    places: Arc<Semaphore>,
    pool: Pool,
}

impl Remote {
    /// None for an APIService without a Service.
    pub(super) fn new(service: &APIService, front: &Front) -> Option<Self> {
        let spec = service.spec.clone()?;
        spec.service.as_ref()?;
        Some(Self {
            group: spec.group.clone().unwrap_or_default(),
            version: spec.version.clone().unwrap_or_default(),
            group_priority: spec.group_priority_minimum,
            version_priority: spec.version_priority,
            connector: connector(&spec, front),
            front: front.clone(),
            spec,
            available: AtomicBool::new(false),
            resources: ArcSwapOption::empty(),
            document: ArcSwapOption::empty(),
            swagger: ArcSwapOption::empty(),
            places: Arc::new(Semaphore::new(PLACES)),
            pool: Pool::default(),
        })
    }

    /// Whether it was there when it was last looked at.
    pub(crate) fn is_available(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }

    /// Its APIResourceList, as it was last seen.
    pub(crate) fn resources(&self) -> Option<Arc<Value>> {
        self.resources.load_full()
    }

    /// Its OpenAPI 3 document, as it was last seen; none when it has none.
    pub(crate) fn document(&self) -> Option<Arc<Document>> {
        self.document.load_full()
    }

    /// What it says in Swagger 2, as it was last seen; none when it says nothing.
    pub(crate) fn swagger(&self) -> Option<Arc<Swagger>> {
        self.swagger.load_full()
    }

    fn service(&self) -> (&str, &str, u16) {
        let service = self.spec.service.as_ref();
        let namespace = service.and_then(|s| s.namespace.as_deref());
        let name = service.and_then(|s| s.name.as_deref());
        let port = service
            .and_then(|s| s.port)
            .and_then(|port| u16::try_from(port).ok());
        (
            namespace.unwrap_or_default(),
            name.unwrap_or_default(),
            port.unwrap_or(443),
        )
    }

    async fn connect(&self, storage: &Storage) -> Result<TlsStream<TcpStream>, String> {
        let connector = self.connector.as_ref().map_err(Clone::clone)?;
        let (namespace, name, port) = self.service();
        let host = service::server_name(namespace, name);
        let server = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let connecting = async {
            let backend = service::resolve(storage, namespace, name, Port::Number(port))
                .map_err(|error| error.to_string())?;
            let stream = backend.connect(storage).await;
            let stream = stream.map_err(|error| error.to_string())?;
            let connected = connector.connect(server, stream).await;
            connected.map_err(|error| webhook::describe(&error))
        };
        tokio::time::timeout(CONNECT, connecting)
            .await
            .unwrap_or_else(|_| Err("no connection within 5 seconds".to_owned()))
    }

    /// Passes a request of an authorized user on, upgrades included.
    ///
    /// # Errors
    /// `ServiceUnavailable` when the server is not there, `TooManyRequests` when it works on too many.
    pub(crate) async fn send(
        &self,
        storage: &Storage,
        user: &User,
        mut request: Request,
    ) -> Result<Response, ApiError> {
        if !self.is_available() {
            return Err(ApiError::ServiceUnavailable(
                "service unavailable".to_owned(),
            ));
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| ApiError::TooManyRequests {
            message: format!(
                "too many requests to the server of {}, please try again later",
                super::shown(self)
            ),
            retry_after_seconds: 1,
        })?;
        introduce(request.headers_mut(), user);
        let connect = || async {
            self.connect(storage).await.map_err(|why| {
                ApiError::ServiceUnavailable(format!("error trying to reach service: {why}"))
            })
        };
        let (namespace, name, port) = self.service();
        let place_name = format!("{}:{port}", service::server_name(namespace, name));
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        let path = path.to_owned();
        let tunnels = &self.front.tunnels;
        let response = if request.headers().contains_key(header::UPGRADE) {
            proxy::exchange(tunnels, connect().await?, &place_name, &path, request).await?
        } else {
            let pool = &self.pool;
            pool.exchange(tunnels, connect, &place_name, &path, request)
                .await?
        };
        if response.status().is_redirection() && response.status() != StatusCode::NOT_MODIFIED {
            return Err(ApiError::ServiceUnavailable(
                "the backend attempted to redirect this request, which is not permitted".to_owned(),
            ));
        }
        Ok(response.map(|body| {
            body.map_frame(move |frame| {
                // Taken until the answer has been.
                let _ = &place;
                frame
            })
            .boxed_unsync()
        }))
    }

    /// Whether the server is there, and what it serves.
    ///
    /// # Errors
    /// What is wrong, in the words of the stock condition.
    pub(super) async fn check(&self, storage: &Storage) -> Result<(), String> {
        let path = format!("/apis/{}/{}", self.group, self.version);
        let asking = async {
            let bytes = self.ask(storage, &path, MAX_RESOURCES).await?;
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())
        };
        let checked: Result<Result<Value, String>, _> = tokio::time::timeout(CONNECT, asking).await;
        let (namespace, name, port) = self.service();
        let url = format!(
            "https://{}:{port}{path}",
            service::server_name(namespace, name)
        );
        let result = match checked {
            Ok(Ok(resources)) => {
                self.resources.store(Some(Arc::new(resources)));
                Ok(())
            }
            Ok(Err(why)) => Err(format!("failing or missing response from {url}: {why}")),
            Err(_) => Err(format!("timed out waiting for {url}")),
        };
        self.available.store(result.is_ok(), Ordering::Relaxed);
        if result.is_ok() {
            // A server without documents serves all the same.
            let learning = async { (self.learn(storage).await, self.learn_swagger(storage).await) };
            let learned = tokio::time::timeout(CONNECT, learning).await;
            if !matches!(learned, Ok((Ok(()), Ok(())))) {
                tracing::debug!(
                    group = self.group,
                    version = self.version,
                    ?learned,
                    "no OpenAPI document of another server"
                );
            }
        }
        result
    }

    /// Reads its OpenAPI document if it is another than before.
    async fn learn(&self, storage: &Storage) -> Result<(), String> {
        let index = self.ask(storage, "/openapi/v3", MAX_RESOURCES).await;
        let index = index.inspect_err(|_| self.document.store(None))?;
        let index: Value = serde_json::from_slice(&index).map_err(|error| error.to_string())?;
        let key = format!("apis/{}/{}", self.group, self.version);
        let url = index["paths"][key]["serverRelativeURL"].as_str();
        let Some(url) = url.filter(|url| url.starts_with("/openapi/v3/")) else {
            self.document.store(None);
            return Ok(());
        };
        if self
            .document
            .load()
            .as_ref()
            .is_some_and(|known| known.url == url)
        {
            return Ok(());
        }
        let bytes = self.ask(storage, url, MAX_DOCUMENT).await?;
        // What a client couldn't read is not passed on.
        let document: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if !document["openapi"].is_string() {
            return Err("it is no OpenAPI document".to_owned());
        }
        self.document.store(Some(Arc::new(Document {
            hash: hex::encode_upper(Sha256::digest(&bytes)),
            bytes,
            url: url.to_owned(),
        })));
        Ok(())
    }

    /// Reads its Swagger 2 document if it is another than before.
    async fn learn_swagger(&self, storage: &Storage) -> Result<(), String> {
        let known = self.swagger.load_full();
        let tag = known.as_ref().map(|known| known.hash.as_str());
        let answer = self
            .ask_for(storage, "/openapi/v2", MAX_DOCUMENT, tag)
            .await;
        let Some((tag, bytes)) = answer.inspect_err(|_| self.swagger.store(None))? else {
            return Ok(());
        };
        let tag = tag.unwrap_or_else(|| hex::encode_upper(Sha256::digest(&bytes)));
        if known.is_some_and(|known| known.hash == tag) {
            return Ok(());
        }
        let (group, version) = (self.group.clone(), self.version.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let document: Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
            let read = Swagger::parse(&document, &group, &version, &tag);
            read.ok_or_else(|| "it is no Swagger document".to_owned())
        });
        let read = reading.await.map_err(|error| error.to_string())?;
        let read = read.inspect_err(|_| self.swagger.store(None))?;
        self.swagger.store(Some(Arc::new(read)));
        Ok(())
    }

    /// Nothing answers there.
    pub(super) fn lose(&self) {
        self.available.store(false, Ordering::Relaxed);
    }

    /// What it answers to a GET, within so many bytes.
    async fn ask(&self, storage: &Storage, path: &str, limit: usize) -> Result<Bytes, String> {
        let answer = self.ask_for(storage, path, limit, None).await?;
        answer
            .map(|(_, bytes)| bytes)
            .ok_or_else(|| "bad status: 304 Not Modified".to_owned())
    }

    /// The same with its tag; none when it is what the tag at hand is of.
    async fn ask_for(
        &self,
        storage: &Storage,
        path: &str,
        limit: usize,
        known: Option<&str>,
    ) -> Result<Option<(Option<String>, Bytes)>, String> {
        let stream = self.connect(storage).await?;
        let shown = |error: &dyn std::fmt::Display| error.to_string();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| shown(&error))?;
        let (namespace, name, port) = self.service();
        let host = format!("{}:{port}", service::server_name(namespace, name));
        let mut request = http::Request::builder()
            .uri(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|error| shown(&error))?;
        let checker = User {
            name: "system:kube-aggregator".to_owned(),
            groups: vec!["system:masters".to_owned()],
            ..User::default()
        };
        introduce(request.headers_mut(), &checker);
        if let Some(tag) = known.and_then(|tag| HeaderValue::from_str(tag).ok()) {
            request.headers_mut().insert(header::IF_NONE_MATCH, tag);
        }
        let exchange = async {
            let response = sender.send_request(request).await;
            let response = response.map_err(|error| shown(&error))?;
            let code = response.status();
            if code == StatusCode::NOT_MODIFIED && known.is_some() {
                return Ok(None);
            }
            if !code.is_success() {
                return Err(format!("bad status: {code}"));
            }
            let tag = response.headers().get(header::ETAG);
            let tag = tag.and_then(|tag| tag.to_str().ok()).map(str::to_owned);
            let body = Limited::new(response.into_body(), limit).collect().await;
            let body = body.map_err(|error| error.to_string())?;
            Ok(Some((tag, body.to_bytes())))
        };
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = connection => {
                ended.map_err(|error| shown(&error))?;
                exchange.await
            }
        }
    }
}

fn connector(spec: &APIServiceSpec, front: &Front) -> Result<TlsConnector, String> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if spec.insecure_skip_tls_verify == Some(true) {
        builder
            .dangerous()
            .with_custom_certificate_verifier(proxy::any_certificate())
    } else {
        let bundle = spec.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice());
        builder
            .dangerous()
            .with_custom_certificate_verifier(webhook::trust::of_bundle(
                bundle.unwrap_or_default(),
            )?)
    };
    let config = match &front.identity {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(own.0.clone(), own.1.clone_key())
            .map_err(|error| error.to_string())?,
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Says who asks. What the client has said of that is nobody's word.
fn introduce(headers: &mut HeaderMap, user: &User) {
    let claimed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-remote-"))
        .cloned()
        .collect();
    for name in claimed {
        headers.remove(name);
    }
    let mut add = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes());
        // A name that no header can have belongs to nobody: what can't be said is left out.
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    let extra: &BTreeMap<String, Vec<String>> = &user.extra;
    for (key, values) in extra {
        let key = utf8_percent_encode(key, HEADER_NAME);
        for value in values {
            add(&format!("x-remote-extra-{key}"), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_says_himself_who_he_is() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-remote-user",
            "x-remote-group",
            "x-remote-extra-a",
            "x-remote-uid",
        ] {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static("system:masters"),
            );
        }
        let user = User {
            name: "jane".to_owned(),
            groups: vec!["a".to_owned(), "b".to_owned()],
            extra: BTreeMap::from([("example.com/key".to_owned(), vec!["v".to_owned()])]),
            ..User::default()
        };
        introduce(&mut headers, &user);
        let all = |name: &str| -> Vec<&str> {
            headers
                .get_all(name)
                .iter()
                .map(|v| v.to_str().unwrap())
                .collect()
        };
        assert_eq!(all("x-remote-user"), ["jane"]);
        assert_eq!(all("x-remote-group"), ["a", "b"]);
        assert_eq!(all("x-remote-extra-example.com%2fkey"), ["v"]);
        assert!(all("x-remote-uid").is_empty() && all("x-remote-extra-a").is_empty());
    }
}
