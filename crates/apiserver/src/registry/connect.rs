//! Subresources that are connections to a node or pod.

use super::{Subresource, SubresourceHandler};

/// A connection that a subresource opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// Runs a command in a container.
    Exec,
    /// Joins a container's own streams.
    Attach,
    /// Ports of the pod.
    PortForward,
    /// A container's log.
    Log,
    /// HTTP to the pod or node.
    Proxy,
}

impl Connect {
    /// Whether further path segments belong to the other side.
    #[must_use]
    pub const fn has_path(self) -> bool {
        matches!(self, Self::Proxy)
    }
}

impl Subresource {
    /// The connection that it opens; none for other subresources.
    #[must_use]
    pub fn connect(&self) -> Option<Connect> {
        if self.handler != SubresourceHandler::Connect {
            return None;
        }
        match self.name {
            "exec" => Some(Connect::Exec),
            "attach" => Some(Connect::Attach),
            "portforward" => Some(Connect::PortForward),
            "log" => Some(Connect::Log),
            "proxy" => Some(Connect::Proxy),
            _ => None,
        }
    }
}
