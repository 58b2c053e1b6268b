//! What the cluster's names stand for: a slim copy of Services and EndpointSlices, and the answers from it.
//!
//! The rules are those of the Kubernetes DNS specification, version 1.1. No I/O: [`crate::watch`] tells it what the API
//! server says.

mod lookup;
mod objects;
mod reverse;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use hickory_proto::rr::{Name, RData, Record, rdata};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service as ApiService;
use k8s_openapi::api::discovery::v1::EndpointSlice as ApiSlice;
use kube::ResourceExt as _;

pub(crate) use lookup::Found;
use objects::{Service, Slice};

/// How long clients may keep an answer, in seconds: CoreDNS' default.
pub(crate) const TTL: u32 = 5;

/// Namespace and name of an object.
pub(crate) type Key = (Box<str>, Box<str>);

/// The names below the cluster's domain.
pub(crate) struct Zone {
    /// The domain's labels in lower case.
    domain: Vec<String>,
    origin: Name,
    /// Where this server is reached.
    servers: Vec<IpAddr>,
    /// Networks whose reverse names are answered here and never forwarded: those of Services and pods.
    networks: Vec<IpNet>,
    /// Where pods have their addresses; empty when nobody knows.
    pods: Vec<IpNet>,
    namespaces: HashMap<Box<str>, Namespace>,
    /// The Service of a cluster IP.
    cluster_ips: HashMap<IpAddr, Key>,
    /// The slices that have an address.
    slices_by_address: HashMap<IpAddr, BTreeSet<Key>>,
    /// Whether the lists were read whole once: until then, what isn't here may exist.
    services_read: bool,
    slices_read: bool,
}

#[derive(Default)]
struct Namespace {
    services: BTreeMap<Box<str>, Service>,
    slices: BTreeMap<Box<str>, Slice>,
    /// Names of the slices of a Service.
    slices_of: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
}

impl Namespace {
    fn is_empty(&self) -> bool {
        self.services.is_empty() && self.slices.is_empty()
    }

    fn slices_of(&self, service: &str) -> impl Iterator<Item = &Slice> {
        let names = self.slices_of.get(service).into_iter().flatten();
        names.filter_map(|name| self.slices.get(name))
    }
}

/// Why a zone can't be made.
#[derive(Debug, thiserror::Error)]
#[error("the cluster's domain {domain:?} is no DNS name: {source}")]
pub struct DomainError {
    domain: String,
    source: hickory_proto::ProtoError,
}

impl Zone {
    /// An empty one for a domain such as `cluster.local`.
    pub(crate) fn new(
        domain: &str,
        servers: Vec<IpAddr>,
        pods: Vec<IpNet>,
        services: &[IpNet],
    ) -> Result<Self, DomainError> {
        let mut origin = Name::from_ascii(domain).map_err(|source| DomainError {
            domain: domain.to_owned(),
            source,
        })?;
        origin.set_fqdn(true);
        Ok(Self {
            domain: labels(&origin),
            origin,
            servers,
            networks: pods.iter().chain(services).copied().collect(),
            pods,
            namespaces: HashMap::new(),
            cluster_ips: HashMap::new(),
            slices_by_address: HashMap::new(),
            services_read: false,
            slices_read: false,
        })
    }

    /// Whether both lists have been read.
    pub(crate) fn is_read(&self) -> bool {
        self.services_read && self.slices_read
    }

    /// The record of a negative answer.
    pub(crate) fn soa(&self) -> Record {
        let mail = self.origin.prepend_label("hostmaster");
        let soa = rdata::SOA::new(
            self.name_server(),
            mail.unwrap_or_else(|_| self.origin.clone()),
            1,
            7200,
            1800,
            86_400,
            TTL,
        );
        Record::from_rdata(self.origin.clone(), TTL, RData::SOA(soa))
    }

    fn name_server(&self) -> Name {
        let labels = self.origin.prepend_label("dns");
        labels
            .and_then(|name| name.prepend_label("ns"))
            .unwrap_or_else(|_| self.origin.clone())
    }

    /// A Service appeared or changed.
    pub(crate) fn apply_service(&mut self, object: &ApiService) -> Option<Key> {
        let key = key(object)?;
        self.remove_service(&key);
        let service = Service::read(object)?;
        for ip in &service.cluster_ips {
            self.cluster_ips.insert(*ip, key.clone());
        }
        let namespace = self.namespaces.entry(key.0.clone()).or_default();
        namespace.services.insert(key.1.clone(), service);
        Some(key)
    }

    /// A Service is gone.
    pub(crate) fn remove_service(&mut self, key: &Key) {
        let Some(namespace) = self.namespaces.get_mut(&key.0) else {
            return;
        };
        if let Some(old) = namespace.services.remove(&key.1) {
            for ip in &old.cluster_ips {
                if self.cluster_ips.get(ip) == Some(key) {
                    self.cluster_ips.remove(ip);
                }
            }
        }
        self.drop_if_empty(&key.0);
    }

    /// All Services have been seen: those that are not among them are gone.
    pub(crate) fn keep_services(&mut self, seen: &HashSet<Key>) {
        for key in self.keys(|namespace| namespace.services.keys().cloned().collect()) {
            if !seen.contains(&key) {
                self.remove_service(&key);
            }
        }
        self.services_read = true;
    }

    /// An EndpointSlice appeared or changed.
    pub(crate) fn apply_slice(&mut self, object: &ApiSlice) -> Option<Key> {
        let key = key(object)?;
        self.remove_slice(&key);
        let slice = Slice::read(object)?;
        for endpoint in &slice.endpoints {
            let slices = self.slices_by_address.entry(endpoint.address).or_default();
            slices.insert(key.clone());
        }
        let namespace = self.namespaces.entry(key.0.clone()).or_default();
        let names = namespace.slices_of.entry(slice.service.clone());
        names.or_default().insert(key.1.clone());
        namespace.slices.insert(key.1.clone(), slice);
        Some(key)
    }

    /// An EndpointSlice is gone.
    pub(crate) fn remove_slice(&mut self, key: &Key) {
        let Some(namespace) = self.namespaces.get_mut(&key.0) else {
            return;
        };
        if let Some(old) = namespace.slices.remove(&key.1) {
            if let Some(names) = namespace.slices_of.get_mut(&old.service) {
                names.remove(&key.1);
                if names.is_empty() {
                    namespace.slices_of.remove(&old.service);
                }
            }
            for endpoint in &old.endpoints {
                if let Some(slices) = self.slices_by_address.get_mut(&endpoint.address) {
                    slices.remove(key);
                    if slices.is_empty() {
                        self.slices_by_address.remove(&endpoint.address);
                    }
                }
            }
        }
        self.drop_if_empty(&key.0);
    }

    /// All EndpointSlices have been seen: those that are not among them are gone.
    pub(crate) fn keep_slices(&mut self, seen: &HashSet<Key>) {
        for key in self.keys(|namespace| namespace.slices.keys().cloned().collect()) {
            if !seen.contains(&key) {
                self.remove_slice(&key);
            }
        }
        self.slices_read = true;
    }

    fn keys(&self, names: impl Fn(&Namespace) -> Vec<Box<str>>) -> Vec<Key> {
        let mut keys = Vec::new();
        for (namespace, content) in &self.namespaces {
            let names = names(content).into_iter();
            keys.extend(names.map(|name| (namespace.clone(), name)));
        }
        keys
    }

    #[cfg(test)]
    pub(crate) fn all_keys(&self) -> HashSet<Key> {
        let mut all: HashSet<Key> = HashSet::new();
        all.extend(self.keys(|namespace| namespace.services.keys().cloned().collect()));
        all.extend(self.keys(|namespace| namespace.slices.keys().cloned().collect()));
        all
    }

    fn drop_if_empty(&mut self, namespace: &str) {
        if self
            .namespaces
            .get(namespace)
            .is_some_and(Namespace::is_empty)
        {
            self.namespaces.remove(namespace);
        }
    }
}

/// The key of an object; none for one without a name, which there is not.
pub(crate) fn key<K: kube::Resource>(object: &K) -> Option<Key> {
    Some((
        object.namespace()?.into_boxed_str(),
        object.meta().name.clone()?.into_boxed_str(),
    ))
}

/// The labels of a name in lower case.
fn labels(name: &Name) -> Vec<String> {
    name.iter()
        .map(|label| String::from_utf8_lossy(label).to_ascii_lowercase())
        .collect()
}
