//! What an update of a claim may change: its volume once, its class once, and its size only upwards.

use berth_api::field::{FieldError, FieldPath};
use berth_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};

use crate::values::text;

const FIXED: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

pub(super) fn validate(
    new: &PersistentVolumeClaimSpec,
    old: &PersistentVolumeClaim,
) -> Vec<FieldError> {
    let none = PersistentVolumeClaimSpec::default();
    let before = old.spec.as_ref().unwrap_or(&none);
    let status = old.status.as_ref();
    let is_bound = status.and_then(|s| s.phase.as_deref()) == Some("Bound");
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let mut allowed = before.clone();
    if text(&before.volume_name).is_empty() {
        allowed.volume_name.clone_from(&new.volume_name);
    }
    // The default class may come later than the claim.
    if before.storage_class_name.is_none() && new.storage_class_name.is_some() && !is_bound {
        allowed
            .storage_class_name
            .clone_from(&new.storage_class_name);
    }
    // What only one of the two fields said when the claim was made.
    if before.data_source_ref.is_none() && before.data_source == new.data_source {
        allowed.data_source_ref.clone_from(&new.data_source_ref);
    }
    if is_bound {
        let requests = new.resources.as_ref().and_then(|r| r.requests.clone());
        allowed.resources.get_or_insert_default().requests = requests;
        allowed
            .volume_attributes_class_name
            .clone_from(&new.volume_attributes_class_name);
    }
    if *new != allowed {
        errors.push(FieldError::forbidden(&at, FIXED));
    }
    let cleared =
        new.volume_attributes_class_name.is_none() && before.volume_attributes_class_name.is_some();
    if cleared {
        let at = at.child("volumeAttributesClassName");
        let why = "update from non-nil value to nil is forbidden";
        errors.push(FieldError::forbidden(&at, why));
    }
    let size = |spec: &PersistentVolumeClaimSpec| -> Option<Quantity> {
        let requests = spec.resources.as_ref()?.requests.as_ref()?;
        requests.get("storage")?.0.parse().ok()
    };
    let have = status
        .and_then(|s| s.capacity.as_ref())
        .and_then(|c| c.get("storage"));
    let have = have.and_then(|amount| amount.0.parse::<Quantity>().ok());
    if let (Some(new), Some(old)) = (size(new), size(before))
        && new < old
        && have.is_none_or(|have| new <= have)
    {
        let why = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden(
            &at.child("resources.requests.storage"),
            why,
        ));
    }
    errors
}
