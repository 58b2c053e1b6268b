//! Labels of nodes where the installer's program does not run.

use anyhow::Context as _;
use berth_installer::report::{ANNOTATION, LABEL_PREFIX};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

/// Takes the labels of a node where no program does, so that nothing is sent there, and the annotation where none will be.
///
/// # Errors
/// When the API server doesn't let it.
pub(super) async fn hide(client: &Client, name: &str, with_annotation: bool) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
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
    let mut change = json!({"metadata": {"labels": gone}});
    if with_annotation {
        change["metadata"]["annotations"] = json!({ANNOTATION: null});
    }
    let patched = nodes
        .patch_metadata(name, &PatchParams::default(), &Patch::Merge(&change))
        .await;
    patched
        .map(drop)
        .with_context(|| format!("cannot change node {name:?}"))
}
