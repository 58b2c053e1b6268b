//! Claims for devices that others use: only in namespaces that an administrator has marked for it.

use berth_api::status::{ApiError, Subject};
use berth_rules::kinds::resource_claim::wants_admin_access;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::resource::v1::ResourceClaimSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::strategy::Cluster;

const LABEL: &str = "resource.kubernetes.io/admin-access";

/// Refuses admin access where the namespace isn't marked.
///
/// # Errors
/// `Forbidden`, or that the namespace cannot be read.
pub(super) fn check(
    metadata: &ObjectMeta,
    spec: &ResourceClaimSpec,
    resource: &str,
    cluster: Cluster<'_>,
) -> Result<(), ApiError> {
    if !wants_admin_access(spec) {
        return Ok(());
    }
    let name = metadata.namespace.as_deref().unwrap_or_default();
    let namespace: Option<Namespace> = cluster.storage.read("core/namespaces", "", name)?;
    let labels = namespace
        .and_then(|n| n.metadata.labels)
        .unwrap_or_default();
    if labels.get(LABEL).is_some_and(|value| value == "true") {
        return Ok(());
    }
    let object = metadata.name.clone().unwrap_or_default();
    Err(ApiError::Forbidden {
        subject: Subject::new("resource.k8s.io", resource, &*object),
        message: format!(
            "admin access to devices requires the `{LABEL}: true` label on the containing namespace"
        ),
    })
}
