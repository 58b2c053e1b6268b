//! What Services get from the cluster: addresses and node ports.
//!
//! An address is taken when there is an IPAddress of its name, a node port when its block says so ([`node_ports`]). Both
//! are written in one transaction with the Service ([`crate::storage::Beside`]), each under the condition that nobody
//! else has it: the store decides, and however many servers share it, nothing is given twice, and nothing is lost
//! between two writes.
//!
//! Stock servers write the same IPAddresses, before and after the Service, and repair what gets lost in between.

mod addresses;
mod node_ports;
mod settings;

use berth_api::status::ApiError;
use berth_rules::kinds::service::{AssignError, assign_node_ports, families};
use k8s_openapi::api::core::v1::Service;

use crate::storage::Beside;
use crate::strategy::Cluster;

pub(crate) use addresses::{
    ADDRESSES, CIDRS, MANAGED_BY, MANAGER, cluster_ips, new_address, parent_service,
};
pub(crate) use node_ports::{Ledger, Owner, in_use};
pub use settings::ServiceSettings;

/// Where Services are stored.
pub(crate) const SERVICES: &str = "core/services";
/// The Service of the API server itself.
pub(crate) const KUBERNETES: (&str, &str) = ("default", "kubernetes");

/// Gives a Service what it lacks and takes what it no longer has; without `new` it goes. What has to be written with it
/// is returned.
///
/// # Errors
/// `Invalid` for what it asks for and can't have, `Internal` when nothing is left or something can't be read.
pub(crate) fn allocate(
    mut new: Option<&mut Service>,
    old: Option<&Service>,
    cluster: Cluster<'_>,
) -> Result<Vec<Beside>, ApiError> {
    if let Some(service) = &mut new {
        let families = cluster.services.families();
        families::set(service, old, families).map_err(|errors| invalid(service, errors))?;
    }
    let mut writes = addresses::allocate(new.as_deref_mut(), old, cluster)?;
    let owner = Owner::of(new.as_deref().or(old));
    let mut ledger = Ledger::new(cluster.storage, cluster.services.node_ports(), owner);
    let assigned = assign_node_ports(new.as_deref_mut(), old, &mut ledger);
    // What cannot be read says more than that it has no free port.
    let ports = ledger.into_writes()?;
    assigned.map_err(|error| match (error, &new) {
        (AssignError::Invalid(error), Some(service)) => invalid(service, vec![error]),
        (error, _) => ApiError::Internal(error.to_string()),
    })?;
    writes.extend(ports);
    Ok(writes)
}

fn invalid(service: &Service, errors: Vec<berth_api::field::FieldError>) -> ApiError {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    ApiError::invalid("", "Service", name, errors)
}
