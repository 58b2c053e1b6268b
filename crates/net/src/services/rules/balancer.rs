//! Services of type LoadBalancer: which have the node's address, and who may send there.

use std::net::IpAddr;

use super::{Building, Known, element_key, family, ip_word, set_of};
use crate::services::facts::Protocol;
use crate::services::model::Service;

impl Building<'_> {
    /// A Service of type LoadBalancer: the node's addresses, if all its ports are free there.
    pub(super) fn balancer(&mut self, service: &Service, all: &[Known<'_>]) {
        let mut addresses = Vec::new();
        for one in all {
            let own = self.facts.addresses.iter();
            let own = own.filter(|ip| ip.is_ipv4() == one.is_v4 && !ip.is_loopback());
            addresses.extend(own.map(|ip| (*ip, one)));
        }
        if let Some(port) = service.health_check_port.filter(|_| service.external_local) {
            let local = all.iter().map(|one| one.backends.local_ready).max();
            let health = (service.key.clone(), local.unwrap_or_default());
            self.plan.health.entry(port).or_insert(health);
        }
        if !service.balanced {
            return;
        }
        let state = self.claim(&addresses).map(|()| {
            let mut ips: Vec<IpAddr> = Vec::new();
            for (ip, one) in &addresses {
                self.external(one, *ip, one.port.port);
                self.firewall(one, *ip);
                if !ips.contains(ip) {
                    ips.push(*ip);
                }
            }
            ips
        });
        self.plan.balanced.insert(service.key.clone(), state);
    }

    /// Whether all of these ports can be had.
    fn claim(&self, wanted: &[(IpAddr, &Known<'_>)]) -> Result<(), String> {
        if wanted.is_empty() {
            return Err("the node has no address of the Service's IP families".to_owned());
        }
        for (ip, one) in wanted {
            let (port, protocol) = (one.port.port, one.port.protocol);
            let by_us = protocol == Protocol::Tcp && self.facts.reserved.contains(&port);
            let name = protocol.name();
            if by_us || self.facts.taken.contains(&(protocol, port)) {
                return Err(format!(
                    "port {port}/{name} of the node is in use by a program of the node"
                ));
            }
            if self.plan.fronts.contains_key(&(*ip, protocol, port)) {
                return Err(format!(
                    "port {port}/{name} of the node is another Service's"
                ));
            }
        }
        Ok(())
    }

    fn firewall(&mut self, one: &Known<'_>, ip: IpAddr) {
        let ranges = &one.service.source_ranges;
        if ranges.is_empty() {
            return;
        }
        let name = format!("fw{}", one.id());
        let mut rules = Vec::new();
        if let Some(set) = set_of(ranges, one.is_v4) {
            let word = ip_word(one.is_v4);
            rules.push(format!("{word} saddr {set} return"));
        }
        rules.push(format!("drop {}", one.comment()));
        self.chain(&name, rules);
        let key = element_key(ip, one.port.protocol, one.port.port);
        let map = format!("firewall{}", family(one.is_v4));
        self.element(&map, key, &format!("goto {name}"));
    }
}
