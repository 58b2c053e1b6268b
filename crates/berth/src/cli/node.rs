//! `berth node`: the node agent alone, with an API server and a CRI runtime of any make.
//!
//! It has its credentials from a kubeconfig, or joins a cluster with a bootstrap token (`crate::join`).

use std::path::PathBuf;

use anyhow::Context as _;
use berth_node::certificates::NodeCertificates;
use berth_node::{ServingCertificate, ServingTls};

use crate::collector;
use crate::dirs;
use crate::join::JoinArgs;
use crate::kubeconfig;
use crate::pki::Pki;
use crate::role::node::NodeArgs;
use crate::role::policies::{OfNode, PolicyArgs};
use crate::role::server::GateArgs;
use crate::role::{Roles, Stage};

#[derive(Debug, clap::Args)]
pub(super) struct NodeCommand {
    /// How to reach the API server, and as whom (`berth kubeconfig --node NAME` makes one) [default: that of the cluster that
    /// this machine has joined]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "token", "token_file", "ca_cert_hash", "certificate_authority"])]
    kubeconfig: Option<PathBuf>,
    /// Serve with a certificate that the cluster issues and that is renewed in time, where this machine has joined one; false for
    /// one of its own making, where nobody approves those (stock clusters)
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    server_tls_bootstrap: bool,
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
    /// Certificate of the node's server [default: one that the cluster issues, or one of its own making]
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// CA of the clients of the node's server [default: the cluster's CA]
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Run the cluster's DNS server for this node's pods, at the addresses of --cluster-dns. This kubeconfig says as whom it
    /// reads Services and EndpointSlices (`berth kubeconfig --user system:kube-proxy` makes one)
    #[arg(long, value_name = "FILE", requires = "cluster_dns")]
    dns_kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    gates: GateArgs,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten, next_help_heading = "Network policies")]
    policies: PolicyArgs,
    #[command(flatten, next_help_heading = "Joining a cluster")]
    join: JoinArgs,
}

impl NodeCommand {
    /// What lies below these directories is mounted into pods by another process, which knows nothing of our working directory.
    fn with_absolute_dirs(mut self) -> Self {
        for dir in [&mut self.root_dir, &mut self.pod_logs_dir] {
            *dir = dirs::absolute(dir);
        }
        self
    }

    pub(super) async fn run(self) -> anyhow::Result<()> {
        self.with_absolute_dirs().run_node().await
    }

    async fn run_node(self) -> anyhow::Result<()> {
        let gates = self.gates.parse()?;
        super::up::require_root("berth node")?;
        super::up::raise_file_limit();
        let access = self.access().await?;
        let tls = self.tls(&access)?;
        let socket = self
            .cri_socket
            .strip_prefix("unix://")
            .unwrap_or(&self.cri_socket);
        let mut config = self.node.config(
            access.client,
            socket.into(),
            &self.root_dir,
            self.pod_logs_dir.clone(),
            tls,
            &gates,
        )?;
        config.tracer = collector::tracer(None)?;
        config.certificates = access.certificates;
        let mut roles = Roles::new();
        let dns = self.dns().await?;
        let node = OfNode {
            name: self.node.name(),
            dns: dns
                .as_ref()
                .map_or_else(Vec::new, |dns| dns.addresses.clone()),
            runtime_classes: gates.runtime_class,
            root_dir: &self.root_dir,
        };
        config.network_policies = self.policies.start(&mut roles, node).await?;
        if let Some(dns) = dns {
            roles.spawn(Stage::Clients, "DNS server", |token| async move {
                Ok(berth_dns::run(dns, token).await?)
            });
        }
        roles.spawn(Stage::Clients, "node agent", |token| async move {
            Ok(berth_node::run(config, token).await?)
        });
        roles.run(async { Ok(()) }).await
    }

    async fn dns(&self) -> anyhow::Result<Option<berth_dns::Config>> {
        let Some(path) = &self.dns_kubeconfig else {
            return Ok(None);
        };
        Ok(Some(berth_dns::Config {
            client: kubeconfig::load(path).await?.client,
            domain: self.node.cluster_domain.clone(),
            addresses: self.node.cluster_dns.clone(),
            bridge: None,
            pod_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            resolv_conf: self.node.resolv_conf(),
        }))
    }

    async fn access(&self) -> anyhow::Result<Access> {
        if let Some(path) = &self.kubeconfig {
            let loaded = kubeconfig::load(path).await?;
            return Ok(Access {
                client: loaded.client,
                ca_pem: loaded.ca_pem,
                certificates: None,
            });
        }
        let joined = self.join.join(&self.root_dir, &self.node.name()).await?;
        Ok(Access {
            client: joined.certificates.client.client(),
            ca_pem: Some(joined.ca_pem),
            certificates: Some(joined.certificates),
        })
    }

    fn tls(&self, access: &Access) -> anyhow::Result<ServingTls> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let client_ca_pem = match (&self.client_ca_file, &access.ca_pem) {
            (Some(path), _) => read(path)?,
            (None, Some(pem)) => pem.clone(),
            (None, None) => anyhow::bail!(
                "the kubeconfig names no CA: say with --client-ca-file whose clients may ask this node for logs"
            ),
        };
        let certificate = match (&self.tls_cert_file, &self.tls_private_key_file) {
            (Some(cert), Some(key)) => ServingCertificate::Given {
                cert_pem: read(cert)?,
                key_pem: read(key)?,
            },
            (None, _) | (_, None) if self.server_tls_bootstrap && access.certificates.is_some() => {
                ServingCertificate::Issued
            }
            (None, _) | (_, None) => {
                // As the stock kubelet: a certificate of its own making, which a stock API server accepts. The CA
                // goes with it: it stays when the certificate is made anew, and the server knows the node by it.
                let pki = Pki::open(&self.root_dir.join("pki"))?;
                let name = self.node.name();
                let identity = pki.serving(&name, &[&name], &[self.node.address()])?;
                ServingCertificate::Given {
                    cert_pem: format!("{}{}", identity.cert_pem, pki.ca_pem),
                    key_pem: identity.key_pem,
                }
            }
        };
        Ok(ServingTls {
            certificate,
            client_ca_pem,
        })
    }
}

/// How the agent reaches the API server.
struct Access {
    client: kube::Client,
    ca_pem: Option<String>,
    /// Of a machine that has joined.
    certificates: Option<NodeCertificates>,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        node: NodeCommand,
    }

    #[test]
    fn relative_directories_are_those_of_the_working_directory() {
        let words = ["node", "--root-dir", "r", "--pod-logs-dir", "/logs"];
        let node = Line::try_parse_from(words).unwrap().node;
        let node = node.with_absolute_dirs();
        let here = std::env::current_dir().unwrap();
        assert_eq!(node.root_dir, here.join("r"));
        assert_eq!(node.pod_logs_dir, PathBuf::from("/logs"));
    }
}
