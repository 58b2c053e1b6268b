//! Ports of this machine on which a program listens, by the kernel's tables.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::facts::Protocol;

/// `TCP_LISTEN`, and what the table has for a UDP socket that isn't connected.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// Those that can be reached at one of these addresses.
///
/// # Errors
/// When a table can't be read: then nothing is known to be free.
pub(crate) fn taken(addresses: &[IpAddr]) -> io::Result<BTreeSet<(Protocol, u16)>> {
    let mut taken = BTreeSet::new();
    for (file, protocol, state) in [
        ("tcp", Protocol::Tcp, LISTEN),
        ("tcp6", Protocol::Tcp, LISTEN),
        ("udp", Protocol::Udp, UNCONNECTED),
        ("udp6", Protocol::Udp, UNCONNECTED),
    ] {
        let table = match std::fs::read_to_string(format!("/proc/self/net/{file}")) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.ends_with('6') => {
                continue;
            }
            table => table?,
        };
        let ports = ports(&table, state, addresses);
        taken.extend(ports.map(|port| (protocol, port)));
    }
    Ok(taken)
}

fn ports<'a>(
    table: &'a str,
    state: &'a str,
    addresses: &'a [IpAddr],
) -> impl Iterator<Item = u16> + 'a {
    table.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, found) = (words.next()?, words.nth(1)?);
        let (ip, port) = local.split_once(':')?;
        let ip = address(ip)?;
        let meant = ip.is_unspecified() || addresses.contains(&ip);
        let port = u16::from_str_radix(port, 16).ok()?;
        (found == state && meant).then_some(port)
    })
}

/// The kernel prints words of 32 bits in this machine's order.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| -> Option<[u8; 4]> {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn who_listens_is_seen_at_the_address_where_he_does() {
        let everywhere = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let six = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).ok();
        let loopback = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let datagrams = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let found = taken(&["192.0.2.77".parse().unwrap()]).unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        assert!(found.contains(&(Protocol::Tcp, port(&everywhere))));
        assert!(found.contains(&(Protocol::Udp, datagrams.local_addr().unwrap().port())));
        assert!(!found.contains(&(Protocol::Tcp, port(&loopback))));
        if let Some(six) = six {
            assert!(found.contains(&(Protocol::Tcp, port(&six))));
        }
        let found = taken(&[Ipv4Addr::LOCALHOST.into()]).unwrap();
        assert!(found.contains(&(Protocol::Tcp, port(&loopback))));
    }
}
