//! ResourceQuota status: what the pods of a namespace use.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::Reflected;

const PERIOD: Duration = Duration::from_secs(60);

/// Runs until `shutdown`.
pub async fn run(
    client: Client,
    pod_overhead: bool,
    mut pods: Reflected<Pod>,
    shutdown: CancellationToken,
) {
    let _ = (client, pod_overhead);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = pods.changed_or(PERIOD) => {}
        }
    }
}
