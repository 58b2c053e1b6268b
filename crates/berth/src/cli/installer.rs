//! `berth installer`: runtime handlers on the nodes of a stock cluster.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::installer::classes::Programs;
use crate::installer::host::Host;
use crate::installer::node::Config;
use crate::installer::proof::Prover;
use crate::installer::runtime::Restart;
use crate::installer::{classes, node, uninstall};
use crate::kubeconfig;
use crate::role::server::parse_duration as seconds;

#[derive(Debug, Args)]
pub(super) struct InstallerCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// On each node: make its handlers those of the list, and advertise those that work
    Node(Box<NodeArgs>),
    /// Once in a cluster: keep the RuntimeClasses of the list
    Classes(ClassesArgs),
    /// Empty the list, and wait until no node and no class has anything of it any more
    Uninstall(UninstallArgs),
    /// In a pod that tries a handler: say which kernel it sees
    Probe(ProbeArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// How to reach the API server [default: the service account of the pod]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of the installer
    #[arg(
        long,
        value_name = "NAME",
        env = "POD_NAMESPACE",
        default_value = "berth"
    )]
    namespace: String,
    /// ConfigMap with the list of handlers, under handlers.yaml
    #[arg(long, value_name = "NAME", default_value = "berth-handlers")]
    config_map: String,
}

impl ListArgs {
    async fn client(&self) -> anyhow::Result<kube::Client> {
        if let Some(path) = &self.kubeconfig {
            return Ok(kubeconfig::load(path).await?.client);
        }
        let config = kube::Config::incluster().context("this is no pod with a service account: say with --kubeconfig how to reach the API server")?;
        Ok(kube::Client::try_from(config)?)
    }
}

#[derive(Debug, Args)]
struct NodeArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Name of the Node object
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node_name: String,
    /// Where the node's root is; other than /, programs are run among the mounts of the node's process 1
    #[arg(long, value_name = "DIR", default_value = "/")]
    host_root: PathBuf,
    /// Folder of the installer on the node: berth's shim and what it notes
    #[arg(long, value_name = "DIR", default_value = "/opt/berth")]
    host_dir: PathBuf,
    /// The kubelet's CRI socket [default: the one of the usual ones at which the node's runtime answers]
    #[arg(long, value_name = "PATH")]
    cri_socket: Option<PathBuf>,
    /// The runtime's main configuration file [default: the one that its process was started with]
    #[arg(long, value_name = "FILE")]
    runtime_config: Option<PathBuf>,
    /// Command that starts the runtime again, and must not end pods; may be given again for each further word [default: systemctl
    /// restart, with the unit of its process]
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    restart_command: Vec<String>,
    /// Image of the pods that try handlers
    #[arg(long, value_name = "IMAGE")]
    proof_image: String,
    /// Their command, which writes what it sees to /dev/termination-log; may be given again for each further word [default:
    /// berth installer probe]
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    proof_command: Vec<String>,
    /// How long such a pod may take
    #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = seconds)]
    proof_timeout: Duration,
    /// How often a handler that works is tried again
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = seconds)]
    proof_period: Duration,
    /// How often the node's files are looked at
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = seconds)]
    look_period: Duration,
    /// Names of Secrets with credentials for that image's registry, with spaces between them
    #[arg(
        long,
        value_name = "NAMES",
        env = "PROOF_PULL_SECRETS",
        default_value = ""
    )]
    proof_pull_secrets: String,
    /// PriorityClass of these pods; none of the system's, for which the kubelet ends other pods [default: the cluster's default]
    #[arg(long, value_name = "NAME", env = "PROOF_PRIORITY_CLASS", value_parser = proof_priority)]
    proof_priority_class: Option<String>,
    /// How many nodes start their runtimes again at the same time; the others wait
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    max_restarting: u32,
    /// Name of the installer's own pod, which then owns those that try handlers
    #[arg(long, value_name = "NAME", env = "POD_NAME", requires = "pod_uid")]
    pod_name: Option<String>,
    /// Its uid
    #[arg(long, value_name = "UID", env = "POD_UID")]
    pod_uid: Option<String>,
}

#[derive(Debug, Args)]
struct ClassesArgs {
    #[command(flatten)]
    list: ListArgs,
    /// How often nodes are looked at
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = seconds)]
    look_period: Duration,
    /// Labels of the pods of nodes' programs (a=b,c=d): nodes that have none for a while lose the labels of handlers [default:
    /// nobody looks]
    #[arg(long, value_name = "LABELS")]
    program_labels: Option<String>,
    /// How long a node may have none
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = seconds)]
    program_away: Duration,
}

#[derive(Debug, Args)]
struct UninstallArgs {
    #[command(flatten)]
    list: ListArgs,
    /// How long to wait; nodes that have not been ready for 45 s are named, and not waited for
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = seconds)]
    wait: Duration,
}

#[derive(Debug, Args)]
struct ProbeArgs {
    /// Where it is written to
    #[arg(long, value_name = "FILE", default_value = "/dev/termination-log")]
    to: PathBuf,
}

impl InstallerCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Node(args) => args.run().await,
            Command::Classes(args) => {
                let client = args.list.client().await?;
                let ListArgs {
                    namespace,
                    config_map,
                    ..
                } = &args.list;
                classes::run(
                    client,
                    namespace,
                    config_map,
                    args.look_period,
                    args.program_labels.clone().map(|labels| Programs {
                        labels,
                        away: args.program_away,
                    }),
                    on_signal()?,
                )
                .await
            }
            Command::Uninstall(args) => {
                let client = args.list.client().await?;
                uninstall::run(
                    client,
                    &args.list.namespace,
                    &args.list.config_map,
                    args.wait,
                )
                .await
            }
            Command::Probe(args) => probe(&args),
        }
    }
}

impl NodeArgs {
    async fn run(self) -> anyhow::Result<()> {
        super::up::require_root("berth installer node")?;
        ensure!(
            self.host_dir.is_absolute() && self.host_root.is_absolute(),
            "--host-root and --host-dir must be absolute paths"
        );
        let client = self.list.client().await?;
        let words = ["/usr/bin/berth", "installer", "probe"]
            .map(str::to_owned)
            .to_vec();
        let command = if self.proof_command.is_empty() {
            words
        } else {
            self.proof_command
        };
        let ListArgs {
            namespace,
            config_map,
            ..
        } = self.list;
        let owner = self.pod_name.zip(self.pod_uid);
        let shutdown = on_signal()?;
        let prover = Prover {
            client: client.clone(),
            node: self.node_name.clone(),
            namespace: namespace.clone(),
            owner,
            image: self.proof_image,
            command,
            pull_secrets: self
                .proof_pull_secrets
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            priority_class: self.proof_priority_class,
            limit: self.proof_timeout,
            shutdown: shutdown.clone(),
        };
        let restart = if self.restart_command.is_empty() {
            Restart::Unit
        } else {
            Restart::Command(self.restart_command)
        };
        let config = Config {
            client,
            node: self.node_name,
            namespace,
            config_map,
            host: Host::new(&self.host_root),
            dir: self.host_dir,
            socket: self.cri_socket,
            config: self.runtime_config,
            restart,
            prover,
            period: self.proof_period,
            look: self.look_period,
            max_restarting: self.max_restarting,
        };
        node::run(config, shutdown).await
    }
}

/// A class for pods that try handlers.
fn proof_priority(name: &str) -> Result<String, String> {
    if name.starts_with("system-") {
        return Err(
            "the kubelet ends other pods for those of a system- class: name another".to_owned(),
        );
    }
    Ok(name.to_owned())
}

/// What a pod sees of its kernel.
fn probe(args: &ProbeArgs) -> anyhow::Result<()> {
    let version = std::fs::read_to_string("/proc/version").context("cannot read /proc/version")?;
    print!("{version}");
    std::fs::write(&args.to, &version)
        .with_context(|| format!("cannot write {}", args.to.display()))
}

/// Cancelled by SIGTERM or SIGINT.
fn on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(token)
}
