//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or not reachable.

use berth_api::status::ApiError;
use berth_rules::admission::default_tolerations;
use k8s_openapi::api::core::v1::Pod;

use super::{Attributes, Operation, Plugin};
use crate::object::Object;

pub(super) struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        // On update, too: whoever replaces a pod's tolerations need not repeat these two.
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && attributes.is("", "pods", "")
    }

    fn admit(&self, _attributes: &Attributes<'_>, object: &mut dyn Object) -> Result<(), ApiError> {
        default_tolerations::admit(object.typed_mut::<Pod>()?);
        Ok(())
    }
}
