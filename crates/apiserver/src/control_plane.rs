//! What a server keeps up for the cluster's sake: the Service `default/kubernetes` with its endpoints, the ServiceCIDRs,
//! the books of what Services have, and `kube-public/cluster-info`.
//!
//! It is there before the first request, and comes back when somebody deletes it. Every server does all of it; whoever is
//! quicker has the same in mind, and each write holds only for the state that was read.

mod cidrs;
mod cluster_info;
mod endpoints;
mod leases;
mod repair;
mod service;
mod write;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use berth_api::status::ApiError;
use berth_core::gates::FeatureGates;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::allocation::{CIDRS, SERVICES, ServiceSettings};
use crate::storage::Storage;
use crate::strategy::Cluster;
pub(crate) use cluster_info::ClusterInfo;
pub use cluster_info::OtherAuthority;
use leases::Leases;
use repair::Repair;

/// How often it is looked at in any case.
const TICK: Duration = Duration::from_secs(10);
/// How soon after a look the next may follow when something has changed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often what Services have is compared with the books.
const REPAIR: Duration = Duration::from_secs(180);
/// How long the server's end may wait for its address to be taken away.
pub(crate) const END: Duration = Duration::from_secs(2);

/// How servers keep their addresses among the endpoints of `default/kubernetes` (stock: `--endpoint-reconciler-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointReconciler {
    /// Each keeps up a lease; those whose lease has ended are left out.
    #[default]
    Lease,
    /// Not at all: somebody else does.
    None,
}

/// What is known from the configuration.
pub(crate) struct Settings {
    /// Ranges of addresses and ports.
    pub(crate) services: ServiceSettings,
    /// This server's address, for others.
    pub(crate) advertise: IpAddr,
    /// This server's port.
    pub(crate) port: u16,
    /// Whether its endpoints are kept.
    pub(crate) reconciler: EndpointReconciler,
    /// Whether other servers may use the same store.
    pub(crate) shared: bool,
    /// Feature gates.
    pub(crate) gates: FeatureGates,
    /// What machines that join are told; nothing without TLS.
    pub(crate) cluster_info: Option<ClusterInfo>,
}

/// The work, and what it remembers from one look to the next.
pub(crate) struct ControlPlane {
    storage: Arc<Storage>,
    settings: Settings,
    leases: Leases,
    repair: Repair,
    /// What went wrong last, so that it is said once.
    failed: Option<String>,
}

impl ControlPlane {
    /// Nothing is done yet.
    pub(crate) fn new(storage: Arc<Storage>, settings: Settings) -> Self {
        Self {
            storage,
            leases: Leases::new(settings.shared),
            settings,
            repair: Repair::default(),
            failed: None,
        }
    }

    /// Makes sure that no server with another CA works on the same store.
    ///
    /// # Errors
    /// When one does.
    pub(crate) async fn be_alone(&self) -> Result<(), OtherAuthority> {
        match &self.settings.cluster_info {
            Some(info) if self.settings.shared => info.be_alone(&self.storage).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Brings about what must be there before anybody asks.
    ///
    /// # Errors
    /// When what Services have cannot be written down: nothing could be given to others then.
    pub(crate) async fn begin(&mut self) -> Result<(), ApiError> {
        cidrs::keep_default(&self.storage, &self.settings.services).await?;
        // Services of an older server have addresses that nobody has written down.
        self.repair
            .run(&self.storage, &self.settings.services)
            .await?;
        self.look().await;
        Ok(())
    }

    /// Keeps it up until `shutdown`; `ended` is cancelled when this server's address is taken away.
    pub(crate) async fn run(mut self, shutdown: CancellationToken, ended: CancellationToken) {
        let mut services = self.storage.cache(SERVICES).subscribe();
        let mut cidrs = self.storage.cache(CIDRS).subscribe();
        let mut repaired = Instant::now();
        loop {
            let pause = tokio::time::sleep(PAUSE);
            if shutdown.run_until_cancelled(pause).await.is_none() {
                break;
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(TICK - PAUSE) => {}
                // Both live as long as the storage.
                _ = services.changed() => {}
                _ = cidrs.changed() => {}
            }
            self.look().await;
            if repaired.elapsed() >= REPAIR {
                repaired = Instant::now();
                let run = self
                    .repair
                    .run(&self.storage, &self.settings.services)
                    .await;
                if let Err(error) = run {
                    tracing::warn!(%error, "what Services have cannot be compared with the books");
                }
            }
        }
        self.end().await;
        ended.cancel();
    }

    async fn look(&mut self) {
        let result = self.keep().await.map_err(|error| error.to_string());
        let failed = result.err();
        if failed != self.failed {
            if let Some(error) = &failed {
                tracing::error!(
                    error,
                    "what every cluster has (the Service default/kubernetes, cluster-info) cannot be kept up; it is tried again"
                );
            }
            self.failed = failed;
        }
    }

    async fn keep(&mut self) -> Result<(), ApiError> {
        let service = self.keep_service().await;
        if let Some(info) = &self.settings.cluster_info {
            info.keep(&self.storage, self.settings.shared).await?;
        }
        service
    }

    async fn keep_service(&mut self) -> Result<(), ApiError> {
        let Settings {
            services, gates, ..
        } = &self.settings;
        let storage = &self.storage;
        cidrs::keep_default(storage, services).await?;
        cidrs::keep_all(storage).await?;
        let cluster = Cluster {
            storage,
            gates,
            services,
            controllers: false,
            network_policies: false,
        };
        service::keep(cluster, self.settings.port).await?;
        if self.settings.reconciler == EndpointReconciler::None {
            return Ok(());
        }
        let own = self.settings.advertise;
        if own.is_loopback() || own.is_unspecified() {
            return Ok(());
        }
        let alive = self.leases.renew(storage, own).await?;
        endpoints::keep(storage, &alive, self.settings.port).await
    }

    /// Takes this server's address away, as far as there are others.
    async fn end(&mut self) {
        let own = self.settings.advertise;
        let ended = async {
            let left = self.leases.end(&self.storage, own).await?;
            if left.is_empty() {
                return Ok(());
            }
            endpoints::keep(&self.storage, &left, self.settings.port).await
        };
        match tokio::time::timeout(END, ended).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "this server's address stays an endpoint until its lease ends");
            }
            Err(_) => {
                tracing::warn!("this server's address stays an endpoint until its lease ends")
            }
        }
    }
}
