//! Which servers a `caBundle` vouches for.
//!
//! Many operators serve with one certificate that they have signed themselves, marked as a CA, and put it into the
//! bundle as it is. Go's verifier takes it; webpki takes no CA as a server's certificate. So a certificate that is in the
//! bundle itself is judged here by what is left to judge: name, dates and usage. Everything else is webpki's.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use crate::tls::provider;

/// The verifier of a bundle; of an empty one, that of this machine's CAs.
///
/// # Errors
/// When nobody is vouched for.
pub(crate) fn of_bundle(bundle: &[u8]) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let mut bundled = Vec::new();
    let roots = if bundle.is_empty() {
        system_roots()?
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            let certificate =
                certificate.map_err(|_| "the caBundle is not valid PEM".to_owned())?;
            roots
                .add(certificate.clone())
                .map_err(|error| error.to_string())?;
            bundled.push(certificate);
        }
        if roots.is_empty() {
            return Err("unable to load root certificates: the caBundle has none".to_owned());
        }
        Arc::new(roots)
    };
    let by_authority = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(Trust {
        bundled,
        by_authority,
    }))
}

/// The CAs of this machine.
fn system_roots() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        return Err("it has no caBundle, and this machine has no CA certificates".to_owned());
    }
    Ok(Arc::clone(roots))
}

#[derive(Debug)]
struct Trust {
    /// The certificates of the bundle.
    bundled: Vec<CertificateDer<'static>>,
    by_authority: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.bundled.iter().any(|own| own == leaf) {
            let (_, certificate) = X509Certificate::from_der(leaf)
                .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
            if certificate.is_ca() {
                return verify_bundled(leaf, &certificate, name, now);
            }
        }
        self.by_authority
            .verify_server_cert(leaf, between, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority
            .verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_authority
            .verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

/// Judges a certificate that is trusted as it is. That the server has its key is seen in the handshake.
fn verify_bundled(
    leaf: &CertificateDer<'_>,
    certificate: &X509Certificate<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let refuse = |why| Err(Error::InvalidCertificate(why));
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let Ok(at) = ASN1Time::from_timestamp(seconds) else {
        return refuse(CertificateError::Expired);
    };
    let validity = certificate.validity();
    if at < validity.not_before {
        return refuse(CertificateError::NotValidYet);
    }
    if at > validity.not_after {
        return refuse(CertificateError::Expired);
    }
    let Ok(usage) = certificate.extended_key_usage() else {
        return refuse(CertificateError::BadEncoding);
    };
    if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
        return refuse(CertificateError::InvalidPurpose);
    }
    // What is critical and unknown in it is refused by this.
    verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
    Ok(ServerCertVerified::assertion())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    use super::*;

    /// A certificate that has signed itself, as PEM and DER.
    fn own(change: impl FnOnce(&mut CertificateParams)) -> (String, CertificateDer<'static>) {
        let mut params = CertificateParams::new(vec!["hook.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        (made.pem(), made.der().clone())
    }

    fn verify(bundle: &str, leaf: &CertificateDer<'_>, name: &str) -> Result<(), String> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        of_bundle(bundle.as_bytes())
            .unwrap()
            .verify_server_cert(leaf, &[], &name, &[], UnixTime::now())
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_certificate_of_the_bundle_may_be_its_own_authority() {
        for usage in [
            vec![],
            vec![ExtendedKeyUsagePurpose::ServerAuth],
            vec![ExtendedKeyUsagePurpose::Any],
        ] {
            let (pem, leaf) = own(|params| params.extended_key_usages = usage);
            assert_eq!(verify(&pem, &leaf, "hook.example"), Ok(()));
        }
        let (pem, leaf) = own(|params| params.is_ca = IsCa::NoCa);
        assert_eq!(verify(&pem, &leaf, "hook.example"), Ok(()));
    }

    #[test]
    fn it_is_judged_all_the_same() {
        let (pem, leaf) = own(|_| ());
        assert!(
            verify(&pem, &leaf, "other.example").is_err(),
            "another name"
        );
        let (other, _) = own(|_| ());
        assert!(
            verify(&other, &leaf, "hook.example").is_err(),
            "nobody vouches for it"
        );
        let now = UnixTime::now().as_secs();
        let day = |days: u64| {
            let since = Duration::from_secs(now - 10 * 86_400 + days * 86_400);
            (std::time::SystemTime::UNIX_EPOCH + since).into()
        };
        let (pem, leaf) = own(|params| (params.not_before, params.not_after) = (day(0), day(9)));
        let said = verify(&pem, &leaf, "hook.example").unwrap_err();
        assert!(said.contains("xpired"), "{said}");
        let (pem, leaf) = own(|params| (params.not_before, params.not_after) = (day(11), day(20)));
        assert!(
            verify(&pem, &leaf, "hook.example").is_err(),
            "not valid yet"
        );
        let (pem, leaf) =
            own(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        assert!(verify(&pem, &leaf, "hook.example").is_err(), "for clients");
    }

    #[test]
    fn a_bundle_must_vouch_for_somebody() {
        let said = |bundle: &str| of_bundle(bundle.as_bytes()).map(|_| ()).unwrap_err();
        assert!(said("# nothing").contains("unable to load root certificates"));
        let cut = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(said(cut).contains("not valid PEM"));
    }
}
