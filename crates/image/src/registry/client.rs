//! HTTP clients of one registry host: the one that it is asked with, and those for where its answers lead.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity};
use url::Url;

use super::guard::GuardedResolver;
use super::hosts::{Endpoint, Tls};
use crate::error::ImageError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Without a byte for so long, an answer has broken off.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// What a client is for; what it may show and whom it trusts follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Purpose {
    /// The same scheme, host and port as the endpoint: its headers and its client certificate are meant for it.
    own: bool,
    /// The same host: `skip_verify` speaks of it.
    same_host: bool,
    /// Refuses names that resolve to this machine or its link.
    guarded: bool,
}

impl Purpose {
    pub(super) fn of(endpoint: &Endpoint, url: &Url, guarded: bool) -> Self {
        Self {
            own: endpoint.base.origin() == url.origin(),
            same_host: endpoint.base.host() == url.host(),
            guarded,
        }
    }

    pub(super) fn own(self) -> bool {
        self.own
    }
}

/// The clients, made when they are needed first.
pub(super) struct Clients(Mutex<HashMap<Purpose, Client>>);

impl Clients {
    /// With the client for the endpoint itself, so that wrong settings are found at once.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self, ImageError> {
        let clients = Self(Mutex::default());
        clients.get(endpoint, Purpose::of(endpoint, &endpoint.base, false))?;
        Ok(clients)
    }

    pub(super) fn get(&self, endpoint: &Endpoint, purpose: Purpose) -> Result<Client, ImageError> {
        let mut made = self.0.lock();
        if let Some(client) = made.get(&purpose) {
            return Ok(client.clone());
        }
        let client = build(endpoint, purpose)?;
        made.insert(purpose, client.clone());
        Ok(client)
    }
}

fn build(endpoint: &Endpoint, purpose: Purpose) -> Result<Client, ImageError> {
    // Whoever comes first in the process; it is ring everywhere.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Tls {
        ca,
        client,
        skip_verify,
    } = &endpoint.tls;
    let mut builder = Client::builder()
        .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
        // Followed in `connection`, which knows what may go where.
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT);
    if purpose.own {
        builder = builder.default_headers(headers(endpoint)?);
    }
    if endpoint.is_loopback() && purpose.same_host {
        builder = builder.no_proxy();
    }
    if purpose.guarded {
        builder = builder.dns_resolver(GuardedResolver);
    }
    let mut roots = Vec::new();
    for path in ca {
        roots.extend(Certificate::from_pem_bundle(&read(path)?).map_err(|e| bad(path, &e))?);
    }
    builder = if endpoint.base.scheme() == "http" && purpose.own {
        // It never speaks TLS; this saves reading the system's certificates.
        builder.tls_certs_only(Vec::new())
    } else if *skip_verify && purpose.same_host {
        builder.tls_danger_accept_invalid_certs(true)
    } else {
        builder.tls_certs_merge(roots)
    };
    if let Some((certificate, key)) = client.first().filter(|_| purpose.own) {
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

fn headers(endpoint: &Endpoint) -> Result<HeaderMap, ImageError> {
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
    Ok(headers)
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
