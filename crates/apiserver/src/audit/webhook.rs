//! The webhook that audit events are sent to: `EventList`s of audit.k8s.io/v1, by POST.
//!
//! A request that fails, for whatever reason, is sent again, a few times with growing pauses; then its events are counted as
//! lost and a line in the log says so. Redirects are not followed.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rand::RngExt;
use rustls::{ClientConfig as TlsClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use super::batch::Delegate;
use super::kubeconfig::{self, Authorization, KubeconfigError, Target};
use super::measures::Measures;
use crate::log_limit::LogLimit;
use crate::tls::provider;

/// How this is named in `apiserver_audit_error_total`.
pub(super) const PLUGIN: &str = "webhook";
/// For how long a request may go on.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is sent.
const TRIES: u32 = 5;
/// How the pauses between grow, and by how much each may be longer.
const FACTOR: f64 = 1.5;
const JITTER: f64 = 0.2;
/// Bytes of an answer that are read, so that the connection can be used again.
const MAX_ANSWER: usize = 64 << 10;
const MAX_TOKEN: usize = 64 << 10;
const IDLE: Duration = Duration::from_secs(90);

/// The webhook.
pub(super) struct Webhook {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    authorization: Authorization,
    initial_backoff: Duration,
    measures: Measures,
    failed: LogLimit,
}

impl Webhook {
    /// The webhook of a target; nothing is sent yet.
    ///
    /// # Errors
    /// When its certificates can't be used.
    pub(super) fn new(
        target: Target,
        initial_backoff: Duration,
        measures: Measures,
    ) -> Result<Self, KubeconfigError> {
        let tls = tls(&target)?;
        let mut builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http();
        if let Some(name) = target.server_name {
            let name = ServerName::try_from(name).map_err(|error| KubeconfigError::Field {
                field: "tls-server-name",
                why: error.to_string(),
            })?;
            builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(builder.enable_all_versions().build());
        Ok(Self {
            client,
            uri: target.uri,
            authorization: target.authorization,
            initial_backoff,
            measures,
            failed: LogLimit::default(),
        })
    }

    /// Sends events; false when they are lost.
    pub(super) async fn deliver(&self, lines: &[Bytes]) -> bool {
        let body = list(lines);
        let mut pause = self.initial_backoff;
        let mut tries = 1;
        loop {
            let why = match self.post(body.clone()).await {
                Ok(()) => return true,
                Err(why) => why,
            };
            if tries == TRIES {
                let events = u64::try_from(lines.len()).unwrap_or(u64::MAX);
                self.measures.lost(PLUGIN, events);
                if let Some(suppressed) = self.failed.pass() {
                    tracing::error!(
                        url = %self.uri,
                        error = why,
                        events,
                        suppressed,
                        "audit events were lost: the audit webhook does not take them"
                    );
                }
                return false;
            }
            tracing::debug!(url = %self.uri, error = why, "the audit webhook does not take events; they are sent again");
            tries += 1;
            let longer = 1.0 + JITTER * rand::rng().random_range(0.0..1.0);
            tokio::time::sleep(pause.mul_f64(longer)).await;
            pause = pause.mul_f64(FACTOR);
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), String> {
        let exchange = async {
            let mut request = Request::new(Full::new(body));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = self.uri.clone();
            let headers = request.headers_mut();
            for (name, value) in [
                (header::CONTENT_TYPE, "application/json"),
                (header::ACCEPT, "application/json, */*"),
                (header::USER_AGENT, "kube-apiserver-audit"),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
            }
            if let Some(value) = self.authorization().await? {
                headers.insert(header::AUTHORIZATION, value);
            }
            let response = self.client.request(request).await;
            let response = response.map_err(|error| with_sources(&error))?;
            let code = response.status();
            // Read so that the connection can be used again; what it says is of no interest.
            let _ = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await;
            if code.is_success() {
                Ok(())
            } else {
                Err(format!("the server answered {code}"))
            }
        };
        let exchanged = tokio::time::timeout(TIMEOUT, exchange).await;
        exchanged.unwrap_or_else(|_| Err(format!("no answer in {} s", TIMEOUT.as_secs())))
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, String> {
        match &self.authorization {
            Authorization::None => Ok(None),
            Authorization::Header(value) => Ok(Some(value.clone())),
            Authorization::TokenFile(path) => {
                let failed = |why: String| format!("tokenFile {}: {why}", path.display());
                let read = tokio::fs::read_to_string(path).await;
                let token = read.map_err(|error| failed(error.to_string()))?;
                let value = Some(token).filter(|token| token.len() <= MAX_TOKEN);
                let value = value.and_then(|token| kubeconfig::bearer(&token));
                let value = value.ok_or_else(|| failed("it has no token".to_owned()))?;
                Ok(Some(value))
            }
        }
    }
}

impl Delegate for Webhook {
    fn send(&self, lines: Vec<Bytes>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.deliver(&lines).await;
        })
    }

    fn is_parallel(&self) -> bool {
        true
    }
}

/// An error with what is behind it.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Events as a list.
fn list(lines: &[Bytes]) -> Bytes {
    let size: usize = lines.iter().map(Bytes::len).sum();
    let mut list = BytesMut::with_capacity(size + 128);
    list.put_slice(
        br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#,
    );
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            list.put_u8(b',');
        }
        list.put_slice(line.trim_ascii_end());
    }
    list.put_slice(b"]}");
    list.freeze()
}

fn tls(target: &Target) -> Result<TlsClientConfig, KubeconfigError> {
    let failed = |field: &'static str, why: String| KubeconfigError::Field { field, why };
    let mut roots = RootCertStore::empty();
    match &target.ca {
        Some(pem) => {
            let field = "certificate-authority";
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| failed(field, error.to_string()))?;
                let added = roots.add(certificate);
                added.map_err(|error| failed(field, error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(failed(field, "it has no certificate".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = TlsClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("server", error.to_string()))?
        .with_root_certificates(Arc::new(roots));
    let Some((certificate, key)) = &target.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|error| failed("client-certificate", error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| failed("client-key", error.to_string()))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| failed("client-certificate", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_a_list() {
        let lines = [
            Bytes::from_static(b"{\"a\":1}\n"),
            Bytes::from_static(b"{\"a\":2}\n"),
        ];
        let value: serde_json::Value = serde_json::from_slice(&list(&lines)).unwrap();
        assert_eq!(value["kind"], "EventList");
        assert_eq!(value["apiVersion"], "audit.k8s.io/v1");
        assert_eq!(value["items"], serde_json::json!([{"a": 1}, {"a": 2}]));
        let empty: serde_json::Value = serde_json::from_slice(&list(&[])).unwrap();
        assert_eq!(empty["items"], serde_json::json!([]));
    }
}
