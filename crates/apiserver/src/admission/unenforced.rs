//! ValidatingAdmissionWebhook, MutatingAdmissionWebhook, ValidatingAdmissionPolicy and MutatingAdmissionPolicy. None of
//! them is built: what would configure one is refused, so that nobody relies on what isn't enforced. Who disables a
//! plugin gets the objects of its kinds stored, as on a stock server without it.

use berth_api::status::ApiError;

use super::{Attributes, Operation, Plugin};
use crate::object::Object;

const GROUP: &str = "admissionregistration.k8s.io";

/// A plugin that is not built, by the kinds that it would read.
pub(super) struct Unenforced(pub(super) &'static [&'static str]);

impl Plugin for Unenforced {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create
            && self.0.iter().any(|plural| attributes.is(GROUP, plural, ""))
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        _object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let kind = &attributes.resource.kind;
        Err(attributes.forbidden(format!(
            "{kind} is not enforced by this server, so it is not stored either: nothing would be refused or changed by it"
        )))
    }
}
