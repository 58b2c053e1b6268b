//! The server's TLS: its certificate, and clients that may show one.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::{Error, ServingTls};

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

pub(super) fn acceptor(tls: &ServingTls) -> Result<TlsAcceptor, Error> {
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
    let chain = certificates(&tls.cert_pem, "certificate")?;
    let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).map_err(fail("key"))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(fail("certificate"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(fail("certificate"))?;
    // Upgrades need HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
