//! The cluster's DNS server: its Service in the API, and the server itself.

use std::net::IpAddr;
use std::time::Duration;

use berth_dns::ObjectError;
use berth_supervise::Outage;
use futures::future::BoxFuture;
use kube::Client;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long the server waits for its Service before it listens without.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs it until `shutdown`; `admin` makes its Service. `skipped` is cancelled when the Service is somebody else's, and no
/// server is started.
///
/// # Errors
/// When the server cannot go on.
pub(crate) async fn run(
    mut config: berth_dns::Config,
    admin: Client,
    shutdown: CancellationToken,
    skipped: CancellationToken,
) -> anyhow::Result<()> {
    let wanted = config.addresses.clone();
    let mut service: BoxFuture<'static, Option<Vec<IpAddr>>> = Box::pin(async move {
        let mut outage = Outage::new("the cluster's DNS server has no Service");
        loop {
            match berth_dns::ensure_service(admin.clone(), &wanted).await {
                Ok(addresses) => {
                    outage.works();
                    return Some(addresses);
                }
                Err(error @ ObjectError::Foreign) => {
                    warn!("{error}; berth's DNS server is not started");
                    return None;
                }
                Err(error) => tokio::time::sleep(outage.failed(error)).await,
            }
        }
    });
    let first = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        first = tokio::time::timeout(PATIENCE, &mut service) => first,
    };
    match first {
        Ok(None) => {
            skipped.cancel();
            shutdown.cancelled().await;
            return Ok(());
        }
        // Of a Service that was made with another range: pods of then ask there.
        Ok(Some(addresses)) => {
            for address in addresses {
                if !config.addresses.contains(&address) {
                    config.addresses.push(address);
                }
            }
            service = Box::pin(std::future::pending());
        }
        Err(_) => {}
    }
    let mut server = berth_dns::run(config, shutdown);
    let later = tokio::select! {
        ended = &mut server => return Ok(ended?),
        later = service => later,
    };
    if later.is_none() {
        warn!("the Service of the DNS server is somebody else's; restart berth with --dns=false");
    }
    Ok(server.await?)
}
