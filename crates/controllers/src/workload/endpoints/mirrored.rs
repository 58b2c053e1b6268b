//! Slices of Endpoints that somebody wrote for a Service without a selector.

use std::sync::Arc;

use berth_supervise::Tasks;
use berth_workloads::endpoints::MIRRORING_CONTROLLER;
use berth_workloads::endpoints::mirrored::{changes, is_mirrored};
use berth_workloads::endpoints::reconcile::Changes;

use super::Seen;
use super::slices::Slices;
use crate::workload::keyed::{Keys, Looked};
use crate::workload::{Key, NOT_LISTED};

struct Controller {
    seen: Seen,
    slices: Slices,
    keys: Keys,
}

/// Spawns the controller.
pub(super) fn spawn(tasks: &Tasks, seen: &Seen) {
    let controller = Arc::new(Controller {
        slices: Slices::new(seen, MIRRORING_CONTROLLER),
        seen: seen.clone(),
        keys: Keys::new("endpoint_slice_mirroring"),
    });
    let keys = controller.keys.clone();
    seen.services
        .listen(move |service| keys.add(&Key::of(service)));
    let keys = controller.keys.clone();
    seen.endpoints
        .listen(move |endpoints| keys.add(&Key::of(endpoints)));
    controller.slices.listen(controller.keys.clone());
    let stop = tasks.clone();
    tasks.spawn_essential("endpoint slice mirroring controller", async move {
        let controller = &controller;
        let keys = &controller.keys;
        keys.work(stop, "Endpoints", |key| controller.look(key))
            .await;
    });
}

impl Controller {
    async fn look(&self, key: Key) -> Looked {
        if !self.seen.is_complete() {
            return Ok(Some(NOT_LISTED));
        }
        let service = self.seen.services.get(&key.namespace, &key.name);
        let found = self.seen.endpoints.get(&key.namespace, &key.name);
        let mirrored = found.filter(|e| is_mirrored(e, service.as_deref()));
        if mirrored.is_none() {
            self.slices.forget(&key);
        }
        let keep = self.slices.keep(&key, |existing| match &mirrored {
            Some(endpoints) => changes(endpoints, existing),
            // They are the selector's now, or nobody's.
            None => Changes {
                delete: existing.iter().map(|slice| (*slice).clone()).collect(),
                ..Changes::default()
            },
        });
        keep.await
    }
}
