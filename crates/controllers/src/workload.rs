//! The drivers of the workload controllers: what `berth-workloads` decides is done here.
//!
//! | file | what it holds |
//! |---|---|
//! | `keyed.rs` | which objects are to be looked at: each once, several at a time, later and later when it fails |
//! | `seen.rs` | whether a watched copy has what was written |
//! | `claim.rs` | adopting and releasing by selector |
//! | `pods.rs` | creating and deleting pods, more at a time as long as it succeeds |
//! | `ended.rs` | when a pod that ended is replaced |
//! | `replicas.rs` | ReplicaSets and ReplicationControllers |
//! | `deployment.rs` | Deployments |
//! | `stateful_set.rs`, `daemon_set.rs` | StatefulSets, DaemonSets |
//! | `revisions.rs` | their history |
//! | `job.rs`, `cron_job.rs` | Jobs, CronJobs |
//! | `budget.rs` | PodDisruptionBudgets |
//! | `autoscaler.rs` | HorizontalPodAutoscalers |
//! | `endpoints.rs` | EndpointSlices and Endpoints |
//! | `volumes.rs` | PersistentVolumeClaims and PersistentVolumes |
//!
//! Tasks: a watch for each kind, and one for each kind that looks at its objects, [`keyed::WORKERS`] at a time.

mod autoscaler;
mod budget;
mod claim;
mod cron_job;
mod daemon_set;
mod deployment;
mod ended;
mod endpoints;
mod job;
mod keyed;
mod pods;
mod replicas;
mod revisions;
mod seen;
mod stateful_set;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use berth_supervise::Tasks;
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use crate::record::Recorder;
use crate::{Reflected, reflect};
use pods::Pods;
use revisions::Revisions;

/// Nothing is decided before a kind is listed; it is looked at again after this time.
const NOT_LISTED: Duration = Duration::from_millis(200);

/// Spawns all of them.
pub(crate) fn spawn(
    tasks: &Tasks,
    client: &Client,
    pods: &Reflected<Pod>,
    nodes: &Reflected<Node>,
    jobs: Reflected<Job>,
) {
    endpoints::spawn(tasks, client, pods, nodes);
    let sets: Reflected<ReplicaSet> = watch(tasks, client);
    let revisions: Reflected<ControllerRevision> = watch(tasks, client);
    let control = |component: &str| Pods {
        client: client.clone(),
        recorder: Arc::new(Recorder::new(client.clone(), component)),
        written: seen::Written::default(),
    };
    let revisions = || Revisions {
        client: client.clone(),
        all: revisions.clone(),
    };
    replicas::spawn(tasks, sets.clone(), pods, control("replicaset-controller"));
    let controllers: Reflected<ReplicationController> = watch(tasks, client);
    replicas::spawn(
        tasks,
        controllers.clone(),
        pods,
        control("replication-controller"),
    );
    let deployments: Reflected<Deployment> = watch(tasks, client);
    let recorder = Arc::new(Recorder::new(client.clone(), "deployment-controller"));
    deployment::spawn(tasks, client, deployments.clone(), &sets, pods, recorder);
    job::spawn(tasks, jobs.clone(), pods, control("job-controller"));
    let crons: Reflected<CronJob> = watch(tasks, client);
    let recorder = Arc::new(Recorder::new(client.clone(), "cronjob-controller"));
    cron_job::spawn(tasks, client, crons, &jobs, recorder);
    let daemons: Reflected<DaemonSet> = watch(tasks, client);
    let own = control("daemonset-controller");
    daemon_set::spawn(tasks, daemons, pods, nodes, own, revisions());
    let stateful: Reflected<StatefulSet> = watch(tasks, client);
    let claims: Reflected<PersistentVolumeClaim> = watch(tasks, client);
    volumes::spawn(tasks, client, &claims, pods, nodes);
    let own = control("statefulset-controller");
    stateful_set::spawn(tasks, stateful.clone(), pods, claims, own, revisions());
    let scalers: Reflected<HorizontalPodAutoscaler> = watch(tasks, client);
    let recorder = Arc::new(Recorder::new(client.clone(), "horizontal-pod-autoscaler"));
    autoscaler::spawn(tasks, client, scalers, recorder);
    let budgets: Reflected<PodDisruptionBudget> = watch(tasks, client);
    let recorder = Arc::new(Recorder::new(client.clone(), "controllermanager"));
    let scales = budget::Scales {
        sets,
        deployments,
        stateful,
        controllers,
    };
    budget::spawn(tasks, client, budgets, pods, scales, recorder);
}

fn watch<K>(tasks: &Tasks, client: &Client) -> Reflected<K>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    reflect(tasks, Api::all(client.clone()), None)
}

/// An object by its namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn of<K: kube::Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        )
    }

    /// No namespace has a slash in its name.
    fn text(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn parse(text: &str) -> Self {
        let (namespace, name) = text.split_once('/').unwrap_or(("", text));
        Self::new(namespace, name)
    }
}
