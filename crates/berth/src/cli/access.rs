//! How commands that ask a cluster reach the API server.

use std::path::PathBuf;

use crate::{data_dir, kubeconfig};

/// Flags of commands that ask a cluster.
#[derive(Debug, clap::Args)]
pub(super) struct AccessArgs {
    /// How to reach the API server [default: DATA_DIR/admin.kubeconfig]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Data directory of a server on this machine
    #[arg(long, value_name = "DIR", default_value = data_dir::DEFAULT)]
    data_dir: PathBuf,
}

impl AccessArgs {
    /// The kubeconfig file.
    pub(super) fn path(&self) -> PathBuf {
        let own = || self.data_dir.join("admin.kubeconfig");
        self.kubeconfig.clone().unwrap_or_else(own)
    }

    /// A client with these credentials.
    ///
    /// # Errors
    /// When the kubeconfig can't be used.
    pub(super) async fn client(&self) -> anyhow::Result<kube::Client> {
        kubeconfig::client_of(self.kubeconfig.as_deref(), &self.data_dir).await
    }
}
