//! The contract between a kind and the generic path of the API server.

use berth_api::field::FieldError;
use thiserror::Error;

use berth_core::gates::FeatureGates;

/// A subresource that a kind has no rules for; whoever routes requests has let one through that it does not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there are no rules for updates of the subresource {0:?}")]
pub struct UnknownSubresource(pub String);

/// What a kind decides for itself. The server calls, in this order:
///
/// - create: [`default`](Rules::default), mutating admission, [`prepare_create`](Rules::prepare_create) (what it derives,
///   such as the QoS class, sees what admission set), [`validate`](Rules::validate), validating admission (quota, limits);
/// - update: [`default`](Rules::default), mutating admission, [`prepare_update`](Rules::prepare_update),
///   [`validate_update`](Rules::validate_update) (which includes what `validate` says of the new object where the
///   reference does so);
/// - update of a status subresource: the same with [`prepare_status`](Rules::prepare_status) and
///   [`validate_status`](Rules::validate_status), and of other subresources with
///   [`prepare_subresource`](Rules::prepare_subresource) and [`validate_subresource`](Rules::validate_subresource).
///
/// All functions are pure; metadata that needs a clock or randomness (uid, timestamps, generated names) is the
/// server's.
pub trait Rules: Sized {
    /// Sets the defaults of unset fields.
    fn default(&mut self) {}

    /// Drops what a creator may not set, sets what is derived.
    fn prepare_create(&mut self, _gates: &FeatureGates) {}

    /// Carries over from `old` what an update of the main resource may not touch.
    fn prepare_update(&mut self, _old: &Self, _gates: &FeatureGates) {}

    /// Carries over from `old` what an update of the status may not touch.
    fn prepare_status(&mut self, _old: &Self) {}

    /// Everything wrong with a new object.
    fn validate(&self) -> Vec<FieldError>;

    /// Everything wrong with replacing `old` by this.
    fn validate_update(&self, old: &Self) -> Vec<FieldError>;

    /// Everything wrong with replacing the status of `old` by this one's.
    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        self.validate_update(old)
    }

    /// Carries over from `old` what an update of another subresource may not touch.
    ///
    /// # Errors
    /// [`UnknownSubresource`] for one that the kind does not have.
    fn prepare_subresource(
        &mut self,
        subresource: &str,
        _old: &Self,
    ) -> Result<(), UnknownSubresource> {
        Err(UnknownSubresource(subresource.to_owned()))
    }

    /// Everything wrong with such an update.
    ///
    /// # Errors
    /// [`UnknownSubresource`] for one that the kind does not have.
    fn validate_subresource(
        &self,
        subresource: &str,
        _old: &Self,
    ) -> Result<Vec<FieldError>, UnknownSubresource> {
        Err(UnknownSubresource(subresource.to_owned()))
    }
}

/// The preparations of a kind with a spec and a status that are written apart: the server begins with an empty status,
/// and an update of one leaves the other as it is.
macro_rules! spec_and_status {
    () => {
        fn prepare_create(&mut self, _gates: &berth_core::gates::FeatureGates) {
            self.status = Some(Default::default());
        }

        fn prepare_update(&mut self, old: &Self, _gates: &berth_core::gates::FeatureGates) {
            self.status.clone_from(&old.status);
        }

        fn prepare_status(&mut self, old: &Self) {
            self.spec.clone_from(&old.spec);
        }
    };
}

pub(crate) use spec_and_status;
