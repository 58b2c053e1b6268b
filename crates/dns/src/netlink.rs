//! Addresses and bridges of this machine: the few requests of rtnetlink that are needed, by hand.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// From linux/if_addr.h: the address is used at once, without asking whether others have it.
const IFA_F_NODAD: u32 = 2;
/// From linux/if_link.h.
const IFLA_INFO_KIND: u16 = 1;
/// Length of nlmsghdr.
const HEADER_LENGTH: usize = 16;

/// The number of an interface; none when there is no such one.
pub(crate) fn index(name: &str) -> Option<u32> {
    if_nametoindex(name).ok()
}

/// Makes a bridge and switches it on. One that is there already is only switched on.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn ensure_bridge(name: &str) -> io::Result<u32> {
    if index(name).is_none() {
        let mut body = link(0, libc::IFF_UP);
        attribute(
            &mut body,
            libc::IFLA_IFNAME,
            &[name.as_bytes(), &[0]].concat(),
        );
        // An address of its own stays; without one it would change with each pod that comes.
        let random: [u8; 5] = rand::random();
        attribute(
            &mut body,
            libc::IFLA_ADDRESS,
            &[&[2], random.as_slice()].concat(),
        );
        let mut kind = Vec::new();
        attribute(&mut kind, IFLA_INFO_KIND, b"bridge");
        attribute(&mut body, libc::IFLA_LINKINFO, &kind);
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        allow(request(libc::RTM_NEWLINK, flags, &body), libc::EEXIST)?;
    }
    let index = if_nametoindex(name)?;
    request(libc::RTM_NEWLINK, 0, &link(index, libc::IFF_UP))?;
    Ok(index)
}

/// Gives an interface an address, alone in its network. One that has it already is left as it is.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn add_address(interface: u32, ip: IpAddr) -> io::Result<()> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    allow(
        request(libc::RTM_NEWADDR, flags, &address(interface, ip)),
        libc::EEXIST,
    )
}

/// Takes an address from an interface; one that doesn't have it is fine.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn remove_address(interface: u32, ip: IpAddr) -> io::Result<()> {
    allow(
        request(libc::RTM_DELADDR, 0, &address(interface, ip)),
        libc::EADDRNOTAVAIL,
    )
}

/// An ifinfomsg.
fn link(index: u32, up: libc::c_int) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(up.to_ne_bytes());
    body.extend(up.to_ne_bytes());
    body
}

/// An ifaddrmsg with its attributes.
fn address(interface: u32, ip: IpAddr) -> Vec<u8> {
    let (family, bits, bytes) = match ip {
        IpAddr::V4(v4) => (libc::AF_INET, 32_u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, 128, v6.octets().to_vec()),
    };
    let mut body = vec![u8::try_from(family).unwrap_or_default(), bits, 0, 0];
    body.extend(interface.to_ne_bytes());
    attribute(&mut body, libc::IFA_LOCAL, &bytes);
    attribute(&mut body, libc::IFA_ADDRESS, &bytes);
    if ip.is_ipv6() {
        attribute(&mut body, libc::IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
    }
    body
}

/// Adds an attribute, padded to four bytes.
fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn allow(result: io::Result<()>, errno: libc::c_int) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        other => other,
    }
}

/// Sends one request and reads what the kernel says to it.
fn request(kind: u16, flags: libc::c_int, body: &[u8]) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let flags = flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut message = Vec::with_capacity(HEADER_LENGTH + body.len());
    let length = u32::try_from(HEADER_LENGTH + body.len()).map_err(invalid)?;
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(u16::try_from(flags).map_err(invalid)?.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut buffer = [0; 4096];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    // nlmsgerr: a header, then the number of the error, negated.
    let number = buffer
        .get(..length)
        .and_then(|answer| answer.get(HEADER_LENGTH..)?.first_chunk::<4>())
        .map(|bytes| i32::from_ne_bytes(*bytes));
    match number {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        None => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

#[cfg(test)]
mod tests {
    use nix::ifaddrs::getifaddrs;

    use super::*;

    /// Whether an interface of this network namespace has the address.
    fn is_here(ip: IpAddr) -> bool {
        getifaddrs().unwrap().any(|found| {
            let Some(address) = found.address else {
                return false;
            };
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            let v6 = address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
            v4.or(v6) == Some(ip)
        })
    }

    #[test]
    fn a_bridge_gets_an_address_that_can_be_bound_and_loses_it() {
        // A thread of its own, since it moves into a network namespace of its own.
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let bridge = ensure_bridge("br-dns").unwrap();
            assert_eq!(ensure_bridge("br-dns").unwrap(), bridge);
            for ip in ["10.96.0.10", "fd00::a"] {
                let ip: IpAddr = ip.parse().unwrap();
                assert!(!is_here(ip), "{ip}");
                remove_address(bridge, ip).unwrap();
                add_address(bridge, ip).unwrap();
                add_address(bridge, ip).unwrap();
                assert!(is_here(ip), "{ip}");
                std::net::UdpSocket::bind((ip, 0)).unwrap();
                remove_address(bridge, ip).unwrap();
                assert!(!is_here(ip), "{ip}");
            }
            assert!(add_address(9999, "10.0.0.1".parse().unwrap()).is_err());
            assert!(ensure_bridge("a-name-that-is-too-long").is_err());
            assert!(index("none").is_none());
        });
        thread.join().unwrap();
    }
}
