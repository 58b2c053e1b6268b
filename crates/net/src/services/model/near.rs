//! Which endpoints are near, as hints say it (KEP-2433, KEP-3015). Who writes them is the endpoint slice controller.

use k8s_openapi::api::discovery::v1::EndpointHints;

use super::Facts;

/// By whom an endpoint should be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    nodes: Vec<String>,
    zones: Vec<String>,
}

impl Hints {
    pub(super) fn of(hints: Option<&EndpointHints>) -> Self {
        let nodes = hints.and_then(|hints| hints.for_nodes.as_deref());
        let zones = hints.and_then(|hints| hints.for_zones.as_deref());
        let nodes = nodes.unwrap_or_default().iter().map(|one| &one.name);
        let zones = zones.unwrap_or_default().iter().map(|one| &one.name);
        Self {
            nodes: nodes.cloned().collect(),
            zones: zones.cloned().collect(),
        }
    }

    fn has_node(&self, facts: &Facts) -> bool {
        self.nodes.contains(&facts.node)
    }

    fn has_zone(&self, facts: &Facts) -> bool {
        let zone = facts.zone.as_ref();
        zone.is_some_and(|zone| self.zones.contains(zone))
    }
}

/// Which of a port's ready endpoints this node uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Near {
    /// All of them.
    Everything,
    /// Those that are for its zone.
    Zone,
    /// Those that are for it.
    Node,
}

impl Near {
    /// Hints count only when every ready endpoint has some, and one is for this node or its zone: nobody is cut off by
    /// them, nor while they are being written.
    pub(super) fn of<'h>(ready: impl Iterator<Item = &'h Hints> + Clone, facts: &Facts) -> Self {
        let all = |has: fn(&Hints) -> bool| ready.clone().all(has);
        let any = |has: fn(&Hints, &Facts) -> bool| ready.clone().any(|one| has(one, facts));
        if all(|one| !one.nodes.is_empty()) && any(Hints::has_node) {
            Self::Node
        } else if all(|one| !one.zones.is_empty()) && any(Hints::has_zone) {
            Self::Zone
        } else {
            Self::Everything
        }
    }

    /// Whether an endpoint with these hints is one of them.
    pub(super) fn takes(self, hints: &Hints, facts: &Facts) -> bool {
        match self {
            Self::Everything => true,
            Self::Zone => hints.has_zone(facts),
            Self::Node => hints.has_node(facts),
        }
    }
}
