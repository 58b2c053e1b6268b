//! The ConfigMap `kube-public/cluster-info`: where the API is, and the CA of its servers.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::config::Kubeconfig;

pub(crate) const NAMESPACE: &str = "kube-public";
pub(crate) const NAME: &str = "cluster-info";

/// What it says.
pub(crate) struct ClusterInfo {
    /// `https://HOST:PORT`.
    pub(crate) server: String,
    /// Certificates, PEM.
    pub(crate) ca_pem: String,
}

impl ClusterInfo {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(map: &ConfigMap) -> anyhow::Result<Self> {
        let data = map.data.as_ref().and_then(|data| data.get("kubeconfig"));
        let text = data.context("it has no kubeconfig")?;
        let config = Kubeconfig::from_yaml(text).context("its kubeconfig cannot be read")?;
        let cluster = config.clusters.into_iter().find_map(|named| named.cluster);
        let cluster = cluster.context("its kubeconfig names no cluster")?;
        let data = cluster
            .certificate_authority_data
            .context("its kubeconfig has no certificate authority")?;
        let bytes = STANDARD
            .decode(data.trim())
            .context("its certificate authority is not base64")?;
        Ok(Self {
            server: cluster.server.context("its kubeconfig names no server")?,
            ca_pem: String::from_utf8(bytes).context("its certificate authority is not PEM")?,
        })
    }
}
