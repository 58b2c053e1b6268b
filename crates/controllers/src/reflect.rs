//! A watched copy of one kind of object, and a signal that it changed.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use berth_supervise::{Outage, Tasks};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// Is shown each object that appears, changes or goes.
type Listener<K> = Box<dyn Fn(&K) + Send>;

/// What [`reflect`] gives: cheap to clone.
#[derive(Clone)]
pub struct Reflected<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    store: Store<K>,
    changed: watch::Receiver<u64>,
    /// The newest revision of an object that was seen.
    revision: Arc<AtomicU64>,
    listeners: Arc<Mutex<Vec<Listener<K>>>>,
}

impl<K> Reflected<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    /// All objects as last seen.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// Those of a namespace as last seen.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let mut all = self.all();
        all.retain(|object| object.meta().namespace.as_deref() == Some(namespace));
        all
    }

    /// An object as last seen.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// An object of the cluster as last seen.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name))
    }

    /// The newest revision of an object that was seen: what was written at this one or before is here.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Calls `listener` with each object that is here, and from then on with each that appears, changes or goes, after it did. It must
    /// not block.
    pub fn listen(&self, listener: impl Fn(&K) + Send + 'static) {
        let mut listeners = self.listeners.lock();
        for object in self.store.state() {
            listener(&object);
        }
        listeners.push(Box::new(listener));
    }

    /// Whether the first list is complete. Until then an object that is not here may exist.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self.changed.borrow() > 0
    }

    /// Takes note of the revision, and calls the listeners. `before` are the objects that were there before a list.
    fn tell(&self, event: &watcher::Event<K>, before: &[Arc<K>]) {
        let listed;
        let one;
        let changed: Vec<&K> = match event {
            watcher::Event::Init | watcher::Event::InitApply(_) => return,
            watcher::Event::Apply(object) | watcher::Event::Delete(object) => {
                one = [object];
                one.to_vec()
            }
            watcher::Event::InitDone => {
                listed = self.store.state();
                let all = listed.iter().chain(before);
                all.map(Arc::as_ref).collect()
            }
        };
        let revisions = changed
            .iter()
            .filter_map(|object| revision_of(object.meta()));
        if let Some(newest) = revisions.max() {
            self.revision.fetch_max(newest, Ordering::AcqRel);
        }
        for listener in self.listeners.lock().iter() {
            changed.iter().for_each(|object| listener(object));
        }
    }

    /// Waits until something changed since this handle last waited, at most for `period`.
    pub async fn changed_or(&mut self, period: Duration) {
        match tokio::time::timeout(period, self.changed.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            // The watcher is gone: shutdown is under way.
            Ok(Err(_)) => tokio::time::sleep(period).await,
        }
    }
}

/// Watches objects, in a task of `tasks`, until they are to stop. `fields` is a field selector.
pub fn reflect<K>(tasks: &Tasks, api: Api<K>, fields: Option<&str>) -> Reflected<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Hash + Eq + Clone,
{
    reflect_parts(tasks, api, fields, |_| {})
}

/// [`reflect`] of all pods, without what only nodes look at: it is most of a pod, and there may be a hundred thousand.
pub fn reflect_pods(tasks: &Tasks, client: Client) -> Reflected<Pod> {
    reflect_parts(tasks, Api::all(client), None, forget_what_nodes_need)
}

fn reflect_parts<K>(
    tasks: &Tasks,
    api: Api<K>,
    fields: Option<&str>,
    forget: fn(&mut K),
) -> Reflected<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Hash + Eq + Clone,
{
    let (store, mut writer) = reflector::store::<K>();
    let (signal, changed) = watch::channel(0);
    let config = match fields {
        Some(fields) => watcher::Config::default().fields(fields),
        None => watcher::Config::default(),
    };
    let shutdown = tasks.stop_token();
    let reflected = Reflected {
        store,
        changed,
        revision: Arc::default(),
        listeners: Arc::default(),
    };
    let own = reflected.clone();
    tasks.spawn_essential("watch", async move {
        let mut outage = Outage::new(format!("cannot watch {}", K::plural(&())));
        let events = watcher(api, config).default_backoff();
        let mut events = std::pin::pin!(events.take_until(shutdown.cancelled_owned()));
        let mut listing = true;
        while let Some(event) = events.next().await {
            outage.watched(&event);
            if let Ok(event) = event {
                let event = event.modify(|object| {
                    forget_managers(object.meta_mut());
                    forget(object);
                });
                match event {
                    watcher::Event::Init => listing = true,
                    watcher::Event::InitDone => listing = false,
                    watcher::Event::InitApply(_)
                    | watcher::Event::Apply(_)
                    | watcher::Event::Delete(_) => {}
                }
                let before = match event {
                    watcher::Event::InitDone => own.store.state(),
                    _ => Vec::new(),
                };
                writer.apply_watcher_event(&event);
                own.tell(&event, &before);
                if !listing {
                    signal.send_modify(|version| *version += 1);
                }
            }
        }
    });
    reflected
}

/// The revision of an object; revisions of one server can be compared (KEP-5504).
pub(crate) fn revision_of(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

/// Nobody here looks at `managedFields`, and they are half of an object.
fn forget_managers(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
}

fn forget_what_nodes_need(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else {
        return;
    };
    // Of its volumes those that are claims: a claim that is used is protected.
    let claims = spec.volumes.take().unwrap_or_default().into_iter();
    let claims = claims.filter(|v| v.persistent_volume_claim.is_some() || v.ephemeral.is_some());
    spec.volumes = Some(claims.collect()).filter(|all: &Vec<_>| !all.is_empty());
    let init_containers = spec.init_containers.iter_mut().flatten();
    for container in spec.containers.iter_mut().chain(init_containers) {
        container.args = None;
        container.command = None;
        container.env = None;
        container.env_from = None;
        container.image = None;
        container.lifecycle = None;
        container.liveness_probe = None;
        container.readiness_probe = None;
        container.startup_probe = None;
        container.volume_devices = None;
        container.volume_mounts = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn a_pod_keeps_what_it_asks_for_and_where_it_is() {
        let resources = json!({"requests": {"cpu": "1"}});
        let container = |name: &str| {
            json!({"name": name, "image": "i", "command": ["c"], "env": [{"name": "A", "value": "b"}],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}], "resources": resources, "restartPolicy": "Always"})
        };
        let mut pod: Pod = from_value(json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "volumes": [{"name": "v"}, {"name": "c", "persistentVolumeClaim": {"claimName": "c"}}],
            "containers": [container("a")], "initContainers": [container("b")]}, "status": {"phase": "Running"}}))
        .unwrap();
        forget_what_nodes_need(&mut pod);
        let kept =
            |name: &str| json!({"name": name, "resources": resources, "restartPolicy": "Always"});
        let wanted = json!({"nodeName": "n", "containers": [kept("a")], "initContainers": [kept("b")],
                "volumes": [{"name": "c", "persistentVolumeClaim": {"claimName": "c"}}]});
        assert_eq!(to_value(&pod.spec).unwrap(), wanted);
        assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Running"));
    }
}
