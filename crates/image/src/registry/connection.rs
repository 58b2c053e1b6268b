//! One host: its HTTP client, its credentials, its answers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Certificate, Client, Identity, Method, RequestBuilder, Response, StatusCode};
use url::Url;

use super::auth::{self, Challenge, Token};
use super::failure::{self, Attempt, Next};
use super::hosts::{Endpoint, Tls};
use crate::error::ImageError;
use crate::reference::Reference;
use crate::types::Auth;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Without a byte for so long, an answer has broken off.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const TOKEN_MAX: u64 = 1 << 20;

pub(super) struct Connection {
    endpoint: Endpoint,
    host: String,
    reference: Reference,
    auth: Option<Auth>,
    client: Client,
    /// The `Authorization` that the host accepted last.
    granted: Mutex<Option<HeaderValue>>,
}

impl Connection {
    pub(super) fn new(
        endpoint: Endpoint,
        reference: &Reference,
        auth: Option<Auth>,
    ) -> Result<Self, ImageError> {
        let host = endpoint.host();
        let auth = auth.filter(|auth| auth::is_for(auth, reference.registry(), &host));
        let granted = auth.as_ref().filter(|auth| !auth.registry_token.is_empty());
        let granted = granted.and_then(|auth| {
            HeaderValue::from_str(&format!("Bearer {}", auth.registry_token)).ok()
        });
        Ok(Self {
            client: client(&endpoint)?,
            host,
            reference: reference.clone(),
            auth,
            granted: Mutex::new(granted),
            endpoint,
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Asks for `/v2/<repository>/<path>`, once more with credentials if the host wants them.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response, Attempt> {
        let mut url = self.endpoint.base.clone();
        url.set_path(&format!(
            "{}/{}/{path}",
            url.path().trim_end_matches('/'),
            self.reference.path()
        ));
        if let Some(namespace) = &self.endpoint.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        let send = || async {
            let mut request = self.client.request(method.clone(), url.clone());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let granted = self.granted.lock().clone();
            if let Some(granted) = granted {
                request = request.header(AUTHORIZATION, granted);
            }
            self.send(request).await
        };
        let response = send().await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|h| h.to_str().ok());
        let Some(challenge) = auth::challenge(challenges) else {
            return Ok(response);
        };
        match self.answer(&challenge).await? {
            Some(granted) => *self.granted.lock() = Some(granted),
            None => return Ok(response),
        }
        send().await
    }

    /// The response if its status is one of these, else what a person should know.
    pub(super) async fn expect(
        &self,
        response: Response,
        what: &str,
        fine: &[StatusCode],
    ) -> Result<Response, Attempt> {
        let status = response.status();
        if fine.contains(&status) {
            return Ok(response);
        }
        let body = self.bounded(response, 16 << 10).await.unwrap_or_default();
        Err(failure::status(
            &self.reference,
            &self.host,
            what,
            status,
            &String::from_utf8_lossy(&body),
        ))
    }

    /// A whole body of at most `limit` bytes.
    pub(super) async fn bounded(
        &self,
        mut response: Response,
        limit: u64,
    ) -> Result<Vec<u8>, Attempt> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.broken(&e))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(self.failed(
                    format!("sent a document of more than {limit} bytes"),
                    Next::Host,
                ));
            }
        }
        Ok(bytes)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Attempt> {
        let response = request.send().await.map_err(|e| self.broken(&e))?;
        let is_tls_port =
            response.status() == StatusCode::BAD_REQUEST && self.endpoint.base.scheme() == "http";
        if is_tls_port && self.endpoint.is_loopback() {
            // What servers say to plain HTTP on a TLS port; the next endpoint is the same host with TLS.
            return Err(Attempt {
                answer: false,
                ..self.failed("wants TLS".to_owned(), Next::Host)
            });
        }
        Ok(response)
    }

    /// What to send so that the host lets us in; none when there is nothing better than what it refused.
    async fn answer(&self, challenge: &Challenge) -> Result<Option<HeaderValue>, Attempt> {
        let user = self.auth.as_ref().and_then(auth::user);
        let Challenge::Bearer {
            realm,
            service,
            scope,
        } = challenge
        else {
            return Ok(user.and_then(|(user, password)| basic(&user, &password)));
        };
        let mut url = Url::parse(realm).map_err(|e| {
            self.failed(
                format!("names a token server that is no URL ({realm:?}): {e}"),
                Next::Host,
            )
        })?;
        let own_scope = format!("repository:{}:pull", self.reference.path());
        let scope = scope
            .as_deref()
            .filter(|s| !s.is_empty())
            .unwrap_or(&own_scope);
        let identity = self
            .auth
            .as_ref()
            .map(|a| a.identity_token.as_str())
            .filter(|t| !t.is_empty());
        let request = if let Some(identity) = identity {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", identity);
            form.append_pair("client_id", "berth")
                .append_pair("scope", scope);
            form.append_pair("service", service.as_deref().unwrap_or_default());
            let kind = "application/x-www-form-urlencoded";
            self.client
                .post(url)
                .header("content-type", kind)
                .body(form.finish())
        } else {
            {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                query.append_pair("scope", scope);
            }
            let request = self.client.get(url);
            match user.and_then(|(user, password)| basic(&user, &password)) {
                Some(basic) => request.header(AUTHORIZATION, basic),
                None => request,
            }
        };
        let response = request.send().await.map_err(|e| self.broken(&e))?;
        let response = self.expect(response, "a token", &[StatusCode::OK]).await?;
        let bytes = self.bounded(response, TOKEN_MAX).await?;
        let token = serde_json::from_slice::<Token>(&bytes)
            .ok()
            .and_then(Token::value);
        let token = token.ok_or_else(|| {
            self.failed(
                "has a token server that gives no token".to_owned(),
                Next::Host,
            )
        })?;
        Ok(secret(&format!("Bearer {token}")))
    }

    fn broken(&self, error: &reqwest::Error) -> Attempt {
        failure::transport(&self.reference, &self.host, error)
    }

    fn failed(&self, detail: String, next: Next) -> Attempt {
        let error = ImageError::Registry {
            reference: self.reference.to_string(),
            registry: self.host.clone(),
            detail,
        };
        Attempt {
            error,
            next,
            answer: true,
        }
    }
}

fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    secret(&format!("Basic {pair}"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn client(endpoint: &Endpoint) -> Result<Client, ImageError> {
    // Whoever comes first in the process; it is ring everywhere.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut headers = HeaderMap::new();
    for (name, value) in &endpoint.headers {
        let bad = |_| ImageError::HostsConfig {
            path: name.into(),
            reason: format!("the header {name:?} is not one that HTTP allows"),
        };
        headers.append(
            HeaderName::try_from(name).map_err(|_| bad(()))?,
            HeaderValue::from_str(value).map_err(|_| bad(()))?,
        );
    }
    let mut builder = Client::builder()
        .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT);
    if endpoint.is_loopback() {
        builder = builder.no_proxy();
    }
    let Tls {
        ca,
        client,
        skip_verify,
    } = &endpoint.tls;
    let mut roots = Vec::new();
    for path in ca {
        roots.extend(Certificate::from_pem_bundle(&read(path)?).map_err(|e| bad(path, &e))?);
    }
    builder = if endpoint.base.scheme() == "http" {
        // Saves reading the system's certificates; a redirect to TLS elsewhere needs them, though.
        if endpoint.is_loopback() {
            builder.tls_certs_only(Vec::new())
        } else {
            builder
        }
    } else if *skip_verify {
        builder.tls_danger_accept_invalid_certs(true)
    } else {
        builder.tls_certs_merge(roots)
    };
    if let Some((certificate, key)) = client.first() {
        let mut pem = read(certificate)?;
        if let Some(key) = key {
            pem.push(b'\n');
            pem.extend(read(key)?);
        }
        builder = builder.identity(Identity::from_pem(&pem).map_err(|e| bad(certificate, &e))?);
    }
    builder
        .build()
        .map_err(|e| bad(Path::new(endpoint.base.as_str()), &e))
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    fs::read(path).map_err(|e| ImageError::HostsConfig {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

fn bad(path: &Path, error: &reqwest::Error) -> ImageError {
    use std::error::Error as _;
    let reason = error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    ImageError::HostsConfig {
        path: path.to_owned(),
        reason,
    }
}
