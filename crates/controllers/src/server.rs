//! What several controllers ask of the API server, and how they read its refusals.

use kube::Client;
use kube::discovery::Discovery;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All that means something in a URL, or might.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A name as a part of a request's path, which kube's client takes as it is: `a/proxy/b` and `a?watch=1` would be requests
/// for something else. Nothing for what can't be an object's name.
pub(crate) fn path_segment(name: &str) -> Option<String> {
    let impossible = ["", ".", ".."].contains(&name) || name.contains(['/', '%']);
    (!impossible).then(|| utf8_percent_encode(name, ESCAPED).to_string())
}

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
