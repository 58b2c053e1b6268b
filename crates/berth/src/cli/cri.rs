//! `berth cri`: the container runtime alone, under a stock kubelet or `berth node`.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use tracing::info;

use crate::collector;
use crate::data_dir::{self, DataDir};
use crate::dirs::DirArgs;
use crate::role::cri::{HandlerArgs, ImageArgs, NetworkArgs};
use crate::role::{self, Roles, Stage};

/// How often it is looked whether the socket answers.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct CriCommand {
    #[command(subcommand)]
    command: Option<CriSubcommand>,
    #[command(flatten)]
    dirs: DirArgs,
    /// Unix socket to serve CRI on [default: RUN_DIR/cri.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Address to serve the runtime's own metrics on, over plain HTTP at /metrics [default: nowhere]
    #[arg(long, value_name = "IP:PORT")]
    metrics_address: Option<std::net::SocketAddr>,
    #[command(flatten)]
    handlers: HandlerArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    images: ImageArgs,
}

#[derive(Debug, Subcommand)]
enum CriSubcommand {
    /// Print the table of runtime handlers: kind, binary, version, features, usable or why not
    Handlers(HandlerArgs),
}

impl CriCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if let Some(CriSubcommand::Handlers(handlers)) = &self.command {
            return print_handlers(handlers);
        }
        super::up::require_root("berth cri")?;
        super::up::raise_file_limit();
        let (bridge, pod_cidr) = self.dirs.network();
        let data = DataDir::open(&self.dirs.data_dir, || data_dir::marker(bridge, pod_cidr))?;
        let marker = data.marker();
        let mut config = role::cri::config(
            data.path(),
            &self.dirs.run_dir(),
            &self.handlers,
            &self.network,
            &self.images,
            (&marker.bridge, &marker.pod_cidr),
        )?;
        let bridge = config
            .cni
            .default_network
            .as_ref()
            .map(|n| n.bridge.as_str());
        data.note_use(&self.dirs.run_dir(), bridge.unwrap_or(&marker.bridge))?;
        if let Some(socket) = self.socket {
            config.socket = socket;
        }
        config.tracer = collector::tracer(None)?;
        config.metrics_addr = self.metrics_address;
        info!(socket = %config.socket.display(), "serving CRI v1");
        let socket = config.socket.clone();
        let mut roles = Roles::new();
        roles.spawn(Stage::Runtime, "container runtime", |token| async move {
            Ok(berth_cri::run(config, token).await?)
        });
        roles
            .run(async move {
                while tokio::net::UnixStream::connect(&socket).await.is_err() {
                    tokio::time::sleep(LOOK).await;
                }
                Ok(())
            })
            .await
    }
}

/// The whole table, whatever is wrong with it; an error when a start would not go on with it.
fn print_handlers(handlers: &HandlerArgs) -> anyhow::Result<()> {
    let survey = handlers.source().survey(&role::cri::embedded_command()?)?;
    survey.table().try_out();
    let mut out = std::io::stdout().lock();
    write!(out, "{}", survey.table().render()).context("cannot write to standard output")?;
    drop(out);
    let mut refusals = survey.refusals();
    if refusals.is_empty() {
        refusals.extend(survey.default_refused());
    }
    ensure!(refusals.is_empty(), "{}", refusals.join("\n"));
    Ok(())
}
