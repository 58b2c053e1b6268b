//! Priority: a pod's priority is its class's.

use std::sync::Arc;

use berth_api::status::ApiError;
use berth_rules::admission::priority;
use berth_store::Revision;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use parking_lot::Mutex;

use super::{Attributes, Operation, Parts, Plugin};
use crate::object::Object;
use crate::storage::Storage;

const CLASSES: &str = "scheduling.k8s.io/priorityclasses";

pub(super) struct Priority {
    storage: Arc<Storage>,
    /// All classes, as they were at a revision at which one of them changed.
    classes: Mutex<Option<(Revision, Arc<[PriorityClass]>)>>,
}

impl Priority {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
            classes: Mutex::default(),
        }
    }

    fn classes(&self) -> Result<Arc<[PriorityClass]>, ApiError> {
        let changed_at = self.storage.changed_at(CLASSES);
        let mut known = self.classes.lock();
        if let Some((at, classes)) = known.as_ref()
            && *at == changed_at
        {
            return Ok(Arc::clone(classes));
        }
        let classes: Arc<[PriorityClass]> = self.storage.read_all(CLASSES, None)?.into();
        *known = Some((changed_at, Arc::clone(&classes)));
        Ok(classes)
    }
}

impl Plugin for Priority {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "pods", "")
    }

    fn admit(&self, attributes: &Attributes<'_>, object: &mut dyn Object) -> Result<(), ApiError> {
        let classes = self.classes()?;
        priority::admit(object.typed_mut::<Pod>()?, classes.iter())
            .map_err(|rejection| attributes.forbidden(rejection.to_string()))
    }
}
