//! The pods from which a pod is kept apart when it says nothing of that itself: those of its Services and of its owner, over
//! nodes and zones, as far as it can be had (KEP-1258).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use berth_core::selector::is_empty;

/// What selects them: `services` are the selectors of the Services in the pod's namespace, of which those count that select
/// it, `owner` that of the ReplicaSet, ReplicationController or StatefulSet to which it belongs. Nothing where there is
/// neither.
#[must_use]
pub fn siblings_of<'s>(
    pod: &Pod,
    services: impl IntoIterator<Item = &'s BTreeMap<String, String>>,
    owner: Option<&LabelSelector>,
) -> Option<LabelSelector> {
    let labels = pod.metadata.labels.as_ref();
    let selects = |selector: &&BTreeMap<String, String>| {
        let mut pairs = selector.iter();
        pairs.all(|(key, value)| labels.and_then(|all| all.get(key)) == Some(value))
    };
    let mut all = owner.cloned().unwrap_or_default();
    for selector in services.into_iter().filter(selects) {
        let labels = all.match_labels.get_or_insert_default();
        labels.extend(selector.clone());
    }
    (!is_empty(&all)).then_some(all)
}
