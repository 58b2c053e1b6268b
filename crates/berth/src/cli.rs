//! The command line.

mod access;
mod check;
mod classes;
mod columns;
mod cri;
mod generate;
mod image;
mod installer;
mod kubeconfig;
mod migrate;
mod node;
mod overhead;
mod plugin;
mod policy;
mod reset;
mod run;
mod server;
mod store;
mod token;
mod top;
mod trace;
mod up;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::logging::LogArgs;
use crate::memory;
use crate::service_manager;

/// How many threads run the daemons' tasks. They wait far more than they compute.
const WORKERS: usize = 2;

#[derive(Debug, Parser)]
#[command(
    name = "berth",
    version,
    about = "Kubernetes' RuntimeClass, whole, in one binary",
    long_about = "Kubernetes' RuntimeClass, whole, in one binary: an API server, a scheduler, a node agent and a \
                  container runtime. `berth up` runs them all on one machine; each also works alone in a stock \
                  cluster.",
    max_term_width = 110
)]
struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything for one machine: API server, scheduler, controllers, node agent and container runtime
    Up(Box<up::UpArgs>),
    /// The API server with scheduler and controllers
    Server(Box<server::ServerCommand>),
    /// The node agent (in the kubelet's place), with any CRI runtime
    Node(Box<node::NodeCommand>),
    /// The CRI runtime (in containerd's place), under any kubelet
    Cri(Box<cri::CriCommand>),
    /// One pod's supervisor, started by `berth cri`: containerd's shim v2 command line
    Shim,
    /// The OCI runtime inside berth: runc's command line, for machines without any runtime
    Oci,
    /// Images in the runtime's store
    Image(image::ImageCommand),
    /// Print a kubeconfig for a user or a node of the cluster in a data directory
    Kubeconfig(kubeconfig::KubeconfigArgs),
    /// Tokens with which machines join the cluster
    Token(token::TokenCommand),
    /// Find what will not work before it is applied: classes, pods, policies, quotas, node configurations
    Check(check::CheckArgs),
    /// RuntimeClasses: how many nodes can run each, why the others can't, and how many pods use it
    Classes(classes::ClassesArgs),
    /// Propose a RuntimeClass' overhead by what nodes have measured; for who may get nodes/proxy
    Overhead(overhead::OverheadArgs),
    /// Runtime handlers on the nodes of a stock cluster: registered, tried, advertised, and taken back
    Installer(installer::InstallerCommand),
    /// Policies of namespaces for API servers that are not berth's
    Policy(policy::PolicyCommand),
    /// Show where the time of a pod's start went; for who may get nodes/proxy
    Trace(trace::TraceArgs),
    /// Watch classes, nodes and pods: what each sandbox costs against what its class declares, and how long its start took
    Top(top::TopArgs),
    /// Run a program in a pod of its own, under a class, and show what it writes
    Run(Box<run::RunArgs>),
    /// Turn RuntimeClasses of v1alpha1 and v1beta1 into v1, in files or in a cluster
    Migrate(migrate::MigrateArgs),
    /// Back up, restore, check or move the cluster's objects
    Store(Box<store::StoreCommand>),
    /// Print a completion script: `source <(berth completion bash)`
    Completion(generate::CompletionArgs),
    /// Write man pages
    #[command(hide = true)]
    Man(generate::ManArgs),
    /// Kill the pods of a data directory and remove it with all its traces on this machine
    Reset(reset::ResetArgs),
}

/// Parses the command line and carries it out.
pub(crate) fn main() -> ExitCode {
    memory::be_frugal();
    service_manager::take_socket();
    match arguments().and_then(|arguments| run(Cli::parse_from(arguments))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("berth: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments, also where kubectl has called.
fn arguments() -> anyhow::Result<Vec<OsString>> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let program = arguments.first().map(Path::new);
    if !program.is_some_and(plugin::is_called_by) {
        return Ok(arguments);
    }
    plugin::arguments(arguments, plugin::kubectl_kubeconfig)
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    cli.log.start()?;
    // Several of our libraries bring rustls; they all use this one provider. A second call would
    // find it set, which is as good.
    let _already_set = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .thread_name("berth")
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Up(args) => args.run().await,
            Command::Server(args) => args.run().await,
            Command::Node(args) => args.run().await,
            Command::Cri(args) => args.run().await,
            Command::Image(args) => args.run().await,
            Command::Kubeconfig(args) => args.run(),
            Command::Token(args) => args.run().await,
            Command::Check(args) => return args.run().await,
            Command::Classes(args) => args.run().await,
            Command::Overhead(args) => args.run().await,
            Command::Installer(args) => args.run().await,
            Command::Policy(args) => args.run(),
            Command::Trace(args) => args.run().await,
            Command::Top(args) => args.run().await,
            Command::Run(args) => return args.run().await,
            Command::Migrate(args) => return args.run().await,
            Command::Store(args) => return args.run().await,
            Command::Completion(args) => args.run(),
            Command::Man(args) => args.run(),
            Command::Reset(args) => args.run().await,
            // `main` has handled it before it came here.
            Command::Shim | Command::Oci => Ok(()),
        }
        .map(|()| ExitCode::SUCCESS)
    });
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    result
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
