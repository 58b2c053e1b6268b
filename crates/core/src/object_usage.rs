//! What claims and services use of a quota beside their number: storage, ports of nodes, load balancers.

use berth_api::quantity::{Format, Quantity};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};

use crate::resources::Amounts;

/// The annotation that named the class before there was a field.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const STORAGE: &str = "requests.storage";
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
const NODE_PORTS: &str = "services.nodeports";
const LOAD_BALANCERS: &str = "services.loadbalancers";

fn count(number: usize) -> Quantity {
    Quantity::new(i64::try_from(number).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// Whether a quota limits something that [`of_claim`] counts.
#[must_use]
pub fn is_of_claims(name: &str) -> bool {
    name == STORAGE || name.contains(OF_CLASS)
}

/// Whether a quota limits something that [`of_service`] counts.
#[must_use]
pub fn is_of_services(name: &str) -> bool {
    matches!(name, NODE_PORTS | LOAD_BALANCERS)
}

/// The storage that a claim asks for, in all and of its class.
#[must_use]
pub fn of_claim(claim: &PersistentVolumeClaim) -> Amounts {
    let spec = claim.spec.as_ref();
    let requests = spec
        .and_then(|s| s.resources.as_ref())
        .and_then(|r| r.requests.as_ref());
    let storage = requests.and_then(|requests| requests.get("storage"));
    // What is no quantity isn't stored: validation looks at it.
    let storage = storage.and_then(|amount| amount.0.parse::<Quantity>().ok());
    let annotations = claim.metadata.annotations.as_ref();
    let class = annotations.and_then(|a| a.get(OLD_CLASS));
    let class = class.or(spec.and_then(|s| s.storage_class_name.as_ref()));
    let class = class.filter(|class| !class.is_empty());
    let mut usage = Amounts::new();
    if let Some(class) = class {
        usage.insert(format!("{class}{OF_CLASS}persistentvolumeclaims"), count(1));
    }
    if let Some(storage) = storage {
        if let Some(class) = class {
            usage.insert(format!("{class}{OF_CLASS}{STORAGE}"), storage.clone());
        }
        usage.insert(STORAGE.to_owned(), storage);
    }
    usage
}

/// The ports of nodes that a service takes, and whether it is a load balancer.
#[must_use]
pub fn of_service(service: &Service) -> Amounts {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let allocates = spec
        .and_then(|s| s.allocate_load_balancer_node_ports)
        .unwrap_or(true);
    let mut usage = Amounts::new();
    match spec.and_then(|s| s.type_.as_deref()) {
        Some("NodePort") => {
            usage.insert(NODE_PORTS.to_owned(), count(ports.len()));
        }
        Some("LoadBalancer") => {
            let own = ports
                .iter()
                .filter(|p| p.node_port.unwrap_or(0) != 0)
                .count();
            let taken = if allocates { ports.len() } else { own };
            usage.insert(NODE_PORTS.to_owned(), count(taken));
            usage.insert(LOAD_BALANCERS.to_owned(), count(1));
        }
        _ => {}
    }
    usage
}

/// Adds what an object uses to a sum.
pub fn add(sum: &mut Amounts, usage: &Amounts) {
    for (name, amount) in usage {
        *sum.entry(name.clone()).or_insert(Quantity::ZERO) += amount;
    }
}

/// What a changed object uses in addition.
#[must_use]
pub fn more(new: Amounts, old: &Amounts) -> Amounts {
    let mut more = Amounts::new();
    for (name, amount) in new {
        match old.get(&name) {
            Some(had) if amount <= *had => {}
            Some(had) => {
                more.insert(name, amount - had);
            }
            None => {
                more.insert(name, amount);
            }
        }
    }
    more
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(usage: &Amounts) -> Vec<String> {
        usage
            .iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect()
    }

    #[test]
    fn claims_and_services() {
        let claim = |size: &str| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": size}}}}))
                .unwrap()
        };
        assert_eq!(
            shown(&of_claim(&claim("2Gi"))),
            [
                "fast.storageclass.storage.k8s.io/persistentvolumeclaims=1",
                "fast.storageclass.storage.k8s.io/requests.storage=2Gi",
                "requests.storage=2Gi",
            ]
        );
        let grown = more(of_claim(&claim("3Gi")), &of_claim(&claim("2Gi")));
        assert_eq!(
            shown(&grown),
            [
                "fast.storageclass.storage.k8s.io/requests.storage=1Gi",
                "requests.storage=1Gi"
            ]
        );
        let mut sum = Amounts::new();
        add(&mut sum, &of_claim(&claim("1Gi")));
        add(&mut sum, &of_claim(&claim("1Gi")));
        assert!(shown(&sum).contains(&"requests.storage=2Gi".to_owned()));
        for (spec, want) in [
            (json!({"type": "ClusterIP", "ports": [{"port": 1}]}), vec![]),
            (
                json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}),
                vec!["services.nodeports=2"],
            ),
            (
                json!({"type": "LoadBalancer", "ports": [{"port": 1}]}),
                vec!["services.loadbalancers=1", "services.nodeports=1"],
            ),
            (
                json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 1}]}),
                vec!["services.loadbalancers=1", "services.nodeports=0"],
            ),
        ] {
            let service: Service = serde_json::from_value(json!({"spec": spec})).unwrap();
            assert_eq!(shown(&of_service(&service)), want, "{spec}");
        }
    }
}
