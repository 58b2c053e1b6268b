//! Watchers, which go on at another server where the one before has left them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use berth_testkit::wait_for_async;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use tokio::task::JoinHandle;

use crate::cluster::Servers;
use crate::history::{History, Told};
use crate::load::version_of;
use crate::network::NODES;

/// A watch that says nothing for so long is begun again elsewhere: the server may be cut off.
const SILENCE: Duration = Duration::from_secs(5);

pub(crate) struct Watcher {
    pub(crate) task: JoinHandle<()>,
    reached: Arc<AtomicI64>,
}

/// Two at each server, of which one changes the server whenever its watch ends.
pub(crate) fn start(servers: &Servers, history: &Arc<History>, from: i64) -> Vec<Watcher> {
    (0..2 * NODES)
        .map(|number| {
            let reached = Arc::new(AtomicI64::new(from));
            let following = follow(
                number,
                servers.clone(),
                Arc::clone(history),
                Arc::clone(&reached),
            );
            Watcher {
                task: tokio::spawn(following),
                reached,
            }
        })
        .collect()
}

async fn follow(number: usize, servers: Servers, history: Arc<History>, reached: Arc<AtomicI64>) {
    let moves = number >= NODES;
    let mut at = number % NODES;
    let mut segment = history.new_segment(reached.load(Ordering::Relaxed));
    loop {
        let api: Api<ConfigMap> = Api::namespaced(servers.client(at), "default");
        let from = reached.load(Ordering::Relaxed);
        let params = WatchParams::default();
        let version = from.to_string();
        let starting = api.watch(&params, &version);
        let expired = match tokio::time::timeout(SILENCE, starting).await {
            Ok(Ok(stream)) => take(stream, &history, segment, &reached).await,
            Ok(Err(kube::Error::Api(status))) => status.code == 410,
            Ok(Err(_)) | Err(_) => false,
        };
        if expired {
            // As every client: list, and go on from there.
            let params = ListParams::default();
            let listing = api.list(&params);
            if let Ok(Ok(list)) = tokio::time::timeout(SILENCE, listing).await {
                let at: i64 = list.metadata.resource_version.unwrap().parse().unwrap();
                assert!(
                    at >= from,
                    "the list is older ({at}) than what was seen ({from})"
                );
                reached.store(at, Ordering::Relaxed);
                segment = history.new_segment(at);
            }
        }
        if moves {
            at = (at + 1) % NODES;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Writes down what comes; whether it ended because the past is gone.
async fn take(
    stream: impl futures::Stream<Item = kube::Result<WatchEvent<ConfigMap>>>,
    history: &History,
    segment: usize,
    reached: &AtomicI64,
) -> bool {
    let mut stream = std::pin::pin!(stream);
    loop {
        let event = match tokio::time::timeout(SILENCE, stream.next()).await {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(_)) | None) | Err(_) => return false,
        };
        let map = match event {
            WatchEvent::Added(map) | WatchEvent::Modified(map) => map,
            WatchEvent::Deleted(map) => panic!("nothing is deleted: {map:?}"),
            WatchEvent::Bookmark(bookmark) => {
                let at = bookmark.metadata.resource_version.parse().unwrap();
                reached.fetch_max(at, Ordering::Relaxed);
                continue;
            }
            WatchEvent::Error(status) => return status.code == 410,
        };
        let name = map.metadata.name.clone().unwrap();
        let version = version_of(&map);
        reached.fetch_max(version.revision, Ordering::Relaxed);
        history.tell(
            segment,
            Told {
                object: name,
                version,
            },
        );
    }
}

/// Waits until all have come so far.
pub(crate) async fn all_reach(watchers: &[Watcher], revision: i64) {
    for watcher in watchers {
        wait_for_async("a watcher", Duration::from_secs(30), || async {
            assert!(!watcher.task.is_finished(), "a watcher has failed");
            match watcher.reached.load(Ordering::Relaxed) {
                at if at >= revision => Ok(()),
                at => Err(format!("it is at {at} of {revision}")),
            }
        })
        .await;
    }
}
