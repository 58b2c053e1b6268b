//! Leads what pods send to the address of the API server's Service (`default/kubernetes`) to the servers behind it.
//!
//! This is the part of kube-proxy without which no pod finds the API server. Where a kube-proxy runs this has nothing to
//! do, and isn't started. It knows its Service by the API alone, like kube-proxy with that one's rights
//! (`system:node-proxier`), and needs nothing of the node agent.
//!
//! Only what comes from this network's pods (where their addresses are known) or from this machine is led on, only of that Service's ports, and only to the
//! addresses in its EndpointSlices: a pod reaches the API server's port by it, and nothing else that it couldn't reach
//! before.

mod iptables;
mod rules;

use std::collections::BTreeMap;
use std::time::Duration;

use berth_supervise::Outage;
use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use rules::Rule;

const NAMESPACE: &str = "default";
const SERVICE: &str = "kubernetes";
/// How often it is looked whether somebody has flushed the rules.
const CHECK: Duration = Duration::from_secs(60);
/// How soon it is tried again when the rules could not be written.
const AGAIN: Duration = Duration::from_secs(5);

/// Settings of the proxy.
#[derive(Clone)]
pub struct ServiceProxyConfig {
    /// Client for the API server; it must be allowed what `system:kube-proxy` is.
    pub client: Client,
    /// The pods' network, as the rules are named after it: the interface of its bridge.
    pub network: String,
    /// Addresses of the pods of this network, in CIDR notation; none when nobody knows them: then it doesn't matter who
    /// sends.
    pub pod_cidrs: Vec<String>,
}

/// What is known of the Service.
#[derive(Default)]
struct Known {
    service: Option<Service>,
    slices: BTreeMap<String, EndpointSlice>,
    /// Whether both have been listed.
    service_read: bool,
    slices_read: bool,
}

/// Keeps the rules until `shutdown`; they stay, as pods do.
///
/// A boxed future: its code is compiled here, beside that of other crates, and not once more in each program.
pub fn run(config: ServiceProxyConfig, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
    Box::pin(work(config, shutdown))
}

async fn work(config: ServiceProxyConfig, shutdown: CancellationToken) {
    let client = config.client.clone();
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    let only = watcher::Config::default().fields(&format!("metadata.name={SERVICE}"));
    let of = watcher::Config::default().labels(&format!("kubernetes.io/service-name={SERVICE}"));
    let mut services = Box::pin(watcher(services, only).default_backoff());
    let mut slices = Box::pin(watcher(slices, of).default_backoff());
    let mut outage = Outage::new("cannot watch the Service of the API server");
    let mut known = Known::default();
    let mut written: Option<Vec<Rule>> = None;
    let mut failed = false;
    loop {
        let pause = if failed { AGAIN } else { CHECK };
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = services.next() => {
                outage.watched(&event);
                known.see_service(event);
            }
            Some(event) = slices.next() => {
                outage.watched(&event);
                known.see_slice(event);
            }
            // Firewall services flush the rules of others when they reload.
            () = tokio::time::sleep(pause) => written = None,
        }
        // Nothing is taken away for what is not known yet.
        let Some(wanted) = known.rules().filter(|_| known.is_read()) else {
            continue;
        };
        if written.as_ref() == Some(&wanted) {
            continue;
        }
        match iptables::keep(&config.network, &config.pod_cidrs, &wanted).await {
            Ok(changed) => {
                if changed || failed {
                    info!(rules = wanted.len(), "pods are led to the API server");
                }
                failed = false;
                written = Some(wanted);
            }
            Err(error) => {
                if !failed {
                    warn!(
                        network = config.network,
                        "pods cannot reach the API server at its Service's address: {error}; install iptables, or run kube-proxy"
                    );
                }
                failed = true;
            }
        }
    }
}

impl Known {
    fn is_read(&self) -> bool {
        self.service_read && self.slices_read
    }

    fn see_service(&mut self, event: Result<watcher::Event<Service>, watcher::Error>) {
        match event {
            Err(_) | Ok(watcher::Event::Init) => {}
            Ok(watcher::Event::InitApply(service) | watcher::Event::Apply(service)) => {
                self.service = Some(service);
            }
            Ok(watcher::Event::InitDone) => self.service_read = true,
            // It is made anew in a moment, and what was led on before still is.
            Ok(watcher::Event::Delete(_)) => {}
        }
    }

    fn see_slice(&mut self, event: Result<watcher::Event<EndpointSlice>, watcher::Error>) {
        let name = |slice: &EndpointSlice| slice.metadata.name.clone().unwrap_or_default();
        match event {
            Err(_) => {}
            Ok(watcher::Event::Init) => {
                self.slices.clear();
                self.slices_read = false;
            }
            Ok(watcher::Event::InitApply(slice) | watcher::Event::Apply(slice)) => {
                self.slices.insert(name(&slice), slice);
            }
            Ok(watcher::Event::InitDone) => self.slices_read = true,
            Ok(watcher::Event::Delete(slice)) => {
                self.slices.remove(&name(&slice));
            }
        }
    }

    fn rules(&self) -> Option<Vec<Rule>> {
        let service = self.service.as_ref()?;
        Some(rules::of(service, self.slices.values()))
    }
}
