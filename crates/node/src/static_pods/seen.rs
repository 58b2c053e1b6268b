//! Mirror pods as the API shows them.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The annotation of a mirror, with the hash of what it mirrors.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

/// Namespace and name.
pub(super) fn full_name(pod: &Pod) -> (String, String) {
    let meta = &pod.metadata;
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

/// The pod says that it mirrors a static one; whoever made it.
pub(crate) fn is_mirror(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|a| a.contains_key(MIRROR))
}

/// Mirrors by namespace and name.
pub(super) type Known = HashMap<(String, String), Arc<Pod>>;

#[derive(Default)]
struct State {
    known: Option<Known>,
    listing: Known,
}

/// Mirror pods of this node as the API shows them.
#[derive(Default)]
pub(crate) struct Mirrors {
    state: Mutex<State>,
    pub(super) changed: Notify,
}

impl Mirrors {
    /// A whole list begins.
    pub(crate) fn begin(&self) {
        self.state.lock().listing.clear();
    }

    /// One of the list.
    pub(crate) fn listed(&self, pod: Pod) {
        let name = full_name(&pod);
        self.state.lock().listing.insert(name, Arc::new(pod));
    }

    /// The list is whole.
    pub(crate) fn done(&self) {
        let mut state = self.state.lock();
        state.known = Some(std::mem::take(&mut state.listing));
        drop(state);
        self.poke();
    }

    pub(crate) fn seen(&self, pod: Pod) {
        if let Some(known) = &mut self.state.lock().known {
            known.insert(full_name(&pod), Arc::new(pod));
        }
        self.poke();
    }

    pub(crate) fn gone(&self, pod: &Pod) {
        if let Some(known) = &mut self.state.lock().known {
            let name = full_name(pod);
            // Another one may have the name by now.
            if known
                .get(&name)
                .is_some_and(|k| k.metadata.uid == pod.metadata.uid)
            {
                known.remove(&name);
            }
        }
        self.poke();
    }

    /// Asks for a look at all of them.
    pub(crate) fn poke(&self) {
        self.changed.notify_one();
    }

    /// All of them, by name; none before the API was listed.
    pub(super) fn known(&self) -> Option<Known> {
        self.state.lock().known.clone()
    }
}
