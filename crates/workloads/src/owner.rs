//! Owner references with `controller: true`: an object has at most one controller, and a controller's selector says which
//! objects without one it takes (apimachinery's `metav1.GetControllerOf`, the stock `ControllerRefManager`).

pub use berth_core::meta::controller_of;
use berth_core::selector::{is_empty, label_selector_matches};
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};

/// Whether this UID is that of the object's controller.
#[must_use]
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// A reference to the controller of an object that it makes.
#[must_use]
pub fn controller_reference<K: Resource>(owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What a controller is to do about an object of the kind that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the controller's and matches the selector.
    Owned,
    /// It matches and has no controller: the controller's reference is to be added.
    Adopt,
    /// It is the controller's and matches no longer: the reference is to be removed.
    Release,
    /// It is none of the controller's business.
    Ignore,
}

/// Judges one object. A controller that is being deleted neither adopts nor releases.
#[must_use]
pub fn claim(owner: &ObjectMeta, selector: &LabelSelector, object: &ObjectMeta) -> Claim {
    let matches = label_selector_matches(selector, object.labels.as_ref());
    match controller_of(object) {
        Some(other) if Some(&other.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Owned,
        Some(_) if owner.deletion_timestamp.is_some() => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner.deletion_timestamp.is_some() || object.deletion_timestamp.is_some() => {
            Claim::Ignore
        }
        None if matches && !is_empty(selector) => Claim::Adopt,
        None => Claim::Ignore,
    }
}
