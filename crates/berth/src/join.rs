//! A machine joins a cluster: with a bootstrap token it gets a certificate as a node, once.
//!
//! 1. the CA, by the hash of its public key ([`discovery`]) or from a file;
//! 2. a key, which never leaves the machine, and a CertificateSigningRequest for `system:node:NAME`, as the token's user, over
//!    TLS that this CA vouches for;
//! 3. certificate and key in `ROOT_DIR/pki`, and `ROOT_DIR/kubeconfig`, which names them.
//!
//! Later starts find these and need no token. A certificate that has expired, or that is another node's, is as good as none.

mod discovery;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use berth_apiserver::ca_hash;
use berth_node::certificates::{
    CLIENT_FILE, CertificatePair, NodeCertificates, RequestError, SERVING_FILE, Wanted,
    request_certificate,
};
use jiff::Timestamp;
use serde_json::json;
use tracing::{info, warn};

use self::discovery::CaHash;
use crate::bootstrap_token::BootstrapToken;
use crate::{kubeconfig, process_list};

const KUBECONFIG: &str = "kubeconfig";
const PKI: &str = "pki";
/// A file of a token is no longer.
const MOST_BYTES: u64 = 4096;
const HOW: &str = "start it with --server URL --token-file FILE --ca-cert-hash sha256:... (`berth token create \
                   --print-join-command` at the server prints them), or with --kubeconfig FILE";

/// Flags of a machine that joins.
#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// URL of the API server of a cluster to join; at later starts it is known
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Bootstrap token to join with (`berth token create`); once this machine has joined, none is needed
    #[arg(
        long,
        value_name = "ID.SECRET",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    token: Option<String>,
    /// File with the bootstrap token, - for standard input: other users see what is on a command line
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Hash of the public key of the cluster's certificate authority, as `berth token create --print-join-command` prints it;
    /// nothing else is trusted (may be repeated)
    #[arg(long, value_name = "sha256:HEX", value_delimiter = ',')]
    ca_cert_hash: Vec<CaHash>,
    /// Certificate authority of the API server, in place of its hash
    #[arg(long, value_name = "FILE", conflicts_with = "ca_cert_hash")]
    certificate_authority: Option<PathBuf>,
}

/// A machine that has joined.
pub(crate) struct Joined {
    /// Its certificates.
    pub(crate) certificates: NodeCertificates,
    /// The CA of its cluster, PEM.
    pub(crate) ca_pem: String,
}

/// What an earlier start has kept.
struct Kept {
    server: String,
    ca_pem: String,
    pair: CertificatePair,
}

impl JoinArgs {
    /// Finds what an earlier start has kept below `root` for node `node`, or joins.
    ///
    /// # Errors
    /// When the machine hasn't joined and can't, with what to do.
    pub(crate) async fn join(&self, root: &Path, node: &str) -> anyhow::Result<Joined> {
        if let Some(token) = &self.token
            && let Err(error) = process_list::hide(token)
        {
            warn!(
                error = format!("{error:#}"),
                "other users of this machine see the token in the list of processes; --token-file keeps it from them"
            );
        }
        let server = self.server()?;
        let kept = match self.kept(root, node)? {
            Ok(kept) => {
                let server = server.unwrap_or_else(|| kept.server.clone());
                if server != kept.server {
                    write_kubeconfig(root, &server, &kept.ca_pem)?;
                }
                Kept { server, ..kept }
            }
            Err(why) => {
                let server = server.with_context(|| format!("{why}: {HOW}"))?;
                let token = self.token()?.with_context(|| format!("{why}: {HOW}"))?;
                let ca_pem = self.authority(&server).await?;
                info!(node, server, "joining the cluster");
                let pair = issued(&server, &ca_pem, &token, node).await?;
                keep(root, &server, &ca_pem, &pair)?;
                info!(node, server, until = %pair.not_after(), "joined the cluster");
                Kept {
                    server,
                    ca_pem,
                    pair,
                }
            }
        };
        let cluster = kubeconfig::config(&kept.server, &kept.ca_pem, json!({})).await?;
        let certificates = NodeCertificates::new(root.join(PKI), cluster, kept.pair)?;
        Ok(Joined {
            certificates,
            ca_pem: kept.ca_pem,
        })
    }

    /// The URL without a slash at its end.
    fn server(&self) -> anyhow::Result<Option<String>> {
        let Some(url) = &self.server else {
            return Ok(None);
        };
        let url = url.trim_end_matches('/');
        ensure!(
            url.starts_with("https://") && url.len() > "https://".len(),
            "--server {url:?}: write it as https://HOST:PORT"
        );
        Ok(Some(url.to_owned()))
    }

    fn token(&self) -> anyhow::Result<Option<BootstrapToken>> {
        let text = match (&self.token, &self.token_file) {
            (Some(token), _) => {
                return BootstrapToken::parse(token).context("--token").map(Some);
            }
            (None, Some(path)) if path.as_os_str() == "-" => {
                read_token(std::io::stdin().lock()).context("cannot read standard input")?
            }
            (None, Some(path)) => fs::File::open(path)
                .and_then(read_token)
                .with_context(|| format!("cannot read {}", path.display()))?,
            (None, None) => return Ok(None),
        };
        BootstrapToken::parse(&text)
            .context("--token-file")
            .map(Some)
    }

    /// The CA to trust.
    async fn authority(&self, server: &str) -> anyhow::Result<String> {
        if let Some(path) = &self.certificate_authority {
            return fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()));
        }
        ensure!(
            !self.ca_cert_hash.is_empty(),
            "nothing tells {server} from somebody else who answers there: give --ca-cert-hash sha256:... (`berth token create \
             --print-join-command` prints it), or --certificate-authority FILE"
        );
        discovery::cluster_ca(server, &self.ca_cert_hash).await
    }

    /// What an earlier start has kept, or why it is good for nothing.
    fn kept(&self, root: &Path, node: &str) -> anyhow::Result<Result<Kept, String>> {
        let file = root.join(KUBECONFIG);
        if !file.exists() {
            return Ok(Err("this machine has not joined a cluster".to_owned()));
        }
        let (server, ca_pem) = kubeconfig::cluster_of(&file)?;
        let path = root.join(PKI).join(CLIENT_FILE);
        let pair = match CertificatePair::load(&path) {
            Ok(Some(pair)) => pair,
            Ok(None) => return Ok(Err(format!("{} is missing", path.display()))),
            Err(error) => {
                return Ok(Err(format!(
                    "{} cannot be used: {:#}",
                    path.display(),
                    anyhow::Error::from(error)
                )));
            }
        };
        if let Some(why) = pair.misfit(node) {
            return Ok(Err(format!(
                "the certificate {} is not that of node {node:?}: {why}",
                path.display()
            )));
        }
        if !pair.is_valid_at(Timestamp::now()) {
            return Ok(Err(format!(
                "the certificate {} was valid from {} to {}",
                path.display(),
                pair.not_before(),
                pair.not_after()
            )));
        }
        let hashes = ca_hash::of_pem(ca_pem.as_bytes())
            .with_context(|| format!("the CA in {} cannot be read", file.display()))?;
        let vouched = |hash: &String| self.ca_cert_hash.iter().any(|known| known.is(hash));
        if !self.ca_cert_hash.is_empty() && !hashes.iter().any(vouched) {
            return Ok(Err(format!(
                "{} is for a cluster with another certificate authority ({}) than that of --ca-cert-hash",
                file.display(),
                hashes.join(", ")
            )));
        }
        Ok(Ok(Kept {
            server,
            ca_pem,
            pair,
        }))
    }
}

fn read_token(from: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// A certificate for the node, asked for as the token's user until somebody decides.
async fn issued(
    server: &str,
    ca_pem: &str,
    token: &BootstrapToken,
    node: &str,
) -> anyhow::Result<CertificatePair> {
    let user = json!({"token": token.reveal()});
    let config = kubeconfig::config(server, ca_pem, user).await?;
    let client = kube::Client::try_from(config)?;
    loop {
        match request_certificate(&client, &Wanted::client(node)).await {
            Ok(pair) => return Ok(pair),
            Err(error @ (RequestError::Late(_) | RequestError::Gone(_))) => {
                warn!(
                    %error,
                    node,
                    "another request is made; where a Node of this name exists already, delete it or approve the request"
                );
            }
            Err(RequestError::Api { source, .. }) if is_unauthorized(&source) => bail!(
                "{server} does not know the bootstrap token {}: it has expired or was deleted, or its secret is another one; \
                 `berth token create` makes another",
                token.id()
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("node {node:?} cannot join {server}"));
            }
        }
    }
}

fn is_unauthorized(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 401)
}

fn keep(root: &Path, server: &str, ca_pem: &str, pair: &CertificatePair) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .with_context(|| format!("cannot make {}", root.display()))?;
    let pki = root.join(PKI);
    // That of another cluster, or of another name.
    match fs::remove_file(pki.join(SERVING_FILE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {SERVING_FILE}"));
        }
        Ok(()) | Err(_) => {}
    }
    pair.save(&pki.join(CLIENT_FILE))?;
    write_kubeconfig(root, server, ca_pem)
}

fn write_kubeconfig(root: &Path, server: &str, ca_pem: &str) -> anyhow::Result<()> {
    let root = std::path::absolute(root)?;
    let certificate = root.join(PKI).join(CLIENT_FILE);
    kubeconfig::write_with_files(&root.join(KUBECONFIG), server, ca_pem, &certificate)
}

#[cfg(test)]
mod tests;
