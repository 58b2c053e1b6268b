//! Certificates for requests that are approved.

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::ResourceExt as _;
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use tracing::{info, warn};
use x509_parser::prelude::FromDer as _;

use super::request::{CLIENT, KUBELET_CLIENT, KUBELET_SERVING, Names, misfit, with_condition};

/// How long a certificate lasts at most (stock: `--cluster-signing-duration`, a year).
const LONGEST: Duration = Duration::days(365);
/// Clocks differ.
const BACKDATED: Duration = Duration::minutes(5);

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The key or the certificate is not what it should be.
    #[error("the cluster's certificate authority cannot sign: {0}")]
    Issuer(#[from] rcgen::Error),
    /// The certificate cannot be read.
    #[error("the cluster's certificate authority has no readable certificate: {0}")]
    Certificate(String),
}

/// The certificate authority that signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    not_after: OffsetDateTime,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// From certificate and key in PEM.
    ///
    /// # Errors
    /// When they do not make an authority.
    pub fn new(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, KeyPair::from_pem(key_pem)?)?;
        let unreadable =
            |error: &dyn std::fmt::Display| AuthorityError::Certificate(error.to_string());
        let (_, block) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes())
            .map_err(|error| unreadable(&error))?;
        let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&block.contents)
            .map_err(|error| unreadable(&error))?;
        let not_after = certificate.validity().not_after.to_datetime();
        Ok(Self { issuer, not_after })
    }

    /// The certificate of a request that fits its signer, in PEM.
    ///
    /// # Errors
    /// Why there is none, for the request's author.
    fn sign(
        &self,
        pem: &[u8],
        usages: &[String],
        seconds: Option<i32>,
        now: OffsetDateTime,
    ) -> Result<String, String> {
        let wrong = |error: rcgen::Error| format!("spec.request: {error}");
        let text = std::str::from_utf8(pem).map_err(|_| "spec.request is not PEM".to_owned())?;
        let mut request = CertificateSigningRequestParams::from_pem(text).map_err(wrong)?;
        let wanted = seconds.map_or(LONGEST, |seconds| Duration::seconds(i64::from(seconds)));
        let params = &mut request.params;
        params.not_before = now - BACKDATED;
        params.not_after = (now + wanted.min(LONGEST)).min(self.not_after);
        // What the request says of these is its author's wish; what was approved are `spec.usages`, and never an authority.
        params.is_ca = IsCa::ExplicitNoCa;
        params.name_constraints = None;
        params.use_authority_key_identifier_extension = true;
        params.key_usages.clear();
        params.extended_key_usages.clear();
        for usage in usages {
            match usage.as_str() {
                "digital signature" => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
                "key encipherment" => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
                "client auth" => params
                    .extended_key_usages
                    .push(ExtendedKeyUsagePurpose::ClientAuth),
                "server auth" => params
                    .extended_key_usages
                    .push(ExtendedKeyUsagePurpose::ServerAuth),
                other => return Err(format!("usage {other:?} is not one that this signer gives")),
            }
        }
        let certificate = request.signed_by(&self.issuer).map_err(wrong)?;
        Ok(certificate.pem())
    }
}

/// An approved request with its certificate, or with the reason why there is none; nothing when another signs it.
pub(super) fn signed(
    authority: &Authority,
    request: &CertificateSigningRequest,
    now: jiff::Timestamp,
) -> Option<(&'static str, CertificateSigningRequest)> {
    let spec = &request.spec;
    let signer = spec.signer_name.as_str();
    if ![CLIENT, KUBELET_CLIENT, KUBELET_SERVING].contains(&signer) {
        return None;
    }
    let usages = spec.usages.as_deref().unwrap_or_default();
    let at = OffsetDateTime::from_unix_timestamp(now.as_second()).ok()?;
    let certificate = Names::read(&spec.request.0).and_then(|names| {
        match misfit(signer, &names, usages).or_else(|| repeated(&names)) {
            Some(why) => Err(why),
            None => authority.sign(&spec.request.0, usages, spec.expiration_seconds, at),
        }
    });
    let name = request.name_any();
    let next = match certificate {
        Ok(pem) => {
            info!(request = name, signer, "signed a certificate");
            let mut next = request.clone();
            next.metadata.managed_fields = None;
            next.status.get_or_insert_default().certificate = Some(ByteString(pem.into_bytes()));
            next
        }
        Err(why) => {
            warn!(
                request = name,
                signer, why, "an approved certificate cannot be signed"
            );
            with_condition(request, "Failed", "SignerValidationFailure", why, now)
        }
    };
    Some(("status", next))
}

/// A subject is copied attribute by attribute, and one of them only of each type: what was approved would not be what is
/// signed.
fn repeated(names: &Names) -> Option<String> {
    let twice = names.common_names.len() > 1 || names.organizations.len() > 1;
    (twice || names.others > 0).then(|| {
        "the subject must have one common name, at most one organization, and nothing else"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType};
    use serde_json::json;
    use x509_parser::certificate::X509Certificate;

    use super::super::request::tests::{decode, request};
    use super::*;

    fn authority() -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "ca");
        params.not_after = OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("a time");
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority::new(&pem, &key.serialize_pem()).expect("an authority")
    }

    fn now() -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_790_000_000).expect("a time")
    }

    fn approved(
        signer: &str,
        pem: Vec<u8>,
        usages: &[&str],
        seconds: Option<i32>,
    ) -> CertificateSigningRequest {
        let mut request: CertificateSigningRequest = decode(json!({
            "metadata": {"name": "r"}, "spec": {"request": "", "signerName": signer, "usages": usages},
            "status": {"conditions": [{"type": "Approved", "status": "True"}]}}));
        request.spec.request = ByteString(pem);
        request.spec.expiration_seconds = seconds;
        request
    }

    fn certificate(answer: Option<(&'static str, CertificateSigningRequest)>) -> Vec<u8> {
        let (subresource, next) = answer.expect("an answer");
        assert_eq!(subresource, "status");
        let status = next.status.expect("a status");
        let conditions = status.conditions.unwrap_or_default();
        let pem = status
            .certificate
            .unwrap_or_else(|| panic!("{conditions:?}"));
        x509_parser::pem::parse_x509_pem(&pem.0)
            .expect("PEM")
            .1
            .contents
    }

    #[test]
    fn a_certificate_is_what_was_approved() {
        let pem = request(&["system:nodes"], "system:node:n1", &[], &[]);
        let request = approved(
            KUBELET_CLIENT,
            pem,
            &["digital signature", "client auth"],
            Some(3600),
        );
        let der = certificate(signed(&authority(), &request, now()));
        let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
        assert_eq!(
            certificate.subject().to_string(),
            "O=system:nodes, CN=system:node:n1"
        );
        assert_eq!(certificate.validity().not_after.timestamp(), 1_790_003_600);
        assert_eq!(certificate.validity().not_before.timestamp(), 1_789_999_700);
        assert!(!certificate.is_ca());
        let usage = certificate
            .extended_key_usage()
            .expect("usages")
            .expect("usages")
            .value;
        assert!(usage.client_auth && !usage.server_auth);
    }

    #[test]
    fn a_request_to_be_an_authority_or_to_outlive_it_gets_neither() {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("params");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "jane");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params
            .serialize_request(&key)
            .expect("a request")
            .pem()
            .expect("PEM");
        let request = approved(
            CLIENT,
            pem.into_bytes(),
            &["client auth"],
            Some(100_000_000),
        );
        let der = certificate(signed(&authority(), &request, now()));
        let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
        assert!(!certificate.is_ca());
        let signs = certificate.key_usage().expect("usages");
        assert!(signs.is_none_or(|usage| !usage.value.key_cert_sign()));
        assert_eq!(certificate.validity().not_after.timestamp(), 1_800_000_000);
    }

    #[test]
    fn what_does_not_fit_its_signer_fails_and_others_are_left_alone() {
        let failed = |request: &CertificateSigningRequest| {
            let (_, next) = signed(&authority(), request, now()).expect("an answer");
            let status = next.status.expect("a status");
            assert!(status.certificate.is_none());
            let conditions = status.conditions.expect("conditions");
            conditions.last().expect("a condition").type_.clone()
        };
        let pem = || request(&["system:masters"], "system:node:n1", &[], &[]);
        assert_eq!(
            failed(&approved(
                KUBELET_CLIENT,
                pem(),
                &["digital signature", "client auth"],
                None
            )),
            "Failed"
        );
        assert_eq!(
            failed(&approved(
                CLIENT,
                pem(),
                &["client auth", "cert sign"],
                None
            )),
            "Failed"
        );
        assert_eq!(
            failed(&approved(
                CLIENT,
                b"nonsense".to_vec(),
                &["client auth"],
                None
            )),
            "Failed"
        );
        let other = approved("example.com/other", pem(), &["client auth"], None);
        assert!(signed(&authority(), &other, now()).is_none());
    }
}
