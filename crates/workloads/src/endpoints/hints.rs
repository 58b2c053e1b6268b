//! For whom an endpoint is meant to be near: `spec.trafficDistribution` of a Service (KEP-4444, KEP-3015).

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{EndpointHints, ForNode, ForZone};

/// Annotations that ask for hints in proportion to the zones' CPUs; who asks for that doesn't get the hints of
/// `trafficDistribution`.
const PROPORTIONAL: [&str; 2] = [
    "service.kubernetes.io/topology-mode",
    "service.kubernetes.io/topology-aware-hints",
];

/// How near a Service's endpoints should be to who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distribution {
    /// It doesn't matter.
    Anywhere,
    /// In the same zone (`PreferSameZone`, and its older name `PreferClose`).
    SameZone,
    /// On the same node, or else in the same zone (`PreferSameNode`).
    SameNode,
}

impl Distribution {
    /// What the Service says. What isn't known is no wish.
    pub(super) fn of(service: &Service) -> Self {
        let annotations = service.metadata.annotations.as_ref();
        let proportional = PROPORTIONAL.iter().any(|key| {
            let value = annotations.and_then(|all| all.get(*key));
            value.is_some_and(|value| value == "Auto" || value == "auto")
        });
        let spec = service.spec.as_ref();
        match spec.and_then(|spec| spec.traffic_distribution.as_deref()) {
            Some(_) if proportional => Self::Anywhere,
            Some("PreferClose" | "PreferSameZone") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            Some(_) | None => Self::Anywhere,
        }
    }

    /// The hints of a ready endpoint there; those that aren't ready have none.
    pub(super) fn hints(self, zone: Option<&str>, node: Option<&str>) -> Option<EndpointHints> {
        let zones = zone.filter(|_| self != Self::Anywhere);
        let nodes = node.filter(|_| self == Self::SameNode);
        if zones.is_none() && nodes.is_none() {
            return None;
        }
        let name = |name: &str| name.to_owned();
        Some(EndpointHints {
            for_zones: zones.map(|zone| vec![ForZone { name: name(zone) }]),
            for_nodes: nodes.map(|node| vec![ForNode { name: name(node) }]),
        })
    }
}
