//! The RuntimeClasses, by one program of the cluster: nodes' own accounts have no rights on them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use berth_installer::classes::{Cluster, Step, is_ours, steps};
use berth_installer::report::LABEL_PREFIX;
use berth_installer::stale::Stale;
use berth_installer::wanted::Handler;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::code::is_code;
use super::labels;
use super::list::{self, List};

/// Objects of one page of a list.
const PAGE: u32 = 500;

/// The pods of nodes' programs. Nodes without one lose their labels: nobody tries their handlers any more.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// Their labels: `a=b,c=d`.
    pub(crate) labels: String,
    /// How long a node may be without one.
    pub(crate) away: Duration,
}

/// Runs until `shutdown`.
///
/// # Errors
/// None: what fails is logged, and tried again.
pub(crate) async fn run(
    client: Client,
    namespace: &str,
    config_map: &str,
    look: Duration,
    programs: Option<Programs>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (sender, mut list) = watch::channel(List::default());
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let follower = tokio::spawn(list::follow(
        maps,
        config_map.to_owned(),
        sender,
        shutdown.clone(),
    ));
    let mut told = BTreeSet::new();
    let (mut stale, start) = (Stale::default(), Instant::now());
    while !shutdown.is_cancelled() {
        let known = list.borrow_and_update().clone();
        let handlers = match known {
            List::Unknown => None,
            List::Unusable(reason) => {
                warn!(reason, "RuntimeClasses stay as they are");
                None
            }
            List::Handlers(handlers) => Some(handlers),
        };
        let done = async {
            let labelled = labelled(&client).await?;
            // Whatever the list says.
            if let Some(programs) = &programs {
                let with = programs_nodes(&client, namespace, &programs.labels).await?;
                let nodes = labelled.keys().cloned().collect();
                for node in stale.of(&nodes, &with, programs.away, start.elapsed()) {
                    labels::hide(&client, &node, true).await?;
                    warn!(
                        node,
                        "the installer's program does not run on this node any more: its labels are gone, its files stay"
                    );
                }
            }
            let Some(handlers) = handlers else {
                return Ok(Vec::new());
            };
            let advertised = labelled.into_values().flatten().collect();
            settle(&client, &handlers, advertised).await
        };
        let done: anyhow::Result<Vec<String>> = done.await;
        match done {
            Ok(problems) => {
                for problem in problems {
                    if told.insert(problem.clone()) {
                        warn!("{problem}");
                    }
                }
            }
            Err(error) => warn!(
                error = format!("{error:#}"),
                "cannot look after the RuntimeClasses"
            ),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            changed = list.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(look) => {}
        }
    }
    follower.abort();
    Ok(())
}

/// The handlers that nodes advertise, by node.
async fn labelled(client: &Client) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut found = BTreeMap::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = nodes
            .list_metadata(&page)
            .await
            .context("cannot list nodes")?;
        for node in &list.items {
            let labels = node.labels().iter();
            let names: BTreeSet<String> = labels
                .filter(|(_, value)| *value == "true")
                .filter_map(|(label, _)| label.strip_prefix(LABEL_PREFIX))
                .map(str::to_owned)
                .collect();
            if !names.is_empty() {
                found.insert(node.name_any(), names);
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// The nodes on which the installer's program has a pod that has not ended.
async fn programs_nodes(
    client: &Client,
    namespace: &str,
    labels: &str,
) -> anyhow::Result<BTreeSet<String>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut found = BTreeSet::new();
    let mut page = ListParams::default()
        .limit(PAGE)
        .labels(labels)
        .fields("status.phase!=Succeeded,status.phase!=Failed");
    loop {
        let list = pods
            .list(&page)
            .await
            .context("cannot list the pods of nodes' programs")?;
        let nodes = list.items.into_iter().filter_map(|pod| pod.spec?.node_name);
        found.extend(nodes);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Makes the classes what they should be; answers what keeps it from doing so.
///
/// # Errors
/// When the API server doesn't let it.
pub(crate) async fn settle(
    client: &Client,
    handlers: &[Handler],
    advertised: BTreeSet<String>,
) -> anyhow::Result<Vec<String>> {
    let api: Api<RuntimeClass> = Api::all(client.clone());
    let classes = api
        .list(&ListParams::default())
        .await
        .context("cannot list RuntimeClasses")?
        .items;
    let (steps, mut problems) = steps(&Cluster {
        wanted: handlers,
        advertised,
        classes: &classes,
    });
    let params = PostParams {
        field_manager: Some("berth-installer".to_owned()),
        ..PostParams::default()
    };
    for step in steps {
        match step {
            Step::Make(class) => match api.create(&params, &class).await {
                Ok(_) => info!(
                    class = class.name_any(),
                    handler = class.handler,
                    "made a RuntimeClass"
                ),
                Err(error) if is_code(&error, 409) => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("cannot make RuntimeClass {:?}", class.name_any())
                    });
                }
            },
            Step::Change(class) => match api.replace(&class.name_any(), &params, &class).await {
                Ok(_) => info!(class = class.name_any(), "changed a RuntimeClass"),
                Err(error) if is_code(&error, 409) || is_code(&error, 404) => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("cannot change RuntimeClass {:?}", class.name_any())
                    });
                }
            },
            Step::Remove(class) => {
                let name = class.name_any();
                if let Some(pod) = user(client, &name).await? {
                    problems.push(format!(
                        "RuntimeClass {name:?} stays while pods use it: {pod}"
                    ));
                    continue;
                }
                let only = DeleteParams::default().preconditions(Preconditions {
                    uid: class.uid(),
                    resource_version: class.resource_version(),
                });
                match api.delete(&name, &only).await {
                    Ok(_) => info!(class = name, "removed a RuntimeClass that nothing uses"),
                    Err(error) if is_code(&error, 409) || is_code(&error, 404) => {}
                    Err(error) => {
                        return Err(error)
                            .with_context(|| format!("cannot remove RuntimeClass {name:?}"));
                    }
                }
            }
        }
    }
    Ok(problems)
}

/// The classes that are the installer's.
pub(crate) async fn ours(client: &Client) -> anyhow::Result<Vec<String>> {
    let api: Api<RuntimeClass> = Api::all(client.clone());
    let classes = api
        .list(&ListParams::default())
        .await
        .context("cannot list RuntimeClasses")?;
    Ok(classes
        .items
        .iter()
        .filter(|class| is_ours(class))
        .map(|class| class.name_any())
        .collect())
}

/// A pod that has not ended and names the class.
async fn user(client: &Client, class: &str) -> anyhow::Result<Option<String>> {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut page = ListParams::default()
        .limit(PAGE)
        .fields("status.phase!=Succeeded,status.phase!=Failed");
    loop {
        let list = pods.list(&page).await.context("cannot list pods")?;
        let user = list.items.iter().find(|pod| {
            pod.spec
                .as_ref()
                .and_then(|spec| spec.runtime_class_name.as_deref())
                == Some(class)
        });
        if let Some(pod) = user {
            return Ok(Some(format!(
                "{}/{}",
                pod.namespace().unwrap_or_default(),
                pod.name_any()
            )));
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(None),
        }
    }
}
