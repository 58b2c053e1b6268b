//! Cuts connections to endpoints that are gone.
//!
//! The kernel decides where a connection goes at its first packet and keeps to it. A client whose endpoint is gone would
//! send on into nothing: for UDP as long as it sends, for TCP until it gives up. Without the kernel's entry the next packet
//! is looked at anew, and goes to another endpoint (UDP) or is answered with a reset (TCP).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use crate::netlink::{self, ACK, DUMP, REQUEST, align, ask, attributes, open, read};

/// `NFNL_SUBSYS_CTNETLINK` with `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
/// Of what netfilter puts after a message's head (`nfgenmsg`).
const GENERIC: usize = 4;
/// `enum ctattr_type`.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;

/// A connection, as far as it matters where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// The protocol's number.
    pub(crate) protocol: u8,
    /// Who asked.
    pub(crate) from: SocketAddr,
    /// What the client asked for.
    pub(crate) asked: SocketAddr,
    /// Who answers.
    pub(crate) answers: SocketAddr,
    /// What names it to the kernel.
    name: Vec<u8>,
    family: u8,
}

/// Removes the entries of those that are stale; gives their number. It blocks.
///
/// # Errors
/// When the kernel refuses to list them.
pub(crate) fn cut(is_stale: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    let socket = open(SockProtocol::NetlinkNetFilter)?;
    let mut stale = Vec::new();
    ask(&socket, &message(GET, REQUEST | DUMP, 0, &[]))?;
    read(&socket, |_, body| {
        if let Some(flow) = parse(body)
            && is_stale(&flow)
        {
            stale.push(flow);
        }
    })?;
    let (mut count, mut failure) = (0, None);
    for flow in stale {
        ask(
            &socket,
            &message(DELETE, REQUEST | ACK, flow.family, &flow.name),
        )?;
        match read(&socket, |_, _| {}) {
            Ok(()) => count += 1,
            // It has ended by itself meanwhile.
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => {}
            // The others go all the same.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(count), Err)
}

fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    netlink::message(kind, flags, &[family, 0, 0, 0], attributes)
}

fn parse(body: &[u8]) -> Option<Flow> {
    let family = *body.first()?;
    let (mut name, mut asked, mut answers) = (Vec::new(), None, None);
    for (kind, content, whole) in attributes(body.get(GENERIC..)?) {
        match kind {
            TUPLE_ORIG => asked = Some(tuple(content)?),
            TUPLE_REPLY => answers = Some(tuple(content)?),
            _ => {}
        }
        if matches!(kind, TUPLE_ORIG | ID | ZONE) {
            name.extend(whole);
            name.resize(align(name.len()), 0);
        }
    }
    let (asked, answers) = (asked?, answers?);
    Some(Flow {
        protocol: asked.protocol,
        from: asked.from,
        asked: asked.to,
        answers: answers.from,
        name,
        family,
    })
}

struct Tuple {
    protocol: u8,
    from: SocketAddr,
    to: SocketAddr,
}

/// One direction of a connection; port 0 for protocols without ports.
fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let (mut ips, mut ports, mut protocol) = ([None; 2], [None; 2], None);
    for (kind, inner, _) in attributes(bytes) {
        for (field, content, _) in attributes(inner) {
            match (kind, field) {
                (1, 1 | 3) => ips[0] = ip(content),
                (1, 2 | 4) => ips[1] = ip(content),
                (2, 1) => protocol = content.first().copied(),
                (2, 2) => ports[0] = port(content),
                (2, 3) => ports[1] = port(content),
                _ => {}
            }
        }
    }
    Some(Tuple {
        protocol: protocol?,
        from: SocketAddr::new(ips[0]?, ports[0].unwrap_or(0)),
        to: SocketAddr::new(ips[1]?, ports[1].unwrap_or(0)),
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|b| Ipv4Addr::from(b).into());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|b| Ipv6Addr::from(b).into()))
        .ok()
}

fn port(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::ATTRIBUTE;

    fn attribute(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(ATTRIBUTE + body.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(body);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    fn direction(kind: u16, from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
        let ips = [attribute(1, &from.0), attribute(2, &to.0)].concat();
        let ports = [
            attribute(1, &[17]),
            attribute(2, &from.1.to_be_bytes()),
            attribute(3, &to.1.to_be_bytes()),
        ]
        .concat();
        let inner = [attribute(1 | 0x8000, &ips), attribute(2 | 0x8000, &ports)].concat();
        attribute(kind | 0x8000, &inner)
    }

    #[test]
    fn a_connection_as_the_kernel_writes_it() {
        let (client, service, pod) = (
            ([10, 0, 0, 9], 4000),
            ([10, 96, 0, 9], 53),
            ([10, 0, 0, 2], 5353),
        );
        let orig = direction(TUPLE_ORIG, client, service);
        let mut body = vec![2, 0, 0, 0];
        body.extend(&orig);
        body.extend(direction(TUPLE_REPLY, pod, client));
        body.extend(attribute(3, &[0; 4]));
        body.extend(attribute(ID, &[1, 2, 3, 4]));
        let flow = parse(&body).unwrap();
        assert_eq!(flow.protocol, 17);
        assert_eq!(flow.from, "10.0.0.9:4000".parse().unwrap());
        assert_eq!(flow.asked, "10.96.0.9:53".parse().unwrap());
        assert_eq!(flow.answers, "10.0.0.2:5353".parse().unwrap());
        assert_eq!(flow.name, [orig, attribute(ID, &[1, 2, 3, 4])].concat());
        // What ends early is nothing.
        for length in 0..body.len() {
            let _nothing_or_less = parse(&body[..length]);
        }
    }

    #[test]
    fn the_kernel_lists_them() {
        // Nothing is stale, so nothing is removed, whatever this machine is doing.
        assert_eq!(cut(|_| false).unwrap(), 0);
    }
}
