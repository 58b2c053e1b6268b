//! The server's TLS: its certificate, which may change while it serves, and clients that may show one.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::certificates::ServingSlot;
use crate::{Error, ServingCertificate, ServingTls};

fn fail<E: ToString>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |e| Error::Tls {
        what,
        reason: e.to_string(),
    }
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let list: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(fail(what))?;
    if list.is_empty() {
        return Err(Error::Tls {
            what,
            reason: "no certificate in it".to_owned(),
        });
    }
    Ok(list)
}

/// The acceptor, and where its certificate is.
pub(super) fn acceptor(tls: &ServingTls) -> Result<(TlsAcceptor, Arc<ServingSlot>), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for ca in certificates(&tls.client_ca_pem, "client CA")? {
        roots.add(ca).map_err(fail("client CA"))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(fail("client CA"))?;
    let slot = Arc::new(ServingSlot::default());
    match &tls.certificate {
        ServingCertificate::Given { cert_pem, key_pem } => {
            let chain = certificates(cert_pem, "certificate")?;
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(fail("key"))?;
            let certified = CertifiedKey::from_der(chain, key, &provider);
            slot.set(Arc::new(certified.map_err(fail("certificate"))?));
        }
        ServingCertificate::Issued => {}
    }
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(fail("certificate"))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&slot) as Arc<dyn rustls::server::ResolvesServerCert>);
    // Upgrades need HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), slot))
}
