//! The zone of this node, which its label says.

use futures::stream::BoxStream;
use futures::{StreamExt as _, future::ready};
use k8s_openapi::api::core::v1::Node;
use kube::api::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};

use berth_supervise::Outage;

/// The label of a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The zone as it is now and each time the Node is written. Only its metadata is asked for: its status changes all the time.
pub(super) fn watch(client: Client, node: &str) -> BoxStream<'static, Option<String>> {
    let nodes: Api<PartialObjectMeta<Node>> = Api::all(client);
    let only = watcher::Config::default().fields(&format!("metadata.name={node}"));
    let mut outage = Outage::new("cannot watch the zone of this node");
    watcher(nodes, only)
        .default_backoff()
        .filter_map(move |event| {
            outage.watched(&event);
            ready(event.ok().and_then(zone_of))
        })
        .boxed()
}

/// Nothing where the event says nothing of the zone.
fn zone_of(event: watcher::Event<PartialObjectMeta<Node>>) -> Option<Option<String>> {
    match event {
        watcher::Event::Init | watcher::Event::InitDone => None,
        watcher::Event::InitApply(node) | watcher::Event::Apply(node) => {
            Some(label(&node.metadata))
        }
        // It may come back, with its pods: what was known of it holds.
        watcher::Event::Delete(_) => None,
    }
}

fn label(meta: &ObjectMeta) -> Option<String> {
    let zone = meta.labels.as_ref()?.get(ZONE)?;
    (!zone.is_empty()).then(|| zone.clone())
}
