//! An empty list, and the wait until it holds everywhere: what Helm runs before it deletes the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use berth_installer::removal::{self, AWAY, left};
use berth_installer::report::LABEL_PREFIX;
use berth_installer::wanted::KEY;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::classes;
use super::code::is_code;
use super::labels::hide;

const LOOK: Duration = Duration::from_secs(1);
/// What is not done is said this often.
const TELL: Duration = Duration::from_secs(15);

/// Empties the list and waits until no node has anything of the installer's any more, at most this long.
///
/// # Errors
/// When that takes longer, with the nodes and the reasons.
pub(crate) async fn run(
    client: Client,
    namespace: &str,
    config_map: &str,
    limit: Duration,
) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let empty = json!({"data": {KEY: "[]\n"}});
    match maps
        .patch(config_map, &PatchParams::default(), &Patch::Merge(&empty))
        .await
    {
        Ok(_) => println!("The list of handlers is empty; waiting for the nodes."),
        // Nodes change nothing when it is not there.
        Err(error) if is_code(&error, 404) => bail!(
            "there is no ConfigMap {namespace}/{config_map}: make one with `{KEY}: \"[]\"`, so that the nodes know that nothing is wanted"
        ),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot empty ConfigMap {namespace}/{config_map}"));
        }
    }
    let nodes: Api<Node> = Api::all(client.clone());
    let end = tokio::time::Instant::now() + limit;
    let mut told = tokio::time::Instant::now();
    let mut away = BTreeSet::new();
    // Since when nodes are seen not to be ready.
    let mut unready: BTreeMap<String, tokio::time::Instant> = BTreeMap::new();
    loop {
        let all = nodes
            .list(&ListParams::default())
            .await
            .context("cannot list nodes")?;
        let now = tokio::time::Instant::now();
        let since: BTreeMap<String, tokio::time::Instant> = all
            .items
            .iter()
            .filter(|node| !is_ready(node))
            .map(|node| {
                let name = node.name_any();
                let since = unready.get(&name).copied().unwrap_or(now);
                (name, since)
            })
            .collect();
        unready = since;
        let all: Vec<removal::Node> = all
            .items
            .iter()
            .map(|node| seen(node, unready.get(&node.name_any()).copied()))
            .collect();
        let found = left(&all);
        for node in found.away {
            if away.insert(node.clone()) {
                hide(&client, &node, false).await?;
                println!(
                    "Node {node} has not been ready for a while and is not waited for: its labels are gone, its files stay until the installer runs there again."
                );
            }
        }
        // The program of the cluster may be gone already.
        let problems = classes::settle(&client, &[], advertised(&all)).await?;
        let classes = if found.waiting.is_empty() {
            classes::ours(&client).await?
        } else {
            Vec::new()
        };
        if found.waiting.is_empty() && classes.is_empty() {
            println!(
                "No node has anything of the installer's any more, and its RuntimeClasses are gone."
            );
            return Ok(());
        }
        let mut lines: Vec<String> = found
            .waiting
            .iter()
            .map(|(node, why)| format!("node {node}: {why}"))
            .collect();
        lines.extend(problems);
        if tokio::time::Instant::now() >= end {
            bail!(
                "not done after {} s:\n{}",
                limit.as_secs(),
                lines.join("\n")
            );
        }
        if told.elapsed() >= TELL {
            told = tokio::time::Instant::now();
            println!("Waiting for:\n{}", lines.join("\n"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn seen(node: &Node, unready: Option<tokio::time::Instant>) -> removal::Node {
    removal::Node {
        name: node.name_any(),
        is_away: unready.is_some_and(|since| since.elapsed() >= AWAY),
        labels: node.labels().clone(),
        annotations: node.annotations().clone(),
    }
}

fn advertised(nodes: &[removal::Node]) -> BTreeSet<String> {
    let labels = nodes.iter().flat_map(|node| node.labels.keys());
    labels
        .filter_map(|label| label.strip_prefix(LABEL_PREFIX))
        .map(str::to_owned)
        .collect()
}
