//! This machine's name and address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// The host name in lower case, as a node is named after it.
#[must_use]
pub(crate) fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .map(|name| name.to_lowercase())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The address that this machine uses towards others; loopback when it has no network.
#[must_use]
pub(crate) fn own_address() -> IpAddr {
    // A datagram socket that is connected to a documentation address picks the source address of
    // the default route. Nothing is sent.
    let find = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(SocketAddr::from(([192, 0, 2, 1], 9)))?;
        Ok(socket.local_addr()?.ip())
    };
    find().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}
