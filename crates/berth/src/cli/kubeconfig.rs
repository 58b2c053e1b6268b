//! `berth kubeconfig`: credentials for another user or another node.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use crate::dirs::DirArgs;
use crate::kubeconfig;
use crate::pki::Pki;

#[derive(Debug, clap::Args)]
pub(super) struct KubeconfigArgs {
    #[command(flatten)]
    dirs: DirArgs,
    /// Directory with the cluster's CA, where the server has it elsewhere (its --cert-dir) [default: DATA_DIR/server/pki]
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// For the node agent of this node
    #[arg(long, value_name = "NAME", conflicts_with_all = ["user", "group"])]
    node: Option<String>,
    /// For this user
    #[arg(long, value_name = "NAME", required_unless_present = "node")]
    user: Option<String>,
    /// Group of that user (may be repeated)
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// How the API server is reached
    #[arg(long, value_name = "URL", default_value = "https://127.0.0.1:6443")]
    server: String,
}

impl KubeconfigArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let own = self.dirs.data_dir.join("server/pki");
        let dir = self.cert_dir.unwrap_or(own);
        ensure!(
            dir.join("ca.key").exists(),
            "{} has no certificate authority: start `berth up` or `berth server` first, and name its --data-dir or --cert-dir",
            dir.display()
        );
        let pki = Pki::open(&dir)?;
        let identity = match (&self.node, &self.user) {
            (Some(node), _) => pki.client(&format!("system:node:{node}"), &["system:nodes"])?,
            (None, user) => {
                let groups: Vec<&str> = self.group.iter().map(String::as_str).collect();
                pki.client(user.as_deref().unwrap_or_default(), &groups)?
            }
        };
        let text = kubeconfig::render(&self.server, &pki.ca_pem, &identity);
        write!(std::io::stdout().lock(), "{text}").context("cannot write to standard output")
    }
}
