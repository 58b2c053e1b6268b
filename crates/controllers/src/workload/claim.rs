//! Adopting objects that a selector matches, and releasing those that it no longer does.

use std::fmt::Debug;
use std::sync::Arc;

use berth_core::selector::label_selector_matches;
use berth_workloads::owner::{Claim, claim, controller_reference};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Key;
use super::keyed::Keys;
use crate::Reflected;
use crate::server::is_code;

/// The objects among `all` that `owner` controls, after it took those that it should.
///
/// # Errors
/// When one could not be adopted or released.
pub(super) async fn claim_all<O, K>(
    client: &Client,
    owner: &O,
    selector: &LabelSelector,
    all: Vec<Arc<K>>,
) -> kube::Result<Vec<Arc<K>>>
where
    O: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + k8s_openapi::Resource
        + Clone
        + DeserializeOwned
        + Debug,
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let mut may_adopt = None;
    let mut owned = Vec::new();
    for object in all {
        match claim(owner.meta(), selector, object.meta()) {
            Claim::Owned => owned.push(object),
            Claim::Ignore => {}
            Claim::Adopt => {
                if may_adopt.is_none() {
                    may_adopt = Some(is_still_there(client, owner).await?);
                }
                if may_adopt == Some(true) {
                    owned.extend(adopt(client, owner, &*object).await?.map(Arc::new));
                }
            }
            Claim::Release => release(client, owner, &*object).await?,
        }
    }
    Ok(owned)
}

/// The watched copy may be old: an owner that is being deleted adopts nothing, its dependents are being collected.
async fn is_still_there<O>(client: &Client, owner: &O) -> kube::Result<bool>
where
    O: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let namespace = owner.namespace().unwrap_or_default();
    let api: Api<O> = Api::namespaced(client.clone(), &namespace);
    let live = api.get_opt(&owner.name_any()).await?;
    Ok(live.is_some_and(|live| {
        live.meta().uid == owner.meta().uid && live.meta().deletion_timestamp.is_none()
    }))
}

async fn adopt<O, K>(client: &Client, owner: &O, object: &K) -> kube::Result<Option<K>>
where
    O: Resource + k8s_openapi::Resource,
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let reference = controller_reference::<O>(owner.meta());
    let patch = json!({"metadata": {"ownerReferences": [reference], "uid": object.meta().uid}});
    send(client, object, patch).await
}

async fn release<O, K>(client: &Client, owner: &O, object: &K) -> kube::Result<()>
where
    O: Resource,
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let gone = json!({"$patch": "delete", "uid": owner.meta().uid});
    let patch = json!({"metadata": {"ownerReferences": [gone], "uid": object.meta().uid}});
    send(client, object, patch).await.map(drop)
}

/// Nothing when the object is gone, or another one has its name.
async fn send<K>(client: &Client, object: &K, patch: serde_json::Value) -> kube::Result<Option<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let params = PatchParams::default();
    match api
        .patch(&object.name_any(), &params, &Patch::Strategic(patch))
        .await
    {
        Ok(object) => Ok(Some(object)),
        // 422: another controller adopted it, or the UID is another one's.
        Err(error) if is_code(&error, &[404, 409, 422]) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Has those look at a pod without a controller that may adopt it.
pub(super) fn wake_for_orphan<K>(
    keys: &Keys,
    known: &Reflected<K>,
    pod: &Pod,
    selector: impl Fn(&K) -> Option<&LabelSelector>,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for object in known.in_namespace(namespace) {
        let matches = selector(&object)
            .is_some_and(|selector| label_selector_matches(selector, pod.metadata.labels.as_ref()));
        if matches {
            keys.add(&Key::of(&*object));
        }
    }
}
