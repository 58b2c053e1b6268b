//! `berth overhead CLASS`: what `overhead.podFixed` of a RuntimeClass would have to be, by what nodes have measured.

mod proposed;
mod table;
pub(super) mod yaml;

use std::io::Write as _;

use anyhow::{Context as _, bail};
use berth_controllers::class_overhead::{AskError, ask};
use berth_cost::{ClassReport, NodeReport};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::access::AccessArgs;

/// So many nodes are asked at a time.
const AT_A_TIME: usize = 16;

#[derive(Debug, clap::Args)]
pub(super) struct OverheadArgs {
    /// The RuntimeClass
    #[arg(value_name = "CLASS")]
    class: String,
    /// Only what these nodes have measured (may be repeated)
    #[arg(long = "node", value_name = "NAME")]
    nodes: Vec<String>,
    /// How it is printed; yaml and json have the class with the proposal, and the evidence
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Yaml,
    Json,
}

/// What one node has measured of the class, or why there is nothing.
struct Evidence {
    node: String,
    report: Result<ClassReport, String>,
}

impl OverheadArgs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = self.access.client().await?;
        let classes: Api<RuntimeClass> = Api::all(client.clone());
        let class = classes.get_opt(&self.class).await;
        let class = class.with_context(|| format!("cannot read RuntimeClass {:?}", self.class))?;
        let Some(class) = class else {
            bail!("runtimeclasses.node.k8s.io {:?} not found", self.class);
        };
        let nodes = self.chosen(Api::all(client.clone())).await?;
        let asked = futures::stream::iter(nodes).map(|node| {
            let (client, class) = (&client, &class);
            async move { evidence(ask(client, &node).await, node, class) }
        });
        let mut all: Vec<Evidence> = asked.buffer_unordered(AT_A_TIME).collect().await;
        all.sort_by(|a, b| a.node.cmp(&b.node));
        let text = match self.output {
            Output::Table => table::render(&class, &all)?,
            Output::Json => {
                let document = proposed::document(&class, &all)?;
                format!("{}\n", serde_json::to_string_pretty(&document)?)
            }
            Output::Yaml => yaml::render(&proposed::document(&class, &all)?),
        };
        write!(std::io::stdout().lock(), "{text}").context("cannot write to standard output")
    }

    async fn chosen(&self, nodes: Api<Node>) -> anyhow::Result<Vec<String>> {
        let list = nodes
            .list(&ListParams::default())
            .await
            .context("cannot list the nodes")?;
        let names: Vec<String> = list.items.iter().map(|node| node.name_any()).collect();
        if self.nodes.is_empty() {
            return Ok(names);
        }
        for node in &self.nodes {
            anyhow::ensure!(names.contains(node), "nodes {node:?} not found");
        }
        Ok(self.nodes.clone())
    }
}

fn evidence(answer: Result<NodeReport, AskError>, node: String, class: &RuntimeClass) -> Evidence {
    let name = class.name_any();
    let report = answer
        .map_err(|error| error.to_string())
        .and_then(|report| {
            let mut classes = report.classes.into_iter();
            classes
                .find(|c| c.runtime_class == name && c.handler == class.handler)
                .ok_or_else(|| "no sandbox of this class was measured".to_owned())
        });
    Evidence { node, report }
}
