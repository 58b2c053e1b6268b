//! Updates of the subresource `ephemeralcontainers`: more of them, none changed, none gone.

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::Pod;

use super::validate;
use crate::meta;

/// What is wrong with an update of a pod's ephemeral containers.
#[must_use]
pub fn validate_ephemeral_containers(pod: &Pod, old: &Pod) -> Vec<FieldError> {
    let mut errors = meta::validate_update(&pod.metadata, &old.metadata);
    errors.extend(validate::metadata_and_spec(pod));
    let at = FieldPath::new("spec.ephemeralContainers");
    let list = |p: &Pod| {
        p.spec
            .as_ref()
            .and_then(|s| s.ephemeral_containers.clone())
            .unwrap_or_default()
    };
    let new = list(pod);
    for before in list(old) {
        match new.iter().find(|c| c.name == before.name) {
            None => errors.push(FieldError::forbidden(
                &at,
                format!(
                    "existing ephemeral containers {:?} may not be removed",
                    before.name
                ),
            )),
            Some(now) if *now != before => errors.push(FieldError::forbidden(
                &at,
                format!(
                    "existing ephemeral containers {:?} may not be changed",
                    before.name
                ),
            )),
            Some(_) => {}
        }
    }
    errors
}
