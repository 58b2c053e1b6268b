//! Deletion of namespaces: everything inside goes first, then the finalizer `kubernetes`.
//!
//! The server sets the deletion timestamp; this task deletes what the discovery says can be in a
//! namespace, waits while objects with finalizers or a grace period linger, and then takes its finalizer off.

use berth_supervise::Brief;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::discovery::{ApiResource, Scope, verbs};
use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::Reflected;
use crate::server::{discovery, is_code};

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
            match empty(&client, namespace).await {
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
    let mut left = 0;
    for resource in namespaced(client).await? {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name, &resource);
        let found = match api.list_metadata(&ListParams::default()).await {
            Ok(list) => list.items,
            Err(error) if is_code(&error, &[403, 404, 405]) => continue,
            Err(error) => return Err(error),
        };
        if found.is_empty() {
            continue;
        }
        left += found.len();
        debug!(
            namespace = name,
            kind = resource.kind,
            count = found.len(),
            "emptying"
        );
        if found
            .iter()
            .any(|object| object.metadata.deletion_timestamp.is_none())
        {
            api.delete_collection(&DeleteParams::background(), &ListParams::default())
                .await?;
        }
    }
    if left > 0 {
        return Ok(false);
    }
    finalize(client, namespace).await?;
    info!(namespace = name, "the namespace is empty and goes");
    Ok(true)
}

/// Every kind that can be in a namespace, listed and deleted.
async fn namespaced(client: &Client) -> kube::Result<Vec<ApiResource>> {
    let discovery = discovery(client).await?;
    Ok(discovery
        .groups()
        .flat_map(|group| group.recommended_resources())
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
