//! A client of the API server whose certificate can be replaced while it works.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use kube::Client;
use kube::client::Body;
use parking_lot::RwLock;
use serde_json::json;

use super::CertificatePair;

/// Clients made from it ([`RotatingClient::client`]) send each request through the connections of the latest one. What is open
/// at an older one, such as a watch, goes on until it ends; then its connections are closed.
#[derive(Clone)]
pub struct RotatingClient(Arc<RwLock<Client>>);

impl RotatingClient {
    /// Begins with this client.
    #[must_use]
    pub fn new(first: Client) -> Self {
        Self(Arc::new(RwLock::new(first)))
    }

    /// From now on requests go through another one.
    pub fn replace(&self, next: Client) {
        *self.0.write() = next;
    }

    /// A client whose requests go through the latest one.
    #[must_use]
    pub fn client(&self) -> Client {
        let latest = Arc::clone(&self.0);
        let namespace = latest.read().default_namespace().to_owned();
        let service = tower::service_fn(move |request: Request<Body>| {
            let client = latest.read().clone();
            async move { client.send(request).await }
        });
        Client::new(service, namespace)
    }
}

/// A client of the cluster with this certificate.
///
/// # Errors
/// When the parts don't fit.
pub(super) fn with_certificate(
    cluster: &kube::Config,
    pair: &CertificatePair,
) -> Result<Client, kube::Error> {
    let auth = json!({
        "client-certificate-data": STANDARD.encode(pair.certificate_pem()),
        "client-key-data": STANDARD.encode(pair.key_pem()),
    });
    let mut config = cluster.clone();
    config.auth_info = serde_json::from_value(auth).map_err(kube::Error::SerdeError)?;
    Client::try_from(config)
}

impl super::NodeCertificates {
    /// For a node with this certificate.
    ///
    /// # Errors
    /// When no client can be made of the parts.
    pub fn new(
        dir: std::path::PathBuf,
        cluster: kube::Config,
        current: CertificatePair,
    ) -> Result<Self, kube::Error> {
        let client = RotatingClient::new(with_certificate(&cluster, &current)?);
        Ok(Self {
            dir,
            cluster,
            client,
            current,
        })
    }
}
