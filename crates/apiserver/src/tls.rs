//! The server's side of TLS.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

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
    /// The client CA cannot be used.
    #[error("the client CA cannot be used")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl TlsConfig {
    /// The rustls configuration: client certificates are asked for but not required; ALPN is
    /// `h2` and `http/1.1`.
    ///
    /// # Errors
    /// When a part cannot be used.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(roots(ca, "client CA")?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
            }
        };
        let (chain, key) = identity(&self.certificate, &self.key)?;
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The one cryptography provider of the crate, independent of a process-wide default.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificates of a PEM bundle as trust anchors.
pub(crate) fn roots(pem: &[u8], what: &'static str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, what)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// A certificate chain and its key.
pub(crate) fn identity(
    certificate: &[u8],
    key: &[u8],
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(certificate, "certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Pem("key"))?;
    Ok((chain, key))
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Pem(what))?;
    if chain.is_empty() {
        Err(TlsError::Pem(what))
    } else {
        Ok(chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_checked_part_by_part() {
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let good = TlsConfig {
            certificate: pair.cert.pem().into_bytes(),
            key: pair.signing_key.serialize_pem().into_bytes(),
            client_ca: Some(pair.cert.pem().into_bytes()),
        };
        assert_eq!(
            good.server_config().unwrap().alpn_protocols,
            [b"h2".to_vec(), b"http/1.1".to_vec()]
        );
        let text = |config: TlsConfig| config.server_config().map(|_| ()).unwrap_err().to_string();
        let bad = TlsConfig {
            certificate: b"nope".to_vec(),
            ..good.clone()
        };
        assert_eq!(text(bad), "the certificate is not valid PEM");
        let bad = TlsConfig {
            key: Vec::new(),
            ..good.clone()
        };
        assert_eq!(text(bad), "the key is not valid PEM");
        let bad = TlsConfig {
            client_ca: Some(Vec::new()),
            ..good
        };
        assert_eq!(text(bad), "the client CA is not valid PEM");
    }
}
