//! An empty list, and the wait until it holds everywhere: what Helm runs before it deletes the rest.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail};
use berth_installer::removal::{self, left};
use berth_installer::report::LABEL_PREFIX;
use berth_installer::wanted::KEY;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::classes;
use super::code::is_code;

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
    loop {
        let all = nodes
            .list(&ListParams::default())
            .await
            .context("cannot list nodes")?;
        let all: Vec<removal::Node> = all.items.iter().map(seen).collect();
        let found = left(&all);
        for node in found.away {
            if away.insert(node.clone()) {
                hide(&nodes, &node).await?;
                println!(
                    "Node {node} is not ready and is not waited for: its labels are gone, its files stay until the installer runs there again."
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

fn seen(node: &Node) -> removal::Node {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    removal::Node {
        name: node.name_any(),
        is_ready: conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
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

/// Takes a node's labels, so that nothing is sent there when it comes back.
async fn hide(nodes: &Api<Node>, name: &str) -> anyhow::Result<()> {
    let Some(node) = nodes
        .get_opt(name)
        .await
        .with_context(|| format!("cannot read node {name:?}"))?
    else {
        return Ok(());
    };
    let labels = node
        .labels()
        .keys()
        .filter(|label| label.starts_with(LABEL_PREFIX));
    let gone: serde_json::Map<String, Value> =
        labels.map(|label| (label.clone(), Value::Null)).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let change = json!({"metadata": {"labels": gone}});
    let patched = nodes
        .patch_metadata(name, &PatchParams::default(), &Patch::Merge(&change))
        .await;
    patched
        .map(drop)
        .with_context(|| format!("cannot change node {name:?}"))
}
