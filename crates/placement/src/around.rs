//! What the pods of all nodes mean for the place of one pod.
//!
//! Counted once for each pod that is to be placed, and only where somebody says something of other pods: a plain pod among
//! plain pods pays nothing.

use std::sync::Arc;

use super::between::{self, Between};
use super::claims::Claims;
use super::info::{NodeInfo, PodInfo};
use super::reason::Reason;
use super::spread::{self, Spread};
use super::term::Namespaces;

/// See the module. The default says nothing against any node.
#[derive(Clone, Debug, Default)]
pub struct Surroundings<'c> {
    between: Option<Between<'c>>,
    spread: Option<Spread<'c>>,
    claims: Option<Claims<'c>>,
    all: Option<(Arc<[&'c NodeInfo]>, &'c Namespaces)>,
}

impl<'c> Surroundings<'c> {
    /// Counts. `terms` says whether any pod that has a node says something of others ([`PodInfo::has_terms`]).
    #[must_use]
    pub fn of(
        pod: &'c PodInfo,
        nodes: impl Iterator<Item = &'c NodeInfo>,
        namespaces: &'c Namespaces,
        terms: bool,
    ) -> Self {
        if !terms && !pod.looks_around() {
            return Self::default();
        }
        let nodes: Arc<[&NodeInfo]> = nodes.collect();
        Self {
            between: (terms || pod.has_terms()).then(|| Between::of(pod, &nodes, namespaces)),
            spread: Spread::of(pod, &nodes),
            claims: None,
            all: Some((nodes, namespaces)),
        }
    }

    /// With the pod's claims. Of those that one pod at a time may use the users on all nodes are counted.
    #[must_use]
    pub fn with_claims(
        mut self,
        mut claims: Claims<'c>,
        nodes: impl Iterator<Item = &'c NodeInfo>,
    ) -> Self {
        if claims.is_exclusive() {
            for other in nodes.flat_map(|node| &node.placed) {
                claims.count(other, 1);
            }
        }
        self.claims = Some(claims);
        self
    }

    /// The pod's claims, if it has any.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims<'c>> {
        self.claims.as_ref()
    }

    /// A pod comes to the node (1) or leaves it (-1).
    pub(super) fn count(&mut self, other: &'c PodInfo, node: &'c NodeInfo, sign: i64) {
        if let Some(between) = &mut self.between {
            between.count(other, node, sign);
        }
        if let Some(spread) = &mut self.spread {
            spread.count(other, node, sign);
        }
        if let Some(claims) = &mut self.claims {
            claims.count(other, sign);
        }
    }

    /// Why the node will not do.
    pub(super) fn refusal(&self, node: &NodeInfo) -> Option<Reason> {
        let spread = self.spread.as_ref();
        let between = self.between.as_ref();
        let claims = self.claims.as_ref();
        claims
            .and_then(|claims| claims.refusal(node))
            .or_else(|| spread.and_then(|spread| spread.refusal(node)))
            .or_else(|| between.and_then(|between| between.refusal(node)))
    }

    /// What speaks for each of the nodes: from 0 to `most`, one list for each view that has something to say.
    pub(super) fn scores(
        &self,
        pod: &PodInfo,
        candidates: &[&NodeInfo],
        most: i64,
    ) -> impl Iterator<Item = Vec<i64>> {
        let views = self.all.as_ref().filter(|_| candidates.len() > 1);
        let views = views.map(|(nodes, namespaces)| {
            [
                spread::score(pod, candidates, nodes, most),
                between::score(pod, candidates, nodes, namespaces, most),
            ]
        });
        views.into_iter().flatten().flatten()
    }
}
