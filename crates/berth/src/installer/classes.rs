//! The RuntimeClasses, by one program of the cluster: nodes' own accounts have no rights on them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use berth_installer::classes::{Cluster, Step, is_ours, steps};
use berth_installer::report::LABEL_PREFIX;
use berth_installer::wanted::Handler;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::code::is_code;
use super::list::{self, List};

/// Objects of one page of a list.
const PAGE: u32 = 500;

/// Runs until `shutdown`.
///
/// # Errors
/// None: what fails is logged, and tried again.
pub(crate) async fn run(
    client: Client,
    namespace: &str,
    config_map: &str,
    look: Duration,
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
    while !shutdown.is_cancelled() {
        let known = list.borrow_and_update().clone();
        match known {
            List::Unknown => {}
            List::Unusable(reason) => warn!(reason, "RuntimeClasses stay as they are"),
            List::Handlers(handlers) => {
                let advertised = advertised(&client).await;
                let done = match advertised {
                    Ok(advertised) => settle(&client, &handlers, advertised).await,
                    Err(error) => Err(error),
                };
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
            }
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

/// The handlers that a node advertises.
async fn advertised(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut found = BTreeSet::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = nodes
            .list_metadata(&page)
            .await
            .context("cannot list nodes")?;
        for node in &list.items {
            let labels = node.labels().iter();
            let names = labels
                .filter_map(|(label, value)| Some((label.strip_prefix(LABEL_PREFIX)?, value)));
            found.extend(
                names
                    .filter(|(_, value)| *value == "true")
                    .map(|(name, _)| name.to_owned()),
            );
        }
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
