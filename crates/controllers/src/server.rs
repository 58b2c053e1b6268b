//! What several controllers ask of the API server, and how they read its refusals.

use kube::Client;
use kube::discovery::Discovery;

/// The resources that the server has: aggregated, or group by group where it has only that.
pub(crate) async fn discovery(client: &Client) -> kube::Result<Discovery> {
    match Discovery::new(client.clone()).run_aggregated().await {
        Err(error) if is_code(&error, &[404, 406]) => Discovery::new(client.clone()).run().await,
        other => other,
    }
}

/// Whether the server refused with one of these HTTP status codes.
pub(crate) fn is_code(error: &kube::Error, codes: &[u16]) -> bool {
    matches!(error, kube::Error::Api(status) if codes.contains(&status.code))
}
