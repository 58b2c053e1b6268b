//! The certificate of the node's server, while it serves.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_supervise::{Chain, Outage};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::pair::CertificatePair;
use super::request::{Wanted, request_certificate};
use super::{AGAIN, SERVING_FILE, renewal};

/// What the node's server shows in its next handshake. While there is nothing, handshakes fail: the API server remembers what a
/// node shows first, so nothing is shown that the cluster did not issue.
#[derive(Debug, Default)]
pub(crate) struct ServingSlot(RwLock<Option<Arc<CertifiedKey>>>);

impl ServingSlot {
    pub(crate) fn set(&self, certified: Arc<CertifiedKey>) {
        *self.0.write() = Some(certified);
    }
}

impl ResolvesServerCert for ServingSlot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().clone()
    }
}

/// What a serving certificate is got with.
pub(crate) struct Serving {
    /// The node's name.
    pub(crate) node: String,
    /// The addresses of its Node object.
    pub(crate) addresses: Vec<IpAddr>,
    /// The directory of the file.
    pub(crate) dir: PathBuf,
    /// The API server, as the node.
    pub(crate) client: Client,
    /// The Node object, once it is registered.
    pub(crate) registered: watch::Receiver<Option<Arc<Node>>>,
    /// Where the server looks for it.
    pub(crate) slot: Arc<ServingSlot>,
}

/// Gets a certificate for the server and renews it in time, until `shutdown`.
pub(crate) async fn keep_serving(serving: Serving, shutdown: CancellationToken) {
    let Serving {
        node,
        addresses,
        dir,
        client,
        mut registered,
        slot,
    } = serving;
    let path = dir.join(SERVING_FILE);
    let dns = vec![node.clone()];
    let mut outage = Outage::new("cannot get a certificate for the node's server");
    let mut next = match kept(&path, &node, &dns, &addresses) {
        Some(pair) => {
            slot.set(pair.certified());
            renewal::deadline(&pair)
        }
        None => Timestamp::UNIX_EPOCH,
    };
    // Only a node that is registered with its addresses gets a certificate for them.
    let known = async { registered.wait_for(Option::is_some).await.is_ok() };
    if shutdown.run_until_cancelled(known).await != Some(true) {
        return;
    }
    loop {
        if renewal::sleep_until(next, &shutdown).await.is_none() {
            return;
        }
        let wanted = Wanted::serving(&node, dns.clone(), addresses.clone());
        let issued = shutdown
            .run_until_cancelled(request_certificate(&client, &wanted))
            .await;
        let Some(issued) = issued else { return };
        let pair = issued
            .map_err(|error| Chain(&error).to_string())
            .and_then(|pair| {
                let saved = pair.save(&path);
                saved.map_err(|error| Chain(&error).to_string())?;
                Ok(pair)
            });
        next = match pair {
            Ok(pair) => {
                outage.works();
                slot.set(pair.certified());
                info!(node, until = %pair.not_after(), "the node's server has a certificate of the cluster");
                renewal::deadline(&pair)
            }
            Err(error) => renewal::after(outage.failed(error).max(AGAIN)),
        };
    }
}

/// The certificate of the last start, if it is still good for this one.
fn kept(path: &Path, node: &str, dns: &[String], addresses: &[IpAddr]) -> Option<CertificatePair> {
    let pair = match CertificatePair::load(path) {
        Ok(pair) => pair?,
        Err(error) => {
            warn!(error = %Chain(&error), "another certificate is asked for");
            return None;
        }
    };
    let good = pair.misfit(node).is_none()
        && pair.has_names(dns, addresses)
        && pair.is_valid_at(Timestamp::now());
    good.then_some(pair)
}
