//! Connections: exec, attach, port-forward, logs, proxy.

use berth_api::status::ApiError;
use serde_json::{Value, json};

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

impl ConnectRequest {
    /// The options of the connection as the object that it is for admission, of a resource's subresource.
    pub(crate) fn options(&self, resource: &str) -> Value {
        let kind = match (self.kind, resource) {
            (Connect::Exec, _) => "PodExecOptions",
            (Connect::Attach, _) => "PodAttachOptions",
            (Connect::PortForward, _) => "PodPortForwardOptions",
            (Connect::Log, _) => "PodLogOptions",
            (Connect::Proxy, "nodes") => "NodeProxyOptions",
            (Connect::Proxy, "services") => "ServiceProxyOptions",
            (Connect::Proxy, _) => "PodProxyOptions",
        };
        let mut options = json!({"kind": kind, "apiVersion": "v1"});
        match self.kind {
            Connect::Proxy => {
                let path = self.path_and_query.split('?').next();
                options["path"] = json!(path.unwrap_or_default());
            }
            Connect::PortForward => {
                let ports = self.all("ports").flat_map(|ports| ports.split(','));
                let ports: Vec<u16> = ports.filter_map(|port| port.parse().ok()).collect();
                options["ports"] = json!(ports);
            }
            Connect::Exec | Connect::Attach | Connect::Log => {
                for stream in ["stdin", "stdout", "stderr", "tty"] {
                    let given = self.all(stream).next();
                    if given.is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false")) {
                        options[stream] = json!(true);
                    }
                }
                if let Some(container) = self.all("container").next() {
                    options["container"] = json!(container);
                }
                let command: Vec<&str> = self.all("command").collect();
                if !command.is_empty() {
                    options["command"] = json!(command);
                }
            }
        }
        options
    }

    fn all<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.parameters.pairs();
        pairs
            .filter(move |(name, _)| *name == wanted)
            .map(|(_, value)| value)
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
