//! Whether what answers at a node's address is the node: its certificate is judged before it is sent anything.
//!
//! | what is known | what the node must show |
//! |---|---|
//! | a CA of the nodes (`--kubelet-certificate-authority`) | a certificate of it, for the address that was connected to |
//! | a node that this server's CA issued a certificate to | that: for the node's name |
//! | nothing | what it showed first |
//!
//! What a node showed first is kept in the store with the UID of its Node, so that all servers and later starts know it;
//! it ends with the Node, which a node cannot delete itself. A chain is known by its last certificate (the node's own
//! CA, when it vouches for the node's name), a lone certificate by itself.

use std::sync::Arc;

use rustls::CertificateError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use berth_api::status::ApiError;
use berth_store::Expect;

use super::address::NodeName;
use crate::storage::{Storage, Written};
use crate::tls::{TlsError, provider, roots};

/// Where it is kept what nodes showed; no kind of the API has this storage name.
const SEEN: &str = "berth/nodecertificates";
const NODE_USER: &str = "system:node:";
/// A record that says that the node showed a certificate of this server's CA.
const ISSUED: &str = "issued";
const TRIES: usize = 5;

/// Why a node's certificate is not good.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    #[error("node {0:?} shows no certificate")]
    None(String),
    #[error("the certificate of node {node:?} is refused: {source}")]
    Refused { node: String, source: rustls::Error },
    #[error("the certificate at the address of node {node:?} is that of {shown:?}")]
    Other { node: String, shown: String },
    #[error(
        "node {0:?} runs with this API server and must show the certificate that was issued to it; something else \
         answers at its address"
    )]
    NotIssued(String),
    #[error(
        "node {node:?} shows another certificate ({shown}) than at first ({first}); if the machine was set up anew, \
         delete its Node (kubectl delete node {node}) and start the node again"
    )]
    Changed {
        node: String,
        shown: String,
        first: String,
    },
    #[error("it cannot be kept which certificate node {node:?} shows: {source}")]
    Storage { node: String, source: ApiError },
}

/// Judges what nodes show.
#[derive(Clone)]
pub(super) struct NodeVerifier {
    ca: Option<Arc<WebPkiServerVerifier>>,
    issuer: Option<Arc<WebPkiServerVerifier>>,
}

impl NodeVerifier {
    pub(super) fn new(ca: Option<&[u8]>, issuer: Option<&[u8]>) -> Result<Self, TlsError> {
        let verifier = |pem: Option<&[u8]>, what: &'static str| {
            pem.map(|pem| {
                let roots = Arc::new(roots(pem, what)?);
                let builder = WebPkiServerVerifier::builder_with_provider(roots, provider());
                Ok::<_, TlsError>(builder.build()?)
            })
            .transpose()
        };
        Ok(Self {
            ca: verifier(ca, "CA of the nodes")?,
            issuer: verifier(issuer, "CA of this server")?,
        })
    }

    /// Whether the node showed what it must; `must_be_issued` takes only a certificate of this server's CA.
    pub(super) async fn check(
        &self,
        chain: &[CertificateDer<'_>],
        node: &NodeName,
        dialed: &ServerName<'_>,
        must_be_issued: bool,
        storage: &Storage,
    ) -> Result<(), IdentityError> {
        let (leaf, between) = chain
            .split_first()
            .ok_or_else(|| IdentityError::None(node.name.clone()))?;
        if let Some(ca) = &self.ca {
            verify(ca, leaf, between, dialed).map_err(|source| IdentityError::Refused {
                node: node.name.clone(),
                source,
            })?;
            return check_common_name(leaf, node);
        }
        let name = server_name(node)?;
        let issued = self
            .issuer
            .as_ref()
            .map(|issuer| verify(issuer, leaf, between, &name));
        let shown = match issued {
            Some(Ok(())) => ISSUED.to_owned(),
            // the name is looked at last: this server's CA vouches for it, but it is somebody else's
            Some(Err(
                source @ rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                ),
            )) => {
                return Err(IdentityError::Refused {
                    node: node.name.clone(),
                    source,
                });
            }
            Some(Err(_)) | None if must_be_issued => {
                return Err(IdentityError::NotIssued(node.name.clone()));
            }
            Some(Err(_)) | None => fingerprint(leaf, between, &name),
        };
        remember(node, &shown, storage).await
    }
}

fn server_name(node: &NodeName) -> Result<ServerName<'static>, IdentityError> {
    ServerName::try_from(node.name.clone()).map_err(|_| IdentityError::Other {
        node: node.name.clone(),
        shown: String::new(),
    })
}

fn verify(
    verifier: &WebPkiServerVerifier,
    leaf: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    name: &ServerName<'_>,
) -> Result<(), rustls::Error> {
    verifier
        .verify_server_cert(leaf, between, name, &[], UnixTime::now())
        .map(|_| ())
}

/// A serving certificate that names a node is that node's only.
fn check_common_name(leaf: &CertificateDer<'_>, node: &NodeName) -> Result<(), IdentityError> {
    let other = |shown: &str| IdentityError::Other {
        node: node.name.clone(),
        shown: shown.to_owned(),
    };
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| other(""))?;
    for name in certificate.subject().iter_common_name() {
        let name = name.as_str().map_err(|_| other(""))?;
        if name.strip_prefix(NODE_USER).is_some_and(|n| n != node.name) {
            return Err(other(name));
        }
    }
    Ok(())
}

/// What a node of whose CA nothing is known can be recognized by.
fn fingerprint(
    leaf: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    name: &ServerName<'_>,
) -> String {
    let vouches = |own: &CertificateDer<'_>| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(own.clone().into_owned()).ok()?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .ok()?;
        let between = between.get(..between.len().saturating_sub(1))?;
        verify(&verifier, leaf, between, name).ok()
    };
    match between.last().filter(|own| vouches(own).is_some()) {
        Some(own) => format!("ca-sha256:{}", hex::encode(Sha256::digest(own))),
        None => format!("sha256:{}", hex::encode(Sha256::digest(leaf))),
    }
}

/// Compares with what the node showed first, or keeps it as that.
async fn remember(node: &NodeName, shown: &str, storage: &Storage) -> Result<(), IdentityError> {
    for _ in 0..TRIES {
        let seen = storage.get(SEEN, "", &node.name);
        let expect = match &seen {
            None => Expect::Absent,
            Some(seen) => {
                let record = seen.value().map_err(|error| IdentityError::Storage {
                    node: node.name.clone(),
                    source: error.into(),
                })?;
                let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
                let first = text("shown");
                if text("uid") == node.uid {
                    if first == shown {
                        return Ok(());
                    }
                    if shown != ISSUED {
                        return Err(IdentityError::Changed {
                            node: node.name.clone(),
                            shown: shown.to_owned(),
                            first,
                        });
                    }
                }
                Expect::Revision(seen.revision)
            }
        };
        let record: Value =
            json!({"metadata": {"name": node.name}, "uid": node.uid, "shown": shown});
        let written = storage.put(SEEN, "", &node.name, expect, record).await;
        match written {
            Ok(Written::Done(_)) => {
                if shown != ISSUED {
                    tracing::warn!(
                        node = node.name,
                        certificate = shown,
                        "nothing vouches for this node's certificate; it is taken now and must stay the same \
                         (--kubelet-certificate-authority names a CA that vouches)"
                    );
                }
                return Ok(());
            }
            // another request was faster: compare with what that found
            Ok(Written::Changed(_)) => {}
            Err(source) => {
                return Err(IdentityError::Storage {
                    node: node.name.clone(),
                    source,
                });
            }
        }
    }
    Err(IdentityError::Storage {
        node: node.name.clone(),
        source: ApiError::Internal("the record changes all the time".to_owned()),
    })
}
