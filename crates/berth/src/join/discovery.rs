//! The cluster's CA, for a machine that knows nothing of the cluster but the hash of the CA's public key.
//!
//! It is read without credentials over a connection that proves nothing, and nobody is believed: of the certificates that
//! come, only those count that the hash vouches for. Nothing secret is sent before.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_apiserver::ca_hash;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::ConfigMap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::cluster_info::{self, ClusterInfo};

const LIMIT: Duration = Duration::from_secs(15);
/// Of the ConfigMap, with all that anybody who answers may send.
const MOST_BYTES: usize = 1 << 20;

/// The hash of a CA's public key, `sha256:HEX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CaHash(String);

impl CaHash {
    /// Whether it is this one.
    pub(super) fn is(&self, hash: &str) -> bool {
        self.0 == hash
    }
}

impl std::str::FromStr for CaHash {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let hash = text.trim().to_lowercase();
        let digits = hash.strip_prefix("sha256:").unwrap_or_default();
        let fits = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        ensure!(fits, "write it as sha256: and 64 hexadecimal digits");
        Ok(Self(hash))
    }
}

/// The certificates of the cluster at `server` that one of the hashes vouches for, PEM.
///
/// # Errors
/// When there is no answer, or nobody vouches for what comes.
pub(crate) async fn cluster_ca(server: &str, hashes: &[CaHash]) -> anyhow::Result<String> {
    let map = tokio::time::timeout(LIMIT, fetch(server))
        .await
        .with_context(|| format!("{server} does not answer within {} s", LIMIT.as_secs()))??;
    let info = ClusterInfo::read(&map)
        .with_context(|| format!("cannot use ConfigMap kube-public/cluster-info of {server}"))?;
    vouched(&info.ca_pem, hashes).with_context(|| format!("cannot trust {server}"))
}

/// Those of the certificates that a hash vouches for. Others that come with them are not believed, whoever adds them.
fn vouched(ca_pem: &str, hashes: &[CaHash]) -> anyhow::Result<String> {
    let mut trusted = String::new();
    let mut shown = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let certificate = certificate.context("its certificate authority is not PEM")?;
        let Some(hash) = ca_hash::of_certificate(&certificate) else {
            bail!("a certificate of its authority cannot be read");
        };
        if hashes.iter().any(|known| known.is(&hash)) {
            trusted.push_str(&to_pem(&certificate));
        }
        shown.push(hash);
    }
    ensure!(
        !trusted.is_empty(),
        "its certificate authority is {}, not the one of --ca-cert-hash: the hash is another cluster's, or somebody else answers there",
        shown.join(", ")
    );
    Ok(trusted)
}

fn to_pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

async fn fetch(server: &str) -> anyhow::Result<ConfigMap> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .build();
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let url = format!(
        "{server}/api/v1/namespaces/{}/configmaps/{}",
        cluster_info::NAMESPACE,
        cluster_info::NAME
    );
    let request = http::Request::get(&url)
        .header("accept", "application/json")
        .body(Empty::new())
        .with_context(|| format!("{server:?} is not a URL"))?;
    let answer = client
        .request(request)
        .await
        .with_context(|| format!("cannot reach {server}"))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
    let body = body
        .map_err(|error| anyhow::anyhow!(error))
        .with_context(|| format!("{server} does not answer to its end"))?
        .to_bytes();
    ensure!(
        status.is_success(),
        "{server} has no ConfigMap kube-public/cluster-info that a machine without credentials may read ({status}): name the \
         cluster's CA with --certificate-authority FILE"
    );
    serde_json::from_slice(&body).with_context(|| format!("what {server} answers is no ConfigMap"))
}

/// Takes any certificate whose key the other side has: what is read over the connection is judged itself.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn authority() -> (String, CaHash) {
        let params = CertificateParams::new(Vec::new()).unwrap();
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let hash = ca_hash::of_pem(pem.as_bytes()).unwrap().remove(0);
        (pem, hash.parse().unwrap())
    }

    #[test]
    fn a_hash_has_one_form() {
        let digits = "0".repeat(64);
        assert!(format!("sha256:{digits}").parse::<CaHash>().is_ok());
        for wrong in [
            "",
            &digits,
            "sha256:",
            &format!("sha256:{digits}0"),
            &format!("sha1:{digits}"),
            &format!("sha256:{}", "x".repeat(64)),
        ] {
            assert!(wrong.parse::<CaHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_the_hash_vouches_for_is_trusted() {
        let ((pem, hash), (other, other_hash)) = (authority(), authority());
        let hashes = [hash];
        assert_eq!(
            vouched(&pem, &hashes)
                .unwrap()
                .split_whitespace()
                .collect::<String>(),
            pem.split_whitespace().collect::<String>()
        );
        let error = vouched(&other, &hashes).unwrap_err().to_string();
        assert!(error.contains(&other_hash.0), "{error}");
        // Who is in between adds an authority to the cluster's own.
        for both in [format!("{pem}{other}"), format!("{other}{pem}")] {
            let trusted = vouched(&both, &hashes).unwrap();
            let trusted = ca_hash::of_pem(trusted.as_bytes()).unwrap();
            assert_eq!(trusted, [hashes[0].0.clone()]);
        }
        for nothing in ["", "nonsense"] {
            assert!(vouched(nothing, &hashes).is_err());
        }
    }
}
