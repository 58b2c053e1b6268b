//! Compares what Services have with the books: IPAddresses and the blocks of node ports.
//!
//! This server writes both at once, so there is nothing to repair but what others leave: a store from before there were
//! books, a stock server that ended between two writes, an object that could not be read when it was deleted.

use std::collections::HashSet;
use std::net::IpAddr;

use berth_api::status::ApiError;
use berth_store::Expect;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;

use crate::allocation::{
    ADDRESSES, Ledger, MANAGED_BY, MANAGER, Owner, SERVICES, ServiceSettings, cluster_ips, in_use,
    new_address, parent_service,
};
use crate::storage::{Beside, Committed, Storage};

/// How old an IPAddress must be before it counts as left over: another server may be writing the Service.
const GRACE_SECONDS: i64 = 60;

/// What the last comparison found.
#[derive(Default)]
pub(super) struct Repair {
    /// Ports whose holder doesn't use them. Those that it finds twice are given back.
    left_over: HashSet<(u16, Owner)>,
    conflicts: HashSet<IpAddr>,
}

/// A Service with what it has.
struct Held {
    service: Service,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Repair {
    /// Compares once.
    ///
    /// # Errors
    /// When the books cannot be read or written.
    pub(super) async fn run(
        &mut self,
        storage: &Storage,
        settings: &ServiceSettings,
    ) -> Result<(), ApiError> {
        // One that cannot be read keeps what it has: nobody knows what that is.
        let stored = storage.list(SERVICES, None);
        let all = stored.len();
        let services: Vec<Held> = stored
            .iter()
            .filter_map(|stored| stored.decode().ok())
            .map(Held::of)
            .collect();
        let complete = services.len() == all;
        self.addresses(storage, &services, complete).await?;
        self.ports(storage, settings, &services, complete).await
    }

    async fn addresses(
        &mut self,
        storage: &Storage,
        services: &[Held],
        complete: bool,
    ) -> Result<(), ApiError> {
        let mut used = HashSet::new();
        let mut conflicts = HashSet::new();
        for held in services {
            for address in &held.addresses {
                let own = names(&held.service);
                let name = address.to_string();
                match storage.get(ADDRESSES, "", &name) {
                    None => {
                        let object = new_address(*address, &held.service);
                        storage
                            .put(ADDRESSES, "", &name, Expect::Absent, object)
                            .await?;
                        used.insert(*address);
                    }
                    Some(stored) => {
                        let object: Option<IPAddress> = stored.decode().ok();
                        if object.as_ref().and_then(parent_service) == Some(own) {
                            used.insert(*address);
                        } else {
                            conflicts.insert(*address);
                        }
                    }
                }
            }
        }
        for address in conflicts.difference(&self.conflicts) {
            tracing::warn!(%address, "a Service has an address that belongs to something else; delete and create it anew");
        }
        self.conflicts = conflicts;
        if !complete {
            return Ok(());
        }
        let now = jiff::Timestamp::now().as_second();
        for stored in storage.list(ADDRESSES, None) {
            let Ok(object) = stored.decode::<IPAddress>() else {
                continue;
            };
            let labels = object.metadata.labels.as_ref();
            let ours = labels
                .and_then(|labels| labels.get(MANAGED_BY))
                .is_some_and(|by| by == MANAGER);
            let created = object.metadata.creation_timestamp.as_ref();
            let age = created.map_or(0, |at| now - at.0.as_second());
            let address: Option<IpAddr> = stored.name.parse().ok();
            if ours && age > GRACE_SECONDS && address.is_some_and(|ip| !used.contains(&ip)) {
                tracing::info!(address = %stored.name, "no Service has this address any more; it is given back");
                let expect = Expect::Revision(stored.revision);
                storage.remove(ADDRESSES, "", &stored.name, expect).await?;
            }
        }
        Ok(())
    }

    async fn ports(
        &mut self,
        storage: &Storage,
        settings: &ServiceSettings,
        services: &[Held],
        complete: bool,
    ) -> Result<(), ApiError> {
        let mut ledger = Ledger::new(storage, settings.node_ports(), Owner::default());
        let mut used = HashSet::new();
        for held in services {
            let owner = Owner::of(Some(&held.service));
            for port in &held.ports {
                if ledger.holder(*port).is_none() {
                    ledger.record(*port, owner.clone());
                }
                used.insert((*port, owner.clone()));
            }
        }
        let mut left_over = HashSet::new();
        if complete {
            let all = in_use(storage)?;
            left_over.extend(all.into_iter().filter(|held| !used.contains(held)));
        }
        for (port, owner) in left_over.intersection(&self.left_over) {
            if ledger.holder(*port) == Some(owner) {
                tracing::info!(
                    port,
                    "no Service has this node port any more; it is given back"
                );
                ledger.forget(*port);
            }
        }
        self.left_over = left_over;
        let mut writes = ledger.into_writes()?;
        while let Some(write) = writes.pop() {
            // One that was changed meanwhile is compared again next time.
            let _: Committed = storage.commit(write, Vec::<Beside>::new()).await?;
        }
        Ok(())
    }
}

impl Held {
    fn of(service: Service) -> Self {
        let spec = service.spec.as_ref();
        let external = spec
            .and_then(|s| s.type_.as_deref())
            .is_some_and(|t| t != "ExternalName");
        let ports = spec.and_then(|s| s.ports.as_ref()).into_iter().flatten();
        let check = spec.and_then(|s| s.health_check_node_port);
        let ports = ports
            .filter_map(|port| port.node_port)
            .chain(check)
            .filter(|_| external)
            .filter_map(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .collect();
        Self {
            addresses: cluster_ips(&service),
            ports,
            service,
        }
    }
}

fn names(service: &Service) -> (&str, &str) {
    let metadata = &service.metadata;
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests;
