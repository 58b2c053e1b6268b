//! What the kernel says of this machine and of the pods' bridge.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use berth_supervise::unblock;

use super::links::{self, Link};
use crate::services::bridge;
use crate::services::facts::own_addresses;

pub(super) struct Learned {
    /// All addresses of this machine's interfaces.
    pub(super) own: BTreeSet<IpAddr>,
    /// Whether what goes from one port of the bridge to another passes the rules of the IP layer.
    pub(super) passes: bool,
    /// The ports of the bridge with their pods.
    pub(super) links: Vec<Link>,
}

/// Learns it.
///
/// # Errors
/// When the kernel doesn't say.
pub(super) async fn learn(bridge: &str) -> io::Result<Learned> {
    let bridge = bridge.to_owned();
    unblock(move || {
        io::Result::Ok(Learned {
            own: own_addresses()?,
            passes: bridge::passes_rules(&bridge),
            links: links::of_bridge(&bridge)?,
        })
    })
    .await
}
