//! EndpointSlices and Endpoints.
//!
//! | file | what it holds |
//! |---|---|
//! | `slices.rs` | writing what `berth_workloads::endpoints` decided about slices |
//! | `mirrored.rs` | slices of Endpoints that somebody wrote |
//!
//! The Service `default/kubernetes` has no selector, and its Endpoints say that they are not to be mirrored: the server
//! itself keeps its endpoints.

mod mirrored;
mod slices;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use berth_supervise::Tasks;
use berth_workloads::endpoints::{
    ENDPOINTS_CONTROLLER, ENDPOINTS_MANAGED_BY, SLICE_CONTROLLER, has_pods, selects, subsets,
};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;

use super::Key;
use super::keyed::{Keys, Looked};
use super::seen::Written;
use crate::Reflected;
use crate::reflect::revision_of;
use crate::server::{is_code, only};

/// The label of a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The kinds that both controllers look at.
#[derive(Clone)]
struct Seen {
    client: Client,
    services: Reflected<Service>,
    endpoints: Reflected<Endpoints>,
    slices: Reflected<EndpointSlice>,
}

impl Seen {
    /// Whether all of them are listed.
    fn is_complete(&self) -> bool {
        self.services.is_complete() && self.endpoints.is_complete() && self.slices.is_complete()
    }
}

struct Controller {
    seen: Seen,
    pods: Reflected<Pod>,
    nodes: Reflected<Node>,
    slices: slices::Slices,
    written: Written,
    /// Services that were seen to go: their Endpoints go, too.
    gone: Mutex<HashSet<Key>>,
    keys: Keys,
}

/// Spawns both controllers.
pub(super) fn spawn(
    tasks: &Tasks,
    client: &Client,
    pods: &Reflected<Pod>,
    nodes: &Reflected<Node>,
) {
    let seen = Seen {
        client: client.clone(),
        services: super::watch(tasks, client),
        endpoints: super::watch(tasks, client),
        slices: super::watch(tasks, client),
    };
    mirrored::spawn(tasks, &seen);
    let keys = Keys::new("endpoint_slice");
    let controller = Arc::new(Controller {
        slices: slices::Slices::new(&seen, SLICE_CONTROLLER),
        seen,
        pods: pods.clone(),
        nodes: nodes.clone(),
        written: Written::default(),
        gone: Mutex::default(),
        keys,
    });
    controller.listen();
    let stop = tasks.clone();
    tasks.spawn_essential("endpoint slice controller", async move {
        let controller = &controller;
        let keys = &controller.keys;
        keys.work(stop, "Service", |key| controller.look(key)).await;
    });
}

impl Controller {
    fn listen(self: &Arc<Self>) {
        let own = Arc::downgrade(self);
        self.seen.services.listen(move |service| {
            let Some(own) = own.upgrade() else { return };
            let key = Key::of(service);
            if own.seen.services.get(&key.namespace, &key.name).is_none() {
                own.gone.lock().insert(key.clone());
            }
            own.keys.add(&key);
        });
        self.slices.listen(self.keys.clone());
        let own = Arc::downgrade(self);
        self.seen.endpoints.listen(move |endpoints| {
            let Some(own) = own.upgrade() else { return };
            if is_own(endpoints) {
                own.keys.add(&Key::of(endpoints));
            }
        });
        let own = Arc::downgrade(self);
        // The labels by which pods were last seen: a Service that selected them before has to look, too.
        let labels: Mutex<HashMap<String, BTreeMap<String, String>>> = Mutex::default();
        self.pods.listen(move |pod| {
            let Some(own) = own.upgrade() else { return };
            let key = Key::of(pod);
            let is_there = own.pods.get(&key.namespace, &key.name);
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let now = pod.metadata.labels.clone().unwrap_or_default();
            let before = match is_there.is_some_and(|there| there.metadata.uid == pod.metadata.uid)
            {
                true => labels.lock().insert(uid, now),
                false => labels.lock().remove(&uid),
            };
            let services = own.seen.services.in_namespace(&key.namespace);
            let about = services.iter().filter(|service| {
                selects(service, pod.metadata.labels.as_ref()) || selects(service, before.as_ref())
            });
            about.for_each(|service| own.keys.add(&Key::of(&**service)));
        });
    }

    async fn look(&self, key: Key) -> Looked {
        if !self.seen.is_complete() || !self.pods.is_complete() || !self.nodes.is_complete() {
            return Ok(Some(super::NOT_LISTED));
        }
        let Some(service) = self.seen.services.get(&key.namespace, &key.name) else {
            // Slices go with their owner; Endpoints have none.
            self.written.forget(&key);
            self.slices.forget(&key);
            self.remove(&key).await?;
            self.gone.lock().remove(&key);
            return Ok(None);
        };
        self.gone.lock().remove(&key);
        if service.metadata.deletion_timestamp.is_some() || !has_pods(&service) {
            return Ok(None);
        }
        let here = self.pods.in_namespace(&key.namespace);
        let pods: Vec<&Pod> = here
            .iter()
            .map(Arc::as_ref)
            .filter(|pod| selects(&service, pod.metadata.labels.as_ref()))
            .collect();
        let zone_of = |node: &str| self.nodes.named(node)?.labels().get(ZONE).cloned();
        let awaited = self.slices.keep(&key, |existing| {
            berth_workloads::endpoints::slices::changes(&service, &pods, existing, zone_of)
        });
        let awaited = awaited.await?;
        let written = self.write(&key, &service, &pods).await?;
        Ok([awaited, written].into_iter().flatten().min())
    }

    /// Writes the Endpoints object, the older form of the same.
    async fn write(&self, key: &Key, service: &Service, pods: &[&Pod]) -> Looked {
        if let Some(left) = self.written.is_awaited(key, self.seen.endpoints.revision()) {
            return Ok(Some(left));
        }
        let existing = self.seen.endpoints.get(&key.namespace, &key.name);
        let Some(wanted) = subsets::change(service, pods, existing.as_deref()) else {
            return Ok(None);
        };
        let api: Api<Endpoints> = Api::namespaced(self.seen.client.clone(), &key.namespace);
        let parameters = PostParams::default();
        let written = match existing {
            Some(_) => api.replace(&key.name, &parameters, &wanted).await?,
            None => api.create(&parameters, &wanted).await?,
        };
        self.written.note(key, revision_of(&written.metadata));
        Ok(None)
    }

    /// The Endpoints of a Service that is gone.
    async fn remove(&self, key: &Key) -> kube::Result<()> {
        let Some(endpoints) = self.seen.endpoints.get(&key.namespace, &key.name) else {
            return Ok(());
        };
        if !is_own(&endpoints) && !self.gone.lock().contains(key) {
            return Ok(());
        }
        let api: Api<Endpoints> = Api::namespaced(self.seen.client.clone(), &key.namespace);
        match api.delete(&key.name, &only(&endpoints.metadata)).await {
            Err(error) if is_code(&error, &[404, 409]) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }
}

fn is_own(endpoints: &Endpoints) -> bool {
    let by = endpoints.labels().get(ENDPOINTS_MANAGED_BY);
    by.is_some_and(|by| by == ENDPOINTS_CONTROLLER)
}
