//! Deletion of namespaces: everything inside goes first, then the finalizer `kubernetes`.
//!
//! The server sets the deletion timestamp; this task deletes what the discovery says can be in a
//! namespace, waits while objects with finalizers or a grace period linger, and then takes its finalizer off.

mod conditions;

use std::time::Duration;

use berth_supervise::Brief;
use berth_supervise::measures::WorkQueue;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams, PostParams,
};
use kube::discovery::{ApiResource, Scope, verbs};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::conditions::Content;
use crate::Reflected;
use crate::server::{discovery, is_code};

const MEASURES: WorkQueue = WorkQueue::new("namespace");
const FINALIZER: &str = "kubernetes";
const PERIOD: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(500);

/// Runs until `shutdown`.
pub async fn run(
    client: Client,
    mut namespaces: Reflected<Namespace>,
    shutdown: CancellationToken,
) {
    loop {
        let mut lingering = false;
        for namespace in namespaces.all().iter().filter(|ns| is_leaving(ns)) {
            match MEASURES.look(empty(&client, namespace)).await {
                Ok(true) => {}
                Ok(false) => lingering = true,
                Err(error) => {
                    lingering = true;
                    warn!(namespace = namespace.name_any(), error = %Brief(&error), "cannot empty the namespace yet");
                }
            }
        }
        let period = if lingering { AGAIN } else { PERIOD };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = async {
                // While something lingers the pause is what paces the tries, not the changes.
                if lingering { tokio::time::sleep(period).await } else { namespaces.changed_or(period).await }
            } => {}
        }
    }
}

fn is_leaving(namespace: &Namespace) -> bool {
    let finalizers = namespace
        .spec
        .as_ref()
        .and_then(|spec| spec.finalizers.as_deref());
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers.is_some_and(|all| all.iter().any(|name| name == FINALIZER))
}

/// Deletes what is in the namespace; true when nothing was left and the finalizer is off.
async fn empty(client: &Client, namespace: &Namespace) -> kube::Result<bool> {
    let name = namespace.name_any();
    let mut content = Content::default();
    match namespaced(client).await {
        Ok(resources) => {
            for resource in resources {
                empty_of(client, &name, &resource, &mut content).await;
            }
        }
        Err(error) => content.discovery = Some(Brief(&error).to_string()),
    }
    report(client, namespace, &content).await?;
    if !content.is_empty() {
        return Ok(false);
    }
    finalize(client, namespace).await?;
    info!(namespace = name, "the namespace is empty and goes");
    Ok(true)
}

/// Deletes the objects of one kind. One kind that can't be deleted does not keep the others.
async fn empty_of(client: &Client, namespace: &str, resource: &ApiResource, content: &mut Content) {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
    let kind = format!("{}.{}", resource.plural, resource.group);
    let found = match api.list_metadata(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(error) if is_code(&error, &[404, 405]) => return,
        Err(error) => {
            content.failures.push(format!("{kind}: {}", Brief(&error)));
            return;
        }
    };
    if found.is_empty() {
        return;
    }
    debug!(namespace, kind, count = found.len(), "emptying");
    for finalizer in found.iter().flat_map(kube::ResourceExt::finalizers) {
        *content.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    let fresh =
        |object: &PartialObjectMeta<DynamicObject>| object.metadata.deletion_timestamp.is_none();
    if found.iter().any(fresh)
        && let Err(error) = api
            .delete_collection(&DeleteParams::background(), &ListParams::default())
            .await
    {
        content.failures.push(format!("{kind}: {}", Brief(&error)));
    }
    content.remaining.insert(kind, found.len());
}

/// Writes the namespace's conditions when they say something else than before.
async fn report(client: &Client, namespace: &Namespace, content: &Content) -> kube::Result<()> {
    let before = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let conditions = content.conditions(before, jiff::Timestamp::now());
    // Before anything was found to wait for, nobody has to be told.
    if conditions == before || (before.is_empty() && content.is_empty()) {
        return Ok(());
    }
    let api: Api<Namespace> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"status": {"conditions": conditions}}));
    match api
        .patch_status(&namespace.name_any(), &PatchParams::default(), &patch)
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_code(&error, &[404, 409]) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Every kind that can be in a namespace, listed and deleted.
async fn namespaced(client: &Client) -> kube::Result<Vec<ApiResource>> {
    let discovery = discovery(client).await?;
    Ok(discovery
        .groups()
        // A kind may be in another version than the one that its group prefers.
        .flat_map(|group| group.resources_by_stability())
        .filter(|(resource, can)| {
            can.scope == Scope::Namespaced
                && can.supports_operation(verbs::LIST)
                && can.supports_operation(verbs::DELETE_COLLECTION)
                // Events go last, with the namespace: what happens during the deletion writes more.
                && !(resource.kind == "Event" && resource.group == "events.k8s.io")
        })
        .map(|(resource, _)| resource)
        .collect())
}

async fn finalize(client: &Client, namespace: &Namespace) -> kube::Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let name = namespace.name_any();
    let mut body = namespace.clone();
    if let Some(all) = body.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        all.retain(|finalizer| finalizer != FINALIZER);
    }
    // The copy at hand has no managed fields; a stale one is refused and tried again.
    body.metadata.managed_fields = None;
    match api
        .replace_subresource::<Namespace>("finalize", &name, &PostParams::default(), &body)
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_code(&error, &[404, 409]) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::NamespaceSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn only_a_deleted_namespace_that_we_hold_is_ours() {
        let mut namespace = Namespace {
            spec: Some(NamespaceSpec {
                finalizers: Some(vec![FINALIZER.into()]),
            }),
            ..Namespace::default()
        };
        assert!(!is_leaving(&namespace), "nobody deleted it");
        namespace.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        assert!(is_leaving(&namespace));
        namespace.spec = Some(NamespaceSpec {
            finalizers: Some(vec!["example.com/mine".into()]),
        });
        assert!(!is_leaving(&namespace), "another holds it");
    }
}
