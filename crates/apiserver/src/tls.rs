//! The server's side of TLS.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use tokio_rustls::TlsAcceptor;

use crate::authn::{Certificate, VerifiedCertificate};

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
    /// A CA cannot be used.
    #[error("the CA cannot be used")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl TlsConfig {
    /// The server's side: client certificates are asked for but not required, and judged after the
    /// handshake; ALPN is `h2` and `http/1.1`.
    ///
    /// # Errors
    /// When a part cannot be used.
    pub fn build(&self) -> Result<ServerTls, TlsError> {
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let clients = match &self.client_ca {
            None => None,
            Some(ca) => {
                let roots = Arc::new(roots(ca, "client CA")?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                Some(verifier.allow_unauthenticated().build()?)
            }
        };
        let builder = match &clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                builder.with_client_cert_verifier(Arc::new(Later(Arc::clone(clients))))
            }
        };
        let (chain, key) = identity(&self.certificate, &self.key)?;
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(ServerTls {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            clients,
        })
    }
}

/// What a server needs for a TLS connection.
#[derive(Clone)]
pub struct ServerTls {
    /// Does the handshake.
    pub acceptor: TlsAcceptor,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl ServerTls {
    /// Judges the certificates of a client, leaf first.
    #[must_use]
    pub fn judge(&self, chain: Option<&[CertificateDer<'_>]>) -> Certificate {
        let (Some(clients), Some((leaf, between))) =
            (&self.clients, chain.and_then(<[_]>::split_first))
        else {
            return Certificate::None;
        };
        let now = UnixTime::now();
        match clients.verify_client_cert(leaf, between, now) {
            Ok(_) => {
                let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
                VerifiedCertificate::new(leaf, between, now)
                    .map_or(Certificate::Refused, Certificate::Verified)
            }
            Err(error) => {
                tracing::debug!(%error, "a client certificate is refused");
                Certificate::Refused
            }
        }
    }
}

/// Takes every certificate whose key the client has: a stranger gets a 401 that says what is wrong, as
/// on the stock server, and no broken handshake. [`ServerTls::judge`] follows.
#[derive(Debug)]
struct Later(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Later {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let verified = self
            .0
            .verify_tls12_signature(message, certificate, signature);
        or_unreadable(certificate, verified)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let verified = self
            .0
            .verify_tls13_signature(message, certificate, signature);
        or_unreadable(certificate, verified)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A certificate that cannot be read (one of X.509 version 1, say) has no key to verify with; [`ServerTls::judge`]
/// refuses it for sure.
fn or_unreadable(
    certificate: &CertificateDer<'_>,
    verified: Result<HandshakeSignatureValid, rustls::Error>,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    match verified {
        Err(_) if ParsedCertificate::try_from(certificate).is_err() => {
            Ok(HandshakeSignatureValid::assertion())
        }
        verified => verified,
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
            good.build().unwrap().acceptor.config().alpn_protocols,
            [b"h2".to_vec(), b"http/1.1".to_vec()]
        );
        let text = |config: TlsConfig| config.build().map(|_| ()).unwrap_err().to_string();
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

    #[test]
    fn only_the_client_ca_vouches() {
        let ca = |name: &str| {
            let mut params = rcgen::CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            let key = rcgen::KeyPair::generate().unwrap();
            rcgen::CertifiedIssuer::self_signed(params, key).unwrap()
        };
        let (known, stranger) = (ca("known"), ca("stranger"));
        let leaf = |issuer: &rcgen::Issuer<'_, rcgen::KeyPair>| {
            let mut params = rcgen::CertificateParams::default();
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            let key = rcgen::KeyPair::generate().unwrap();
            params.signed_by(&key, issuer).unwrap().der().clone()
        };
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let tls = TlsConfig {
            certificate: pair.cert.pem().into_bytes(),
            key: pair.signing_key.serialize_pem().into_bytes(),
            client_ca: Some(known.pem().into_bytes()),
        };
        let tls = tls.build().unwrap();
        let judged = |chain: Option<&[CertificateDer<'_>]>| tls.judge(chain);
        assert!(matches!(
            judged(Some(&[leaf(&known)])),
            Certificate::Verified(_)
        ));
        assert!(matches!(
            judged(Some(&[leaf(&stranger)])),
            Certificate::Refused
        ));
        assert!(matches!(judged(None), Certificate::None));
    }
}
