//! NamespaceLifecycle: nothing new in namespaces that do not exist or are going, and the
//! namespaces that a cluster cannot be without stay.

use berth_api::status::{ApiError, Subject};
use serde_json::Value;

use super::{Operation, forbidden};
use crate::rest::{Call, meta};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Refuses creates in absent or terminating namespaces.
pub(super) async fn admit(
    call: &Call,
    operation: Operation,
    object: &Value,
) -> Result<(), ApiError> {
    if operation != Operation::Create || !call.row.namespaced() {
        return Ok(());
    }
    let namespace = call.namespace();
    let storage = &call.api.storage;
    let found = match storage.get("core/namespaces", "", namespace) {
        Some(found) => Some(found),
        None => {
            // With several servers this one may be behind.
            storage.wait_for(storage.current_revision().await?).await?;
            storage.get("core/namespaces", "", namespace)
        }
    };
    let Some(found) = found else {
        return Err(ApiError::NotFound(Subject::new(
            "",
            "namespaces",
            namespace,
        )));
    };
    let found = found.value();
    if meta::text(&found, "/status/phase") == "Terminating" || meta::is_terminating(&found) {
        return Err(forbidden(
            call,
            meta::name(object),
            format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            ),
        ));
    }
    Ok(())
}

/// Refuses to delete the immortal namespaces.
pub(super) fn check_delete(call: &Call, old: Option<&Value>) -> Result<(), ApiError> {
    if call.row.storage != "core/namespaces" {
        return Ok(());
    }
    let name = old.map_or("", meta::name);
    if IMMORTAL.contains(&name) {
        return Err(forbidden(call, name, "this namespace may not be deleted"));
    }
    Ok(())
}
