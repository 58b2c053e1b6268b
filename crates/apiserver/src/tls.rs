//! The server's side of TLS.

use std::sync::Arc;

/// Serving certificate and client CA.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Certificate chain, PEM.
    pub certificate: Vec<u8>,
    /// Its key, PEM.
    pub key: Vec<u8>,
    /// CA of client certificates (CN is the user, each O a group), PEM.
    pub client_ca: Option<Vec<u8>>,
}

/// A TLS configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM of a part cannot be read.
    #[error("the {0} is not valid PEM")]
    Pem(&'static str),
    /// rustls refuses it.
    #[error("the certificate and key cannot be used")]
    Rustls(#[from] rustls::Error),
}

impl TlsConfig {
    /// The rustls configuration: client certificates are asked for but not required; ALPN is
    /// `h2` and `http/1.1`.
    ///
    /// # Errors
    /// When a part cannot be used.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        Err(TlsError::Pem("certificate"))
    }
}
