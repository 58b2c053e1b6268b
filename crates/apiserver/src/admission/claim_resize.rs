//! PersistentVolumeClaimResize: a claim grows only where its class says that volumes can.

use std::sync::Arc;

use berth_api::quantity::Quantity;
use berth_api::status::ApiError;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;

use super::{Attributes, Operation, Parts, Plugin};
use crate::object::Object;
use crate::storage::Storage;

pub(super) struct PersistentVolumeClaimResize {
    storage: Arc<Storage>,
}

impl PersistentVolumeClaimResize {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
        }
    }
}

/// What a claim asks for; what is no quantity was found by validation.
fn size(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage")?.0.parse().ok()
}

impl Plugin for PersistentVolumeClaimResize {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is("", "persistentvolumeclaims", "")
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let (Some(object), Some(old)) = (object, attributes.old) else {
            return Ok(());
        };
        let (claim, old): (&PersistentVolumeClaim, &PersistentVolumeClaim) =
            (object.typed()?, old.typed()?);
        if size(claim) <= size(old) {
            return Ok(());
        }
        let phase = old.status.as_ref().and_then(|s| s.phase.as_deref());
        if phase != Some("Bound") {
            let why = "Only bound persistent volume claims can be expanded";
            return Err(attributes.forbidden(why));
        }
        let name = claim
            .spec
            .as_ref()
            .and_then(|s| s.storage_class_name.as_deref());
        let class: Option<StorageClass> = match name.filter(|name| !name.is_empty()) {
            Some(name) => self
                .storage
                .read("storage.k8s.io/storageclasses", "", name)?,
            None => None,
        };
        if class.is_some_and(|class| class.allow_volume_expansion == Some(true)) {
            return Ok(());
        }
        Err(attributes.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
             resize",
        ))
    }
}
