//! What the API server says about Services and EndpointSlices, into the zone.

use std::collections::HashSet;
use std::sync::Arc;

use berth_supervise::Outage;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::zone::{Key, Zone, key};

/// Objects to list in one request: as many are in memory at the same time.
const PAGE: u32 = 200;

/// Keeps the zone's Services until `shutdown`. While the API server is away the last ones stand.
pub(crate) async fn services(client: Client, zone: Arc<RwLock<Zone>>, shutdown: CancellationToken) {
    follow::<Service>(
        client,
        "Services",
        shutdown,
        |object| zone.write().apply_service(object),
        |key| zone.write().remove_service(key),
        |seen| zone.write().keep_services(seen),
    )
    .await;
}

/// Keeps the zone's EndpointSlices until `shutdown`.
pub(crate) async fn slices(client: Client, zone: Arc<RwLock<Zone>>, shutdown: CancellationToken) {
    follow::<EndpointSlice>(
        client,
        "EndpointSlices",
        shutdown,
        |object| zone.write().apply_slice(object),
        |key| zone.write().remove_slice(key),
        |seen| zone.write().keep_slices(seen),
    )
    .await;
}

async fn follow<K>(
    client: Client,
    what: &str,
    shutdown: CancellationToken,
    apply: impl Fn(&K) -> Option<Key>,
    remove: impl Fn(&Key),
    keep: impl Fn(&HashSet<Key>),
) where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let api: Api<K> = Api::all(client);
    let config = watcher::Config::default().page_size(PAGE);
    let mut events = Box::pin(watcher(api, config).default_backoff());
    let mut outage = Outage::new(format!(
        "cannot watch {what}; names of the cluster stay as they were"
    ));
    // The keys of a list that is being read.
    let mut seen = HashSet::new();
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        let Some(event) = event else { return };
        outage.watched(&event);
        match event {
            Err(_) => {}
            Ok(watcher::Event::Init) => seen.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                if let Some(key) = apply(&object) {
                    seen.insert(key);
                }
            }
            Ok(watcher::Event::InitDone) => {
                keep(&seen);
                seen = HashSet::new();
            }
            Ok(watcher::Event::Apply(object)) => {
                apply(&object);
            }
            Ok(watcher::Event::Delete(object)) => {
                if let Some(key) = key(&object) {
                    remove(&key);
                }
            }
        }
    }
}
