//! Connections: exec, attach, port-forward, logs, proxy.

use berth_api::status::ApiError;

use super::Verb;
use crate::query::Parameters;
use crate::registry::Connect;

/// Parameters of these subresources that count once. `command` and `ports` may be repeated.
const ONCE: [&str; 14] = [
    "container",
    "stdin",
    "stdout",
    "stderr",
    "tty",
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
    "insecureSkipTLSVerifyBackend",
];

/// What a connection is told by the request.
#[derive(Clone, Debug)]
pub(crate) struct ConnectRequest {
    /// What it is.
    pub(crate) kind: Connect,
    /// Whether the client asks for another protocol (WebSocket, SPDY) on it.
    pub(crate) upgrade: bool,
    /// The query; a proxy passes it on in `path_and_query`.
    pub(crate) parameters: Parameters,
    /// What follows the subresource, for the other side.
    pub(crate) path_and_query: String,
}

impl ConnectRequest {
    pub(super) fn read(
        kind: Connect,
        upgrade: bool,
        parameters: Parameters,
        behind: Option<String>,
        query: Option<&str>,
    ) -> Result<Self, ApiError> {
        if kind != Connect::Proxy {
            parameters.check_once(&ONCE)?;
        }
        let behind = behind.unwrap_or_default();
        let path_and_query = match query {
            Some(query) => format!("/{behind}?{query}"),
            None => format!("/{behind}"),
        };
        Ok(Self {
            kind,
            // A log is an answer, never another protocol.
            upgrade: upgrade && kind != Connect::Log,
            parameters,
            path_and_query,
        })
    }
}

/// The verb of a connection. Whatever runs commands or moves bytes in a pod is `create`, also where a WebSocket client has
/// to send a GET; a proxy goes by the method.
pub(super) fn verb(kind: Connect, by_method: Verb) -> Verb {
    match (kind, by_method) {
        (Connect::Exec | Connect::Attach | Connect::PortForward, Verb::Get) => Verb::Create,
        (_, verb) => verb,
    }
}
