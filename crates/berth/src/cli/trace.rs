//! `berth trace POD`: where the time of a pod's start went, as its node noted it.

pub(super) mod ask;
mod chart;

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::access::AccessArgs;

/// The chart's width where nobody says how wide the terminal is.
const WIDTH: usize = 100;

#[derive(Debug, clap::Args)]
pub(super) struct TraceArgs {
    /// The pod
    #[arg(value_name = "POD")]
    pod: String,
    /// Its namespace
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// The node that it ran on, for a pod that is deleted [default: where it is bound]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// How it is printed
    #[arg(short, long, value_enum, default_value = "chart")]
    output: Output,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Chart,
    Json,
}

impl TraceArgs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.access.client().await?;
        let (node, uid) = match &self.node {
            Some(node) => (node.clone(), None),
            None => {
                self.bound(Api::namespaced(client.clone(), &self.namespace))
                    .await?
            }
        };
        let report = ask::ask(&client, &node, &self.namespace, &self.pod, uid.as_deref());
        let report = report.await.with_context(|| {
            format!("cannot get the report of the pod's start from node {node:?}")
        })?;
        let text = match self.output {
            Output::Json => format!("{}\n", serde_json::to_string_pretty(&report)?),
            Output::Chart => chart::render(&report, width()),
        };
        write!(std::io::stdout().lock(), "{text}").context("cannot write to standard output")
    }

    /// The pod's node, and its UID.
    async fn bound(&self, pods: Api<Pod>) -> anyhow::Result<(String, Option<String>)> {
        let found = pods.get_opt(&self.pod).await;
        let found = found.with_context(|| format!("cannot read pod {:?}", self.pod))?;
        let Some(pod) = found else {
            bail!(
                "pods {:?} not found; if it was deleted, name the node that it ran on (--node NAME)",
                self.pod
            );
        };
        let node = pod.spec.and_then(|spec| spec.node_name);
        let Some(node) = node.filter(|node| !node.is_empty()) else {
            bail!(
                "pod {:?} is not bound to a node yet (kubectl describe pod {} says why)",
                self.pod,
                self.pod
            );
        };
        Ok((node, pod.metadata.uid))
    }
}

/// Of the terminal, or as `COLUMNS` says.
fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok();
    if let Some(columns) = columns.and_then(|text| text.parse().ok()) {
        return columns;
    }
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return WIDTH;
    }
    // SAFETY: winsize is four numbers, for which zero is a value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes a winsize to where this one is.
    let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    match usize::from(size.ws_col) {
        0 => WIDTH,
        _ if done != 0 => WIDTH,
        columns => columns,
    }
}
