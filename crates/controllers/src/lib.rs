//! Controllers: what makes the cluster's state follow its objects, apart from scheduling.
//!
//! | task | watches | does |
//! |---|---|---|
//! | [`namespace`] | Namespaces | empties a namespace that is being deleted, then lets it go |
//! | [`service_accounts`] | Namespaces | gives each its ServiceAccount `default` and ConfigMap `kube-root-ca.crt` |
//! | [`node_health`] | Nodes, Leases | marks nodes whose Lease isn't renewed, keeps their condition taints |
//! | [`eviction`] | Nodes, Pods | deletes pods that don't tolerate a node's NoExecute taints |
//! | [`node_cidrs`] | Nodes | gives each the addresses of its pods, where the cluster's are shared out here |
//! | [`pod_garbage`] | Nodes, Pods | removes pods of nodes that are gone and old finished pods |
//! | [`garbage`] | all that can be deleted, by its metadata | removes objects whose owners are gone |
//! | [`certificates`] | CertificateSigningRequests, Nodes | approves those of nodes, signs what is approved |
//! | [`bootstrap_signer`] | Secrets of bootstrap tokens, ConfigMap `cluster-info` | signs the ConfigMap with each token |
//! | [`policy_types`] | ValidatingAdmissionPolicies | checks their expressions against the types of what they match |
//! | [`token_cleaner`] | Secrets of bootstrap tokens | removes those that have expired |
//! | [`ttl_after_finished`] | Jobs | deletes finished ones whose time to live is over |
//! | [`addons`] | a directory of manifests | applies them, deletes what they no longer hold; runs by itself |
//! | `workload` | Deployments, ReplicaSets, ReplicationControllers, Pods | makes and removes what they ask for |
//! | `workload::volumes` | PersistentVolumeClaims, PersistentVolumes, StorageClasses, Pods | binds claims, has local-path volumes made and removed |
//! | [`class_overhead`] | Nodes, Pods, what nodes measure | says which classes' declared overhead is far from what was measured |
//! | [`class_status`] | RuntimeClasses, Nodes, Pods | keeps in each class how many nodes can run it, why the others can't, how many pods use it |
//! | [`managed_classes`] | RuntimeClasses, Nodes, Pods, Namespaces | makes classes for handlers that work, removes those that nobody can run or names |
//! | [`quota`] | ResourceQuotas, Pods | counts what a namespace uses |
//!
//! Each is level-triggered: it looks at the whole state it needs whenever something changed, and
//! again from time to time. State is reached only through the API server.

pub mod addons;
pub mod bootstrap_signer;
pub mod certificates;
pub mod class_overhead;
pub mod class_status;
pub mod eviction;
pub mod garbage;
pub mod managed_classes;
pub mod namespace;
pub mod node_cidrs;
pub mod node_health;
pub mod node_page;
pub mod pod_garbage;
pub mod policy_types;
pub mod quota;
pub mod service_accounts;
pub mod token_cleaner;
pub mod ttl_after_finished;

mod queue;
mod record;
mod reflect;
mod server;
mod work;
mod workload;

use std::sync::Arc;
use std::time::Duration;

use berth_core::gates::FeatureGates;
use berth_supervise::{TaskError, Tasks};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use reflect::{Reflected, reflect, reflect_pods};

/// Settings of the controllers.
#[derive(Clone)]
pub struct Config {
    /// Client with the rights of `system:kube-controller-manager`.
    pub client: kube::Client,
    /// The cluster's CA certificate in PEM, published in every namespace.
    pub root_ca_pem: String,
    /// How long a node's Lease may stay unrenewed (stock: 40 s).
    pub node_grace: Duration,
    /// How many finished pods are kept in the cluster (stock: 12500).
    pub terminated_pod_threshold: usize,
    /// Whether overhead counts.
    pub gates: FeatureGates,
    /// What signs certificates; without it, none are signed.
    pub authority: Option<Arc<certificates::Authority>>,
    /// How often declared overhead is compared with what nodes measure; the default when `None`.
    pub overhead_period: Option<Duration>,
    /// How classes are made for handlers that work; none are when `None`.
    pub managed_classes: Option<managed_classes::Config>,
    /// What nodes get of the cluster's addresses; without it, they have their own.
    pub node_cidrs: Option<node_cidrs::NodeCidrs>,
}

impl Config {
    /// With the stock controller manager's defaults.
    #[must_use]
    pub fn new(client: kube::Client, root_ca_pem: String) -> Self {
        Self {
            client,
            root_ca_pem,
            node_grace: Duration::from_secs(40),
            terminated_pod_threshold: 12_500,
            gates: FeatureGates::default(),
            authority: None,
            overhead_period: None,
            managed_classes: None,
            node_cidrs: None,
        }
    }
}

/// How long the controllers may take to finish their current step at shutdown.
const DRAIN: Duration = Duration::from_secs(3);

/// Runs all controllers until `shutdown`, or until one of them ends; no task is left when it returns.
///
/// # Errors
/// Which task ended, and why.
///
/// A boxed future: its code is compiled here, beside that of other crates, and not once more in each program.
pub fn run(
    config: Config,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), TaskError>> {
    Box::pin(work(config, shutdown))
}

/// Runs what writes the usage of quotas into their status, and nothing else: a stock server does that itself when it admits an
/// object, and a stock controller manager relies on it. Until `shutdown`, as [`run`].
///
/// # Errors
/// Which task ended, and why.
pub fn run_quota_status(
    config: Config,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), TaskError>> {
    Box::pin(async move {
        let tasks = Tasks::new(&shutdown);
        let status = quota::run(config.client, config.gates, None, tasks.clone());
        tasks.spawn_essential("quota status", status);
        tasks.run(DRAIN).await
    })
}

async fn work(config: Config, shutdown: CancellationToken) -> Result<(), TaskError> {
    let tasks = Tasks::new(&shutdown);
    let client = &config.client;
    let namespaces = reflect(&tasks, kube::Api::all(client.clone()), None);
    let nodes = reflect(&tasks, kube::Api::all(client.clone()), None);
    let pods = reflect_pods(&tasks, client.clone());
    let stop = || tasks.stop_token();

    tasks.spawn_essential(
        "namespace controller",
        namespace::run(client.clone(), namespaces.clone(), stop()),
    );
    tasks.spawn_essential(
        "service account controller",
        service_accounts::run(
            client.clone(),
            config.root_ca_pem.clone(),
            namespaces.clone(),
            tasks.clone(),
        ),
    );
    tasks.spawn_essential(
        "node health controller",
        node_health::run(
            client.clone(),
            config.node_grace,
            nodes.clone(),
            tasks.clone(),
        ),
    );
    tasks.spawn_essential(
        "eviction controller",
        eviction::run(client.clone(), nodes.clone(), pods.clone(), stop()),
    );
    if let Some(authority) = config.authority {
        tasks.spawn_essential(
            "certificate controller",
            certificates::run(client.clone(), authority, nodes.clone(), tasks.clone()),
        );
    }
    if config.gates.pod_overhead {
        let (nodes, pods) = (nodes.clone(), pods.clone());
        let period = config.overhead_period;
        let run = class_overhead::run(client.clone(), nodes, pods, period, stop());
        tasks.spawn_essential("overhead controller", run);
    }
    if config.gates.runtime_class {
        let classes = reflect(&tasks, kube::Api::all(client.clone()), None);
        let (nodes, pods) = (nodes.clone(), pods.clone());
        if let Some(settings) = config.managed_classes {
            let watched = managed_classes::Watched {
                nodes: nodes.clone(),
                pods: pods.clone(),
                namespaces: namespaces.clone(),
                classes: classes.clone(),
            };
            let run = managed_classes::run(client.clone(), watched, settings, stop());
            tasks.spawn_essential("RuntimeClass manager", run);
        }
        let run = class_status::run(client.clone(), nodes, pods, classes, stop());
        tasks.spawn_essential("RuntimeClass status controller", run);
    }
    if let Some(cidrs) = config.node_cidrs {
        let run = node_cidrs::run(client.clone(), cidrs, nodes.clone(), stop());
        tasks.spawn_essential("node IPAM controller", run);
    }
    let tokens = token_cleaner::tokens(&tasks, client.clone());
    tasks.spawn_essential(
        "token cleaner",
        token_cleaner::run(client.clone(), tokens.clone(), stop()),
    );
    tasks.spawn_essential(
        "bootstrap signer",
        bootstrap_signer::run(client.clone(), tokens, tasks.clone()),
    );
    tasks.spawn_essential(
        "validating admission policy status controller",
        policy_types::run(client.clone(), tasks.clone()),
    );
    tasks.spawn_essential(
        "pod garbage collector",
        pod_garbage::run(
            client.clone(),
            config.terminated_pod_threshold,
            nodes.clone(),
            pods.clone(),
            stop(),
        ),
    );
    tasks.spawn_essential(
        "garbage collector",
        garbage::run(client.clone(), tasks.clone()),
    );
    let jobs = reflect(&tasks, kube::Api::all(client.clone()), None);
    tasks.spawn_essential(
        "ttl after finished controller",
        ttl_after_finished::run(client.clone(), jobs.clone(), jiff::Timestamp::now, stop()),
    );
    workload::spawn(&tasks, client, &pods, &nodes, jobs);
    tasks.spawn_essential(
        "quota controller",
        quota::run(client.clone(), config.gates, Some(pods), tasks.clone()),
    );
    tasks.run(DRAIN).await
}
