//! What several controllers ask of the API server, and how they read its refusals.

use std::fmt::Debug;

use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::discovery::Discovery;
use kube::{Client, Resource, ResourceExt as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// All that means something in a URL, or might.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A name as a part of a request's path, which kube's client takes as it is: `a/proxy/b` and `a?watch=1` would be requests
/// for something else. Nothing for what can't be an object's name.
pub(crate) fn path_segment(name: &str) -> Option<String> {
    let impossible = ["", ".", ".."].contains(&name) || name.contains(['/', '%']);
    (!impossible).then(|| utf8_percent_encode(name, ESCAPED).to_string())
}

/// The resources that the server has: aggregated, or group by group where it has only that.
pub(crate) async fn discovery(client: &Client) -> kube::Result<Discovery> {
    match Discovery::new(client.clone()).run_aggregated().await {
        Err(error) if is_code(&error, &[404, 406]) => Discovery::new(client.clone()).run().await,
        other => other,
    }
}

/// Whether the server refused with one of these HTTP status codes.
pub(crate) fn is_code(error: &kube::Error, codes: &[u16]) -> bool {
    matches!(error, kube::Error::Api(status) if codes.contains(&status.code))
}

/// Deletes this object, and no other that has its name by then.
pub(crate) fn only(meta: &ObjectMeta) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: meta.uid.clone(),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    }
}

/// Deletes this object, if it is still in the state in which it was read.
pub(crate) fn only_unchanged(meta: &ObjectMeta) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
        }),
        ..DeleteParams::default()
    }
}

/// Writes the status of an object, if the object is still as it was read.
///
/// # Errors
/// Also when it has changed since, or is gone.
pub(crate) async fn write_status<K>(client: &Client, object: &K) -> kube::Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    api.replace_status(&object.name_any(), &PostParams::default(), object)
        .await
}
