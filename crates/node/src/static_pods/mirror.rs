//! Mirror pods: what the API shows of static pods. They are made and replaced by the node, and nothing is run for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use berth_supervise::{Brief, Outage};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::manifest::HASH;
use super::seen::{MIRROR, full_name};
use crate::agent::Agent;
use crate::pods::PodHandle;
use crate::writes;

/// What failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(5);
/// An API server that takes longer does not answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Keeps a mirror for each static pod, and none for anything else, until `shutdown`. `read` says that the files were read
/// once: before that no mirror is known to be nobody's.
pub(crate) async fn keep(
    agent: Arc<Agent>,
    mut read: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    tokio::select! {
        () = shutdown.cancelled() => return,
        known = read.wait_for(|read| *read) => if known.is_err() { return },
    }
    let mut outage = Outage::new("cannot keep the mirror pods of static pods");
    loop {
        let mut again = Duration::from_secs(3600);
        match tokio::time::timeout(LIMIT, look(&agent)).await {
            Ok(Ok(())) => outage.works(),
            Ok(Err(error)) => {
                outage.failed(Brief(&error));
                again = RETRY;
            }
            Err(_) => {
                outage.failed("no answer in 30 s");
                again = RETRY;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = agent.mirrors.changed.notified() => {}
            () = tokio::time::sleep(again) => {}
        }
    }
}

async fn look(agent: &Agent) -> Result<(), kube::Error> {
    let Some(known) = agent.mirrors.known() else {
        return Ok(());
    };
    let statics: HashMap<(String, String), Arc<PodHandle>> = agent
        .handles()
        .into_iter()
        .filter(|h| h.is_static() && !h.is_gone())
        .map(|h| {
            let name = full_name(&h.pod.borrow());
            (name, h)
        })
        .collect();
    let mut last = Ok(());
    for (name, mirror) in &known {
        let of = statics.get(name).filter(|h| mirrors(mirror, h));
        match of {
            Some(handle) => show(handle, Some(mirror)),
            None => {
                if let Err(error) = delete(agent, mirror).await {
                    last = Err(error);
                }
            }
        }
    }
    for (name, handle) in &statics {
        if known
            .get(name)
            .is_some_and(|mirror| mirrors(mirror, handle))
        {
            continue;
        }
        show(handle, None);
        // While another one has the name, its deletion is awaited.
        if !known.contains_key(name)
            && let Err(error) = create(agent, handle).await
        {
            last = Err(error);
        }
    }
    last
}

/// It is this one's, and is to stay.
fn mirrors(mirror: &Pod, handle: &PodHandle) -> bool {
    let annotation = |key: &str| mirror.metadata.annotations.as_ref()?.get(key);
    mirror.metadata.deletion_timestamp.is_none()
        && annotation(MIRROR) == Some(&handle.uid)
        && annotation(HASH) == Some(&handle.uid)
}

/// Where the pod's status is written from now on.
fn show(handle: &PodHandle, mirror: Option<&Arc<Pod>>) {
    let Some(sender) = &handle.mirror else { return };
    let uid = |pod: Option<&Arc<Pod>>| pod.and_then(|pod| pod.metadata.uid.clone());
    sender.send_if_modified(|old| {
        if uid(old.as_ref()) == uid(mirror) {
            return false;
        }
        *old = mirror.cloned();
        true
    });
}

fn api(agent: &Agent, pod: &Pod) -> Api<Pod> {
    let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
    Api::namespaced(agent.config.client.clone(), ns)
}

async fn delete(agent: &Agent, mirror: &Pod) -> Result<(), kube::Error> {
    let name = mirror.metadata.name.as_deref().unwrap_or_default();
    let params = DeleteParams::default()
        .grace_period(0)
        .preconditions(Preconditions {
            uid: mirror.metadata.uid.clone(),
            resource_version: None,
        });
    match api(agent, mirror).delete(name, &params).await {
        Ok(_) => {
            info!(pod = name, "mirror pod deleted");
            Ok(())
        }
        Err(kube::Error::Api(s)) if s.code == 404 || s.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

async fn create(agent: &Agent, handle: &PodHandle) -> Result<(), kube::Error> {
    let node = agent.node.borrow().clone();
    let Some(uid) = node.and_then(|node| node.metadata.uid.clone()) else {
        return Ok(());
    };
    let mirror = mirror_of(&handle.pod.borrow(), &agent.config.node_name, uid);
    let name = mirror.metadata.name.clone().unwrap_or_default();
    match api(agent, &mirror).create(&writes::create(), &mirror).await {
        Ok(created) => {
            info!(pod = name, "mirror pod created");
            // Before the watch shows it nobody is to make it once more.
            agent.mirrors.seen(created);
            Ok(())
        }
        // That it exists is an error, too: then a pod of somebody's has the name, and the static one runs unseen.
        Err(error) => Err(error),
    }
}

/// The static pod as the API may have it: owned by its node, without what the API gives by itself.
fn mirror_of(pod: &Pod, node: &str, node_uid: String) -> Pod {
    let mut mirror = pod.clone();
    let meta = &mut mirror.metadata;
    let hash = meta.uid.take().unwrap_or_default();
    meta.annotations
        .get_or_insert_default()
        .insert(MIRROR.to_owned(), hash);
    meta.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: node_uid,
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror.status = None;
    if let Some(spec) = &mut mirror.spec {
        // The server knows it by the class.
        spec.priority = None;
    }
    mirror
}
