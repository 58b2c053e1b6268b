//! Priority: a pod's priority is its class's.

use std::sync::Arc;

use berth_api::status::ApiError;
use berth_rules::admission::priority;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::{Attributes, Operation, Parts, Plugin};
use crate::object::Object;
use crate::storage::Storage;

pub(super) struct Priority {
    storage: Arc<Storage>,
}

impl Priority {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
        }
    }
}

impl Plugin for Priority {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "pods", "")
    }

    fn admit(&self, attributes: &Attributes<'_>, object: &mut dyn Object) -> Result<(), ApiError> {
        let classes: Vec<PriorityClass> = self
            .storage
            .read_all("scheduling.k8s.io/priorityclasses", None)?;
        priority::admit(object.typed_mut::<Pod>()?, &classes)
            .map_err(|rejection| attributes.forbidden(rejection.to_string()))
    }
}
