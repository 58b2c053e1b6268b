//! The certificates that a cluster issues to the node: as a client of the API server, and for its own server.
//!
//! The keys are made here and never leave the machine. Each certificate is asked for by a CertificateSigningRequest, kept with
//! its key in one file (`kubelet-client-current.pem` and `kubelet-server-current.pem`, as the stock kubelet's are called), and
//! replaced between 70 and 90 percent of its life. New connections use the new one; those that are open go on.
//!
//! | task | owns | ends |
//! |---|---|---|
//! | [`keep_client`] | the client's certificate | when it has expired: somebody has to let the node join again |
//! | [`keep_serving`] | that of the node's server | never |

mod client;
mod pair;
mod renewal;
mod request;
mod serving;

use std::path::PathBuf;
use std::time::Duration;

use berth_supervise::{Chain, Outage};
use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub use client::RotatingClient;
pub use pair::{CertificatePair, PairError};
pub use request::{RequestError, Wanted, request_certificate};
pub(crate) use serving::{Serving, ServingSlot, keep_serving};

/// Of the client of the API server.
pub const CLIENT_FILE: &str = "kubelet-client-current.pem";
/// Of the node's server.
pub const SERVING_FILE: &str = "kubelet-server-current.pem";

/// How soon another try follows one that failed, at least: each leaves a request at the server.
const AGAIN: Duration = Duration::from_secs(10);

/// Certificates that a cluster issues, and where they are kept.
#[derive(Clone)]
pub struct NodeCertificates {
    /// The directory of their files; nobody but root looks into it.
    pub dir: PathBuf,
    /// The cluster, without credentials.
    pub cluster: kube::Config,
    /// The client that gets the next certificate; [`crate::Config::client`] is made from it.
    pub client: RotatingClient,
    /// The client's certificate at the start.
    pub current: CertificatePair,
}

/// Renews the client's certificate in time, until `shutdown` or until there is none that is good.
pub(crate) async fn keep_client(
    certificates: NodeCertificates,
    node: String,
    shutdown: CancellationToken,
) {
    let path = certificates.dir.join(CLIENT_FILE);
    let client = certificates.client.client();
    let mut current = certificates.current;
    let mut outage = Outage::new("cannot renew the node's client certificate");
    let mut next = renewal::deadline(&current);
    loop {
        if renewal::sleep_until(next, &shutdown).await.is_none() {
            return;
        }
        let wanted = Wanted::client(&node);
        let end = current.not_after() + SignedDuration::from_secs(1);
        let renewed = tokio::select! {
            biased;
            over = renewal::sleep_until(end, &shutdown) => {
                if over.is_some() {
                    error!(
                        node,
                        expired = %current.not_after(),
                        "the node's client certificate has expired; a start with a new token lets it join again (berth token create)"
                    );
                }
                return;
            }
            renewed = request_certificate(&client, &wanted) => renewed,
        };
        let replaced = renewed
            .map_err(|error| Chain(&error).to_string())
            .and_then(|pair| {
                let next = client::with_certificate(&certificates.cluster, &pair)
                    .map_err(|error| Chain(&error).to_string())?;
                // Kept before it is used: after a crash the next start has it.
                pair.save(&path)
                    .map_err(|error| Chain(&error).to_string())?;
                certificates.client.replace(next);
                Ok(pair)
            });
        match replaced {
            Ok(pair) => {
                outage.works();
                info!(node, until = %pair.not_after(), "renewed the node's client certificate");
                next = renewal::deadline(&pair);
                current = pair;
            }
            Err(error) => {
                let pause = outage.failed(error).max(AGAIN);
                next = renewal::after(pause).min(end);
            }
        }
    }
}
