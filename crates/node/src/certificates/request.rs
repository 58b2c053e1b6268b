//! A certificate by a CertificateSigningRequest.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use kube::api::ObjectMeta;
use kube::{Api, Client, ResourceExt as _};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{CertificatePair, PairError};
use crate::writes;

/// How long a request may wait, as the stock kubelet's.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// When it is said that somebody has to approve it.
const SAID: Duration = Duration::from_secs(10);
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(5);

/// What a certificate is asked for.
pub struct Wanted<'a> {
    signer: &'static str,
    usage: &'static str,
    prefix: &'static str,
    node: &'a str,
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl<'a> Wanted<'a> {
    /// As a client of the API server.
    #[must_use]
    pub fn client(node: &'a str) -> Self {
        Self {
            signer: "kubernetes.io/kube-apiserver-client-kubelet",
            usage: "client auth",
            prefix: "node-csr-",
            node,
            dns: Vec::new(),
            addresses: Vec::new(),
        }
    }

    /// For the node's server.
    #[must_use]
    pub fn serving(node: &'a str, dns: Vec<String>, addresses: Vec<IpAddr>) -> Self {
        Self {
            signer: "kubernetes.io/kubelet-serving",
            usage: "server auth",
            prefix: "csr-",
            node,
            dns,
            addresses,
        }
    }

    fn object(&self, key: &KeyPair) -> Result<CertificateSigningRequest, rcgen::Error> {
        let mut params = CertificateParams::new(self.dns.clone())?;
        let addresses = self.addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(addresses);
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "system:nodes");
        name.push(DnType::CommonName, format!("system:node:{}", self.node));
        params.distinguished_name = name;
        let pem = params.serialize_request(key)?.pem()?;
        Ok(CertificateSigningRequest {
            metadata: ObjectMeta {
                generate_name: Some(self.prefix.to_owned()),
                ..ObjectMeta::default()
            },
            spec: CertificateSigningRequestSpec {
                request: ByteString(pem.into_bytes()),
                signer_name: self.signer.to_owned(),
                usages: Some(vec!["digital signature".to_owned(), self.usage.to_owned()]),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        })
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The key or the request can't be made.
    #[error("cannot make a key and a certificate request")]
    Make(#[from] rcgen::Error),
    /// The API server doesn't take or show the request.
    #[error("cannot {what} a certificate signing request")]
    Api {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// Somebody denied it, or the signer refused.
    #[error("the certificate signing request {name} {decision}: {message}")]
    Refused {
        /// The request.
        name: String,
        /// `was denied` or `failed`.
        decision: &'static str,
        /// Why.
        message: String,
    },
    /// It was deleted while it waited.
    #[error("the certificate signing request {0} is gone")]
    Gone(String),
    /// Nobody decided.
    #[error(
        "nobody approved the certificate signing request {0} in time (kubectl certificate approve)"
    )]
    Late(String),
    /// What was issued is not what was asked for.
    #[error("the certificate of {name} is not what was asked for: {why}")]
    Other {
        /// The request.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Makes a key, asks for a certificate of it, and waits for that.
///
/// # Errors
/// Why there is none; the key is gone then.
pub async fn request_certificate(
    client: &Client,
    wanted: &Wanted<'_>,
) -> Result<CertificatePair, RequestError> {
    let key = KeyPair::generate()?;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let failed = |what| {
        move |source| RequestError::Api {
            what,
            source: Box::new(source),
        }
    };
    let made = api
        .create(&writes::create(), &wanted.object(&key)?)
        .await
        .map_err(failed("create"))?;
    let name = made.name_any();
    let begin = Instant::now();
    let (mut pause, mut said) = (FIRST_LOOK, false);
    while begin.elapsed() < LIMIT {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
        let request = match api.get_opt(&name).await {
            Ok(Some(request)) => request,
            Ok(None) => return Err(RequestError::Gone(name)),
            // The token has ended, or the certificate; or the server answers later.
            Err(kube::Error::Api(status)) if [401, 403].contains(&status.code) => {
                return Err(failed("read")(kube::Error::Api(status)));
            }
            Err(error) => {
                debug!(request = name, error = %berth_supervise::Brief(&error), "cannot read a certificate signing request");
                continue;
            }
        };
        if let Some(pem) = issued(&request, &name)? {
            return check(wanted, &name, &pem, &key);
        }
        if !said && begin.elapsed() >= SAID {
            said = true;
            warn!(
                request = name,
                "the node's certificate waits for approval (kubectl certificate approve {name})"
            );
        }
    }
    Err(RequestError::Late(name))
}

/// The certificate in PEM, if it is there.
fn issued(request: &CertificateSigningRequest, name: &str) -> Result<Option<String>, RequestError> {
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    for condition in conditions.unwrap_or_default() {
        let decision = match condition.type_.as_str() {
            "Denied" => "was denied",
            "Failed" => "failed",
            _ => continue,
        };
        let message = condition.message.clone().or(condition.reason.clone());
        return Err(RequestError::Refused {
            name: name.to_owned(),
            decision,
            message: message.unwrap_or_default(),
        });
    }
    let certificate = status.and_then(|status| status.certificate.as_ref());
    let Some(certificate) = certificate.filter(|c| !c.0.is_empty()) else {
        return Ok(None);
    };
    let pem = String::from_utf8(certificate.0.clone());
    pem.map(Some).map_err(|_| RequestError::Other {
        name: name.to_owned(),
        why: "it is not PEM".to_owned(),
    })
}

fn check(
    wanted: &Wanted<'_>,
    name: &str,
    pem: &str,
    key: &KeyPair,
) -> Result<CertificatePair, RequestError> {
    let other = |why: String| RequestError::Other {
        name: name.to_owned(),
        why,
    };
    let pair = CertificatePair::new(pem, &key.serialize_pem())
        .map_err(|error: PairError| other(error.to_string()))?;
    if let Some(why) = pair.misfit(wanted.node) {
        return Err(other(why));
    }
    if !pair.has_names(&wanted.dns, &wanted.addresses) {
        return Err(other("it has other names or addresses".to_owned()));
    }
    Ok(pair)
}
