//! The socket for pods of this machine, of a server that listens on loopback only.
//!
//! It is at an address of the pods' bridge. Linux answers for all of a machine's addresses on each of its interfaces, so
//! a neighbour in another network could knock at it; whoever is no pod and not this machine is not let in.

use std::net::{IpAddr, SocketAddr};

use berth_rules::kinds::service::range::ServiceRange;
use tokio::net::{TcpListener, TcpStream};

use crate::config::PodListener;
use crate::proxy::address::{canonical, is_own};

/// The socket, and who is let in.
pub(super) struct Pods {
    listener: TcpListener,
    subnets: Vec<ServiceRange>,
}

impl Pods {
    /// Takes the socket over.
    ///
    /// # Errors
    /// When it can't be used.
    pub(super) fn new(pods: &PodListener) -> std::io::Result<Self> {
        let listener = pods.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let subnets = pods.subnets.split(',').filter_map(|subnet| {
            ServiceRange::parse(subnet.trim())
                .inspect_err(|error| {
                    tracing::warn!(error, "pods of this subnet are not let in");
                })
                .ok()
        });
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            subnets: subnets.collect(),
        })
    }

    /// Its port.
    pub(super) fn port(&self) -> std::io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// The next connection of somebody who is let in.
    ///
    /// # Errors
    /// When none can be accepted.
    pub(super) async fn accept(&self) -> std::io::Result<(TcpStream, SocketAddr)> {
        loop {
            let (stream, peer) = self.listener.accept().await?;
            if self.lets_in(peer.ip()) {
                return Ok((stream, peer));
            }
            tracing::debug!(%peer, "a connection to the pods' socket is not a pod's");
        }
    }

    fn lets_in(&self, peer: IpAddr) -> bool {
        let peer = canonical(peer);
        self.subnets.iter().any(|subnet| subnet.covers(peer)) || is_own(peer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn only_pods_and_the_machine_itself_are_let_in() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let pods = Pods::new(&PodListener {
            listener: Arc::new(listener),
            subnets: "10.88.0.0/16, fd00:88::/64".to_owned(),
        })
        .unwrap();
        for (peer, is_in) in [
            ("10.88.3.4", true),
            ("::ffff:10.88.3.4", true),
            ("fd00:88::7", true),
            ("127.0.0.1", true),
            ("10.89.0.1", false),
            ("198.51.100.7", false),
            ("fd00:89::1", false),
        ] {
            assert_eq!(pods.lets_in(peer.parse().unwrap()), is_in, "{peer}");
        }
    }
}
