//! Kinds whose rules are not enforced: nobody is to rely on them in silence.

use berth_api::status::ApiError;

use super::{Attributes, Operation, Plugin};
use crate::object::Object;

const GROUP: &str = "admissionregistration.k8s.io";

/// A plugin that is disabled, by its name and the kinds that it would read: whoever makes one is told.
pub(super) struct Disabled(pub(super) &'static str, pub(super) &'static [&'static str]);

fn creates(attributes: &Attributes<'_>, kinds: &[&str]) -> bool {
    attributes.operation == Operation::Create
        && kinds.iter().any(|plural| attributes.is(GROUP, plural, ""))
}

impl Plugin for Disabled {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        creates(attributes, self.1)
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        _object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let (kind, plugin) = (&attributes.resource.kind, self.0);
        attributes.warn(format!(
            "{kind} is not enforced by this server: the admission plugin {plugin} is disabled"
        ));
        Ok(())
    }
}
