//! Services: a watched cache of what the environment of pods says about them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_supervise::Outage;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a container waits for the first list before it is tried again later.
const PATIENCE: Duration = Duration::from_secs(5);
/// The Service that every pod is told of: the API server's.
const MASTER: (&str, &str) = ("default", "kubernetes");

/// Namespace and name.
type Key = (String, String);

/// What a Service is to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) ports: Vec<LinkPort>,
}

/// A port of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkPort {
    /// Empty for an unnamed one.
    pub(crate) name: String,
    pub(crate) number: i32,
    pub(crate) protocol: String,
}

/// The Services have not been listed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("services have not yet been read at least once, cannot construct envvars")]
pub(crate) struct NotRead;

/// Handle of the cache.
#[derive(Clone)]
pub(crate) struct Services {
    api: Api<Service>,
    known: Arc<RwLock<BTreeMap<Key, Arc<Link>>>>,
    read: watch::Sender<bool>,
}

impl Services {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            api: Api::all(client),
            known: Arc::default(),
            read: watch::Sender::new(false),
        }
    }

    /// The Services that a pod of a namespace is told of, by name: those of its namespace if it wants links, and the API
    /// server's in any case.
    pub(crate) async fn of_pod(
        &self,
        namespace: &str,
        links: bool,
    ) -> Result<Vec<Arc<Link>>, NotRead> {
        let mut read = self.read.subscribe();
        match tokio::time::timeout(PATIENCE, read.wait_for(|read| *read)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(NotRead),
        }
        Ok(self.known_now(namespace, links))
    }

    /// As [`Services::of_pod`], of what is known by now: a static pod does not wait for the API.
    pub(crate) fn known_now(&self, namespace: &str, links: bool) -> Vec<Arc<Link>> {
        let known = self.known.read();
        let mut found: BTreeMap<&str, Arc<Link>> = BTreeMap::new();
        let master = (MASTER.0.to_owned(), MASTER.1.to_owned());
        if let Some(link) = known.get(&master) {
            found.insert(MASTER.1, Arc::clone(link));
        }
        if links {
            let first = (namespace.to_owned(), String::new());
            let own = known
                .range(first..)
                .take_while(|((of, _), _)| of == namespace);
            found.extend(own.map(|((_, name), link)| (name.as_str(), Arc::clone(link))));
        }
        found.into_values().collect()
    }

    /// Watches until `shutdown`.
    pub(crate) async fn keep(self, shutdown: CancellationToken) {
        let stream = watcher(self.api.clone(), watcher::Config::default()).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut listing = BTreeMap::new();
        let mut outage = Outage::new("cannot watch Services");
        while let Some(Some(event)) = shutdown.run_until_cancelled(stream.next()).await {
            outage.watched(&event);
            match event {
                Err(_) => {}
                Ok(watcher::Event::Init) => listing.clear(),
                Ok(watcher::Event::InitApply(service)) => put(&mut listing, &service),
                Ok(watcher::Event::InitDone) => {
                    *self.known.write() = std::mem::take(&mut listing);
                    self.read.send_replace(true);
                }
                Ok(watcher::Event::Apply(service)) => put(&mut self.known.write(), &service),
                Ok(watcher::Event::Delete(service)) => {
                    self.known.write().remove(&key(&service));
                }
            }
        }
    }
}

fn key(service: &Service) -> Key {
    let metadata = &service.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

fn put(known: &mut BTreeMap<Key, Arc<Link>>, service: &Service) {
    let key = key(service);
    match link(service) {
        Some(link) => known.insert(key, Arc::new(link)),
        None => known.remove(&key),
    };
}

/// None for one without an address of its own.
fn link(service: &Service) -> Option<Link> {
    let spec = service.spec.as_ref()?;
    let address = spec.cluster_ip.clone()?;
    if address.is_empty() || address == "None" {
        return None;
    }
    let ports = spec.ports.iter().flatten();
    Some(Link {
        name: service.metadata.name.clone()?,
        address,
        ports: ports
            .map(|port| LinkPort {
                name: port.name.clone().unwrap_or_default(),
                number: port.port,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use serde_json::json;

    fn service(namespace: &str, name: &str, ip: &str) -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": [{"port": 80}]}}))
        .unwrap()
    }

    async fn told(all: &[Service], namespace: &str, links: bool) -> Vec<String> {
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::io::Error>(http::Response::new(kube::client::Body::empty()))
        });
        let services = Services::new(Client::new(nobody, "default"));
        for one in all {
            put(&mut services.known.write(), one);
        }
        services.read.send_replace(true);
        let found = services.of_pod(namespace, links).await.unwrap();
        found.iter().map(|link| link.address.clone()).collect()
    }

    #[tokio::test]
    async fn a_pod_is_told_of_its_namespace_and_of_the_api_server() {
        let all = [
            service("default", "kubernetes", "10.0.0.1"),
            service("default", "other", "10.0.0.2"),
            service("a", "web", "10.0.0.3"),
            service("a", "headless", "None"),
            service("a", "name", ""),
            service("b", "web", "10.0.0.4"),
            service("aa", "web", "10.0.0.5"),
        ];
        assert_eq!(told(&all, "a", true).await, ["10.0.0.1", "10.0.0.3"]);
        assert_eq!(told(&all, "a", false).await, ["10.0.0.1"]);
        assert_eq!(told(&all, "none", true).await, ["10.0.0.1"]);
        assert_eq!(told(&all, "default", true).await, ["10.0.0.1", "10.0.0.2"]);
    }

    #[tokio::test]
    async fn nothing_is_said_before_they_are_read() {
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::io::Error>(http::Response::new(kube::client::Body::empty()))
        });
        let services = Services::new(Client::new(nobody, "default"));
        assert!(services.of_pod("a", true).now_or_never().is_none());
        services.read.send_replace(true);
        assert!(services.of_pod("a", true).await.unwrap().is_empty());
    }
}
