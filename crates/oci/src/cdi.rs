//! Hook point for CDI (Container Device Interface): edits that device vendors want in a spec.

use oci_spec::runtime::Spec;

use crate::spec::SpecError;

/// Applies the CDI devices named in `devices` (`vendor/class=name`) to `spec`.
///
/// # Errors
/// When a device is not known on this host.
pub fn apply(_spec: &mut Spec, devices: &[String]) -> Result<(), SpecError> {
    match devices.first() {
        None => Ok(()),
        Some(device) => Err(SpecError::UnknownCdiDevice(device.clone())),
    }
}
