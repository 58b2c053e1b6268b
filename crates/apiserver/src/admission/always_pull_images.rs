//! AlwaysPullImages: an image that a node has already runs only for who may pull it. Not by default.

use berth_api::field::aggregate;
use berth_api::status::ApiError;
use berth_rules::admission::always_pull_images as rules;
use berth_rules::pod::EPHEMERAL_CONTAINERS;
use k8s_openapi::api::core::v1::Pod;

use super::{Attributes, Operation, Plugin};
use crate::object::Object;

pub(super) struct AlwaysPullImages;

fn old<'a>(attributes: &'a Attributes<'_>) -> Result<Option<&'a Pod>, ApiError> {
    match attributes.old {
        Some(old) if attributes.operation == Operation::Update => Ok(Some(old.typed()?)),
        Some(_) | None => Ok(None),
    }
}

impl Plugin for AlwaysPullImages {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create => attributes.is("", "pods", ""),
            Operation::Update => {
                attributes.is("", "pods", "") || attributes.is("", "pods", EPHEMERAL_CONTAINERS)
            }
            Operation::Delete | Operation::Connect => false,
        }
    }

    fn admit(&self, attributes: &Attributes<'_>, object: &mut dyn Object) -> Result<(), ApiError> {
        rules::admit(object.typed_mut()?, old(attributes)?);
        Ok(())
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let Some(object) = object else {
            return Ok(());
        };
        let wrong = rules::check(object.typed()?, old(attributes)?);
        if wrong.is_empty() {
            return Ok(());
        }
        Err(attributes.forbidden(aggregate(&wrong)))
    }
}
