//! Which pods a term of pod affinity means (KEP-2249 for the namespaces).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use berth_core::selector::label_selector_matches;
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, WeightedPodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The labels of each namespace.
pub type Namespaces = HashMap<String, BTreeMap<String, String>>;

/// A term of `podAffinity` or `podAntiAffinity`.
#[derive(Debug)]
pub(super) struct Term {
    /// The label whose value makes nodes one place.
    pub(super) key: String,
    /// What a preferred term weighs; less than nothing where it keeps pods apart.
    pub(super) weight: i64,
    namespaces: BTreeSet<String>,
    namespace_selector: Option<LabelSelector>,
    selector: Option<LabelSelector>,
}

impl Term {
    fn of(term: &PodAffinityTerm, own: &str, weight: i64) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(own.to_owned());
        }
        Self {
            key: term.topology_key.clone(),
            weight,
            namespaces,
            namespace_selector: term.namespace_selector.clone(),
            selector: term.label_selector.clone(),
        }
    }

    /// Whether the term means this pod. Without a label selector it means none.
    pub(super) fn selects(&self, pod: &Pod, all: &Namespaces) -> bool {
        let name = pod.metadata.namespace.as_deref().unwrap_or_default();
        let here = || {
            self.namespaces.contains(name)
                || self.namespace_selector.as_ref().is_some_and(|selector| {
                    all.get(name)
                        .is_some_and(|labels| label_selector_matches(selector, Some(labels)))
                })
        };
        // The namespace first: it costs least, and most terms are about their own.
        here()
            && self.selector.as_ref().is_some_and(|selector| {
                label_selector_matches(selector, pod.metadata.labels.as_ref())
            })
    }
}

/// What a pod says of other pods.
#[derive(Debug, Default)]
pub(super) struct Terms {
    pub(super) affinity: Vec<Term>,
    pub(super) anti: Vec<Term>,
    pub(super) preferred: Vec<Term>,
}

impl Terms {
    /// None where the pod says nothing.
    pub(super) fn of(pod: &Pod) -> Option<Arc<Self>> {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?;
        let own = pod.metadata.namespace.as_deref().unwrap_or_default();
        let required = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<Term> {
            let terms = terms.into_iter().flatten();
            terms.map(|term| Term::of(term, own, 0)).collect()
        };
        let preferred = |terms: Option<&Vec<WeightedPodAffinityTerm>>, sign: i64| -> Vec<Term> {
            let terms = terms.into_iter().flatten();
            terms
                .map(|one| Term::of(&one.pod_affinity_term, own, sign * i64::from(one.weight)))
                .collect()
        };
        let (to, from) = (
            affinity.pod_affinity.as_ref(),
            affinity.pod_anti_affinity.as_ref(),
        );
        let mut all = Self {
            affinity: required(to.and_then(|all| {
                all.required_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
            anti: required(from.and_then(|all| {
                all.required_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
            preferred: preferred(
                to.and_then(|all| {
                    all.preferred_during_scheduling_ignored_during_execution
                        .as_ref()
                }),
                1,
            ),
        };
        all.preferred.extend(preferred(
            from.and_then(|all| {
                all.preferred_during_scheduling_ignored_during_execution
                    .as_ref()
            }),
            -1,
        ));
        let is_empty = all.affinity.is_empty() && all.anti.is_empty() && all.preferred.is_empty();
        (!is_empty).then(|| Arc::new(all))
    }
}
