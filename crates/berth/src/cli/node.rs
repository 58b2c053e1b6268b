//! `berth node`: the node agent alone, with an API server and a CRI runtime of any make.

use std::path::PathBuf;

use anyhow::Context as _;
use berth_node::ServingTls;

use crate::kubeconfig;
use crate::pki::Pki;
use crate::role::node::NodeArgs;
use crate::role::server::GateArgs;
use crate::role::{Roles, Stage};

#[derive(Debug, clap::Args)]
pub(super) struct NodeCommand {
    /// How to reach the API server, and as whom (`berth kubeconfig --node NAME` makes one)
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// Unix socket of the CRI runtime
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/berth/cri.sock",
        visible_alias = "container-runtime-endpoint"
    )]
    cri_socket: String,
    /// Where volumes and the agent's own state are kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/berth-node")]
    root_dir: PathBuf,
    /// Where container logs go
    #[arg(long, value_name = "DIR", default_value = "/var/log/pods")]
    pod_logs_dir: PathBuf,
    /// Certificate of the node's server [default: one of its own making]
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// CA of the clients of the node's server [default: the kubeconfig's CA]
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    #[command(flatten)]
    gates: GateArgs,
    #[command(flatten)]
    node: NodeArgs,
}

impl NodeCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let gates = self.gates.parse()?;
        super::up::require_root("berth node")?;
        super::up::raise_file_limit();
        let loaded = kubeconfig::load(&self.kubeconfig).await?;
        let tls = self.tls(loaded.ca_pem)?;
        let socket = self
            .cri_socket
            .strip_prefix("unix://")
            .unwrap_or(&self.cri_socket);
        let config = self.node.config(
            loaded.client,
            socket.into(),
            &self.root_dir,
            self.pod_logs_dir.clone(),
            tls,
            &gates,
        )?;
        let mut roles = Roles::new();
        roles.spawn(Stage::Clients, "node agent", |token| async move {
            Ok(berth_node::run(config, token).await?)
        });
        roles.run(async { Ok(()) }).await
    }

    fn tls(&self, kubeconfig_ca: Option<String>) -> anyhow::Result<ServingTls> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let client_ca_pem = match (&self.client_ca_file, kubeconfig_ca) {
            (Some(path), _) => read(path)?,
            (None, Some(pem)) => pem,
            (None, None) => anyhow::bail!(
                "{} names no CA: say with --client-ca-file whose clients may ask this node for logs",
                self.kubeconfig.display()
            ),
        };
        let (cert_pem, key_pem) = match (&self.tls_cert_file, &self.tls_private_key_file) {
            (Some(cert), Some(key)) => (read(cert)?, read(key)?),
            (None, _) | (_, None) => {
                // As the stock kubelet: a certificate of its own making, which a stock API server accepts. The CA
                // goes with it: it stays when the certificate is made anew, and the server knows the node by it.
                let pki = Pki::open(&self.root_dir.join("pki"))?;
                let name = self.node.name();
                let identity = pki.serving(&name, &[&name], &[self.node.address()])?;
                (
                    format!("{}{}", identity.cert_pem, pki.ca_pem),
                    identity.key_pem,
                )
            }
        };
        Ok(ServingTls {
            cert_pem,
            key_pem,
            client_ca_pem,
        })
    }
}
