//! kubeconfig files and API clients made from the cluster's certificates.

use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::connections;
use crate::pki::{self, Identity};

/// A kubeconfig with one cluster, one user and one context, all named `berth`.
#[must_use]
pub(crate) fn render(server: &str, ca_pem: &str, identity: &Identity) -> String {
    let data = |pem: &str| STANDARD.encode(pem);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: berth\n\
         clusters:\n\
         - name: berth\n\
         \x20 cluster:\n\
         \x20   server: {server}\n\
         \x20   certificate-authority-data: {}\n\
         users:\n\
         - name: berth\n\
         \x20 user:\n\
         \x20   client-certificate-data: {}\n\
         \x20   client-key-data: {}\n\
         contexts:\n\
         - name: berth\n\
         \x20 context:\n\
         \x20   cluster: berth\n\
         \x20   user: berth\n",
        data(ca_pem),
        data(&identity.cert_pem),
        data(&identity.key_pem),
    )
}

/// Writes a kubeconfig that only its owner can read.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn write(
    path: &Path,
    server: &str,
    ca_pem: &str,
    identity: &Identity,
) -> anyhow::Result<()> {
    pki::write_secret(path, &render(server, ca_pem, identity))?;
    Ok(())
}

/// Writes a kubeconfig that only its owner can read, of a node whose certificate and key are in a file of their own.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn write_with_files(
    path: &Path,
    server: &str,
    ca_pem: &str,
    certificate: &Path,
) -> anyhow::Result<()> {
    let user = json!({"client-certificate": certificate, "client-key": certificate});
    let text = serde_json::to_string_pretty(&document(server, ca_pem, user))?;
    pki::write_secret(path, &format!("{text}\n"))?;
    Ok(())
}

/// A kubeconfig as kubectl would read it from a file. JSON is YAML.
fn document(server: &str, ca_pem: &str, user: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "berth",
        "clusters": [{"name": "berth", "cluster": {
            "server": server, "certificate-authority-data": STANDARD.encode(ca_pem)}}],
        "users": [{"name": "berth", "user": user}],
        "contexts": [{"name": "berth", "context": {"cluster": "berth", "user": "berth"}}],
    })
}

/// How to reach `server`, with the credentials `user` in a kubeconfig's words.
///
/// # Errors
/// When the parts don't fit.
pub(crate) async fn config(
    server: &str,
    ca_pem: &str,
    user: Value,
) -> anyhow::Result<kube::Config> {
    let config: Kubeconfig = serde_json::from_value(document(server, ca_pem, user))?;
    Ok(kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?)
}

/// A client for `server`, which is one of ours, as `identity`.
///
/// # Errors
/// When the TLS parts don't fit.
pub(crate) async fn client(
    server: &str,
    ca_pem: &str,
    identity: &Identity,
) -> anyhow::Result<kube::Client> {
    let data = |pem: &str| STANDARD.encode(pem);
    let user = json!({
        "client-certificate-data": data(&identity.cert_pem),
        "client-key-data": data(&identity.key_pem),
    });
    Ok(connections::client(&config(server, ca_pem, user).await?)?)
}

/// Server and CA (PEM) of a kubeconfig that [`write_with_files`] has written.
///
/// # Errors
/// When it can't be read.
pub(crate) fn cluster_of(path: &Path) -> anyhow::Result<(String, String)> {
    let what = || format!("cannot use the kubeconfig {}", path.display());
    let config = Kubeconfig::read_from(path).with_context(what)?;
    let cluster = config.clusters.into_iter().find_map(|named| named.cluster);
    let cluster = cluster.context("it names no cluster").with_context(what)?;
    let server = cluster.server.context("it names no server");
    let data = cluster
        .certificate_authority_data
        .context("it has no certificate-authority-data")
        .with_context(what)?;
    let bytes = STANDARD.decode(data.trim()).with_context(what)?;
    let ca_pem = String::from_utf8(bytes).with_context(what)?;
    Ok((server.with_context(what)?, ca_pem))
}

/// What a kubeconfig file on disk gives.
pub(crate) struct Loaded {
    /// A client as its current context says.
    pub(crate) client: kube::Client,
    /// The CA of its cluster, PEM, where it has one.
    pub(crate) ca_pem: Option<String>,
}

/// A client with the credentials of a kubeconfig file, by default of the admin's in a data directory.
///
/// # Errors
/// As of [`load`].
pub(crate) async fn client_of(
    path: Option<&Path>,
    data_dir: &Path,
) -> anyhow::Result<kube::Client> {
    let own = data_dir.join("admin.kubeconfig");
    Ok(load(path.unwrap_or(&own)).await?.client)
}

/// Reads a kubeconfig file.
///
/// # Errors
/// When it can't be read, or leads to no usable client.
pub(crate) async fn load(path: &Path) -> anyhow::Result<Loaded> {
    let config = Kubeconfig::read_from(path)
        .with_context(|| format!("cannot use the kubeconfig {}", path.display()))?;
    let current = config.current_context.clone().unwrap_or_default();
    let cluster_name = config
        .contexts
        .iter()
        .find(|named| named.name == current)
        .and_then(|named| named.context.as_ref())
        .map(|context| context.cluster.clone());
    let cluster = config
        .clusters
        .iter()
        .find(|named| Some(&named.name) == cluster_name.as_ref())
        .and_then(|named| named.cluster.clone());
    let ca_pem = match cluster {
        Some(cluster) => match (
            cluster.certificate_authority_data,
            cluster.certificate_authority,
        ) {
            (Some(data), _) => {
                let bytes = STANDARD.decode(data.trim()).with_context(|| {
                    format!(
                        "certificate-authority-data in {} is not base64",
                        path.display()
                    )
                })?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            (None, Some(file)) => Some(
                std::fs::read_to_string(&file)
                    .with_context(|| format!("cannot read the CA {file}"))?,
            ),
            (None, None) => None,
        },
        None => None,
    };
    let client = from_kubeconfig(config)
        .await
        .with_context(|| format!("cannot use the kubeconfig {}", path.display()))?;
    Ok(Loaded { client, ca_pem })
}

async fn from_kubeconfig(config: Kubeconfig) -> anyhow::Result<kube::Client> {
    let config =
        kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}
