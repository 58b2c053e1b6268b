//! `berth server`: API server, scheduler and controllers, without a node.

use tracing::info;

use crate::data_dir::{self, DataDir};
use crate::dirs::DirArgs;
use crate::role::Roles;
use crate::role::server::node_cidrs::NodeCidrArgs;
use crate::role::server::{GateArgs, ServerArgs};
use crate::{kubeconfig, net};

#[derive(Debug, clap::Args)]
pub(super) struct ServerCommand {
    #[command(flatten)]
    dirs: DirArgs,
    #[command(flatten)]
    gates: GateArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten, next_help_heading = "Addresses of pods")]
    node_cidrs: NodeCidrArgs,
}

impl ServerCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let gates = self.gates.parse()?;
        super::up::raise_file_limit();
        let (bridge, pod_cidr) = self.dirs.network();
        if !self.dirs.data_dir.exists() {
            // A first start that fails for this leaves nothing behind.
            net::check_free(self.server.address())?;
        }
        let data = DataDir::open(&self.dirs.data_dir, || data_dir::marker(bridge, pod_cidr))?;
        let server_dir = data.path().join("server");
        let pki = self.server.pki(&server_dir)?;
        let service_cidr = self.dirs.service_cidr();
        let mut server = self
            .server
            .build(&pki, &server_dir, gates, None, &service_cidr)
            .await?;
        server.node_cidrs = self.node_cidrs.parse(&server.service_cidrs)?;
        let admin = pki.client("admin", &["system:masters"])?;
        let path = data.path().join("admin.kubeconfig");
        kubeconfig::write(&path, &server.url, &pki.ca_pem, &admin)?;
        let mut roles = Roles::new();
        let url = server.url.clone();
        server.spawn(&pki, &mut roles).await?;
        info!(%url, kubeconfig = %path.display(), "serving the API");
        roles.run(async { Ok(()) }).await
    }
}
