//! This machine's name and address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use anyhow::Context as _;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

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

/// The file that names this machine's resolvers in a way that pods can use, too: systemd-resolved's stub at 127.0.0.53
/// answers nobody but this machine's own programs, and the servers behind it stand in another file.
#[must_use]
pub(crate) fn resolv_conf() -> PathBuf {
    let usual = PathBuf::from("/etc/resolv.conf");
    let behind = PathBuf::from("/run/systemd/resolve/resolv.conf");
    let text = std::fs::read_to_string(&usual).unwrap_or_default();
    if names_only_the_stub(&text) && behind.exists() {
        return behind;
    }
    usual
}

fn names_only_the_stub(text: &str) -> bool {
    let servers: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .map(str::trim)
        .collect();
    !servers.is_empty() && servers.iter().all(|server| *server == "127.0.0.53")
}

/// A listening socket at an address that this machine may get later: the pods' bridge comes with the first pod.
///
/// # Errors
/// When the port is in use, or the system refuses.
pub(crate) fn listen_ahead(address: SocketAddr) -> std::io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(1024)?)?;
    Ok(TcpListener::from(socket))
}

/// Finds out whether a port can be had, before anything is made for who wants it.
///
/// # Errors
/// When it can't, with the address and what to do.
pub(crate) fn check_free(address: SocketAddr) -> anyhow::Result<()> {
    TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address} (stop what uses it, or choose another port)")
    })?;
    Ok(())
}

/// The first address of the first subnet, which the bridge has as the pods' gateway.
#[must_use]
pub(crate) fn gateway(subnets: &str) -> Option<IpAddr> {
    let (network, _) = subnets.split(',').next()?.trim().split_once('/')?;
    let first = match network.parse::<IpAddr>().ok()? {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits().checked_add(1)?)),
        IpAddr::V6(v6) => IpAddr::V6(std::net::Ipv6Addr::from_bits(v6.to_bits().checked_add(1)?)),
    };
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_can_be_had_before_its_address() {
        let listener = listen_ahead("192.0.2.77:0".parse().unwrap()).unwrap();
        assert_eq!(
            listener.local_addr().unwrap().ip().to_string(),
            "192.0.2.77"
        );
    }

    #[test]
    fn a_port_that_is_taken_is_not_free() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let said = format!("{:#}", check_free(address).unwrap_err());
        assert!(said.contains(&address.to_string()), "{said}");
        drop(taken);
        check_free(address).unwrap();
        check_free("127.0.0.1:0".parse().unwrap()).unwrap();
    }

    #[test]
    fn the_stub_of_systemd_is_known() {
        assert!(names_only_the_stub(
            "# x\nnameserver 127.0.0.53\noptions edns0\n"
        ));
        for other in [
            "",
            "nameserver 127.0.0.1\n",
            "nameserver 127.0.0.53\nnameserver 192.0.2.1\n",
        ] {
            assert!(!names_only_the_stub(other), "{other}");
        }
    }

    #[test]
    fn the_gateway_is_the_first_address() {
        let first = |subnets| gateway(subnets).map(|ip| ip.to_string());
        assert_eq!(first("10.88.0.0/16").as_deref(), Some("10.88.0.1"));
        assert_eq!(first("fd00::/64,10.88.0.0/16").as_deref(), Some("fd00::1"));
        assert_eq!(first("nonsense"), None);
    }
}
