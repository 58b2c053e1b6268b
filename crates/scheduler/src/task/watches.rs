//! What the scheduler watches, as one stream.

use std::convert::identity;
use std::fmt::Debug;
use std::future::ready;
use std::time::Instant;

use berth_supervise::{Outage, TaskError};
use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll, once, select_all};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::Client;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};

use super::SchedulerTask;
use crate::class::ClassHandler;

/// Something that a watch tells.
pub(super) enum News {
    Node(Box<Event<Node>>),
    Pod(Box<Event<Pod>>),
    Class(Box<Event<RuntimeClass>>),
    Namespace(Box<Event<Namespace>>),
    Budget(Box<Event<PodDisruptionBudget>>),
    Claim(Box<Event<PersistentVolumeClaim>>),
    Volume(Box<Event<PersistentVolume>>),
    StorageClass(Box<Event<StorageClass>>),
    Service(Box<Event<Service>>),
    Controller(Box<Event<ReplicationController>>),
    ReplicaSet(Box<Event<ReplicaSet>>),
    StatefulSet(Box<Event<StatefulSet>>),
    /// A watch failed and is begun again.
    Failed,
    /// A watch ended, which none does by itself.
    Ended(&'static str),
}

/// The watches.
pub(super) fn all(client: &Client) -> SelectAll<BoxStream<'static, News>> {
    let open = watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let every = watcher::Config::default;
    select_all([
        one(
            client,
            "the scheduler cannot watch nodes",
            every(),
            News::Node,
        ),
        one(
            client,
            "the scheduler cannot watch RuntimeClasses",
            every(),
            News::Class,
        ),
        one(
            client,
            "the scheduler cannot watch namespaces",
            every(),
            News::Namespace,
        ),
        one(
            client,
            "the scheduler cannot watch PodDisruptionBudgets",
            every(),
            News::Budget,
        ),
        one(
            client,
            "the scheduler cannot watch PersistentVolumeClaims",
            every(),
            News::Claim,
        ),
        one(
            client,
            "the scheduler cannot watch PersistentVolumes",
            every(),
            News::Volume,
        ),
        one(
            client,
            "the scheduler cannot watch StorageClasses",
            every(),
            News::StorageClass,
        ),
        one(
            client,
            "the scheduler cannot watch Services",
            every(),
            News::Service,
        ),
        one(
            client,
            "the scheduler cannot watch ReplicationControllers",
            every(),
            News::Controller,
        ),
        one(
            client,
            "the scheduler cannot watch ReplicaSets",
            every(),
            News::ReplicaSet,
        ),
        one(
            client,
            "the scheduler cannot watch StatefulSets",
            every(),
            News::StatefulSet,
        ),
        one(client, "the scheduler cannot watch pods", open, News::Pod),
    ])
}

fn one<K>(
    client: &Client,
    broken: &'static str,
    config: watcher::Config,
    wrap: fn(Box<Event<K>>) -> News,
) -> BoxStream<'static, News>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
    K: serde::de::DeserializeOwned,
{
    let mut outage = Outage::new(broken);
    watcher(Api::<K>::all(client.clone()), config)
        .default_backoff()
        .map(move |event| {
            outage.watched(&event);
            event.map_or(News::Failed, |event| wrap(Box::new(event)))
        })
        .chain(once(ready(News::Ended("watch of the scheduler"))))
        .boxed()
}

impl SchedulerTask {
    /// Takes over what a watch tells.
    pub(super) fn hear(&mut self, news: News) -> Result<(), TaskError> {
        let claims = matches!(news, News::Claim(_) | News::Volume(_));
        let differs = match news {
            News::Failed => false,
            News::Ended(task) => return Err(TaskError::Ended { task }),
            News::Node(event) => {
                self.node_event(*event);
                false
            }
            News::Pod(event) => {
                self.pod_event(*event);
                false
            }
            News::Class(event) => self.handlers.event(*event, ClassHandler::of),
            News::Namespace(event) => self
                .namespaces
                .event(*event, |one| one.metadata.labels.unwrap_or_default()),
            // By them a pod that fits is placed better; none fits because of them.
            News::Service(event) => {
                self.selectors.service(*event);
                false
            }
            News::Controller(event) => {
                self.selectors.controller(*event);
                false
            }
            News::ReplicaSet(event) => {
                self.selectors.replica_set(*event);
                false
            }
            News::StatefulSet(event) => {
                self.selectors.stateful_set(*event);
                false
            }
            News::Budget(event) => {
                self.budgets.event(*event, identity);
                false
            }
            News::Claim(event) => self.claims.event(*event, identity),
            News::Volume(event) => self.volumes.event(*event, identity),
            News::StorageClass(event) => self.storage_classes.event(*event, identity),
        };
        if differs {
            if claims {
                self.claims_changed();
            }
            self.queue.cluster_changed(Instant::now());
        }
        Ok(())
    }
}
