//! LimitRanger: containers get the defaults of their namespace and stay within its bounds.

use std::sync::Arc;

use berth_api::status::ApiError;
use berth_core::gates::FeatureGates;
use berth_rules::admission::limit_range;
use k8s_openapi::api::core::v1::{LimitRange, PersistentVolumeClaim, Pod};

use super::{Attributes, Operation, Parts, Plugin};
use crate::object::Object;
use crate::storage::Storage;

const CLAIMS: &str = "persistentvolumeclaims";

pub(super) struct LimitRanger {
    storage: Arc<Storage>,
    gates: FeatureGates,
}

impl LimitRanger {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
            gates: parts.gates,
        }
    }

    /// The limits of the namespace, by name. One that cannot be read may be the strictest: nothing is admitted then.
    fn ranges(&self, namespace: &str) -> Result<Vec<LimitRange>, ApiError> {
        Ok(self.storage.read_all("core/limitranges", Some(namespace))?)
    }
}

impl Plugin for LimitRanger {
    /// Resources of a pod are only written at creation and by a resize; a claim may grow later.
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create => attributes.is("", "pods", "") || attributes.is("", CLAIMS, ""),
            Operation::Update => {
                attributes.is("", "pods", "resize") || attributes.is("", CLAIMS, "")
            }
            Operation::Delete | Operation::Connect => false,
        }
    }

    fn admit(&self, attributes: &Attributes<'_>, object: &mut dyn Object) -> Result<(), ApiError> {
        if attributes.operation == Operation::Create && attributes.is("", "pods", "") {
            let ranges = self.ranges(attributes.namespace)?;
            limit_range::admit(object.typed_mut::<Pod>()?, &ranges);
        }
        Ok(())
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let ranges = self.ranges(attributes.namespace)?;
        let Some(object) = object.filter(|_| !ranges.is_empty()) else {
            return Ok(());
        };
        let fits = if attributes.is("", CLAIMS, "") {
            limit_range::check_claim(object.typed::<PersistentVolumeClaim>()?, &ranges)
        } else {
            limit_range::check(object.typed::<Pod>()?, &ranges, &self.gates)
        };
        fits.map_err(|rejection| attributes.forbidden(rejection.to_string()))
    }
}
