//! Marks the port of the bridge behind which a pod is, for runtimes that don't do so themselves.
//!
//! A runtime says which network namespace a pod has. The kernel says which port of a bridge has its other end there, and which
//! hardware address that end has. It is asked before anything of the pod has run: later the pod could have changed that address.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::SockProtocol;

use super::links::{self, INTERFACES, MARK, is_pod_uid};
use crate::netlink::{ACK, DUMP, REQUEST, align, ask, attributes, message, open, read};

/// `RTM_GETLINK`, and `RTM_GETNSID`.
const GET_LINK: u16 = 18;
const GET_NSID: u16 = 90;
/// Sizes of `ifinfomsg`, and of `rtgenmsg` with its padding.
const LINK_HEAD: usize = 16;
const NSID_HEAD: usize = 4;
/// `IFLA_*`.
const ADDRESS: u16 = 1;
const NAME: u16 = 3;
const PEER: u16 = 5;
const INFO: u16 = 18;
const INFO_PORT_OF: u16 = 4;
const PEER_NSID: u16 = 37;
/// `NETNSA_*`.
const NSID: u16 = 1;
const NSID_OF_FD: u16 = 3;

/// Why a pod's port is not marked.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// What it would be marked with is not understood.
    #[error("the runtime reports no address of the pod, or its UID {uid:?} can't be one")]
    Pod {
        /// The pod's UID.
        uid: String,
    },
    /// The namespace can't be entered.
    #[error("cannot enter the pod's network namespace {}", path.display())]
    Namespace {
        /// As the runtime names it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel doesn't say what is needed.
    #[error("cannot read the interfaces of {place}")]
    Interfaces {
        /// Whose.
        place: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The pod is no port of a bridge, or of several.
    #[error(
        "{count} ports of bridges on this node lead to the pod's network namespace, and NetworkPolicies can be enforced where it is one"
    )]
    Ports {
        /// How many there are.
        count: usize,
    },
    /// The other end isn't what the port says.
    #[error("the pod's end of {port} is not found in its network namespace")]
    Peer {
        /// The port.
        port: String,
    },
    /// It is on another bridge than the one whose rules there are.
    #[error(
        "the pod's port {port} is not on the bridge {bridge:?}, on which NetworkPolicies are enforced"
    )]
    Elsewhere {
        /// The port.
        port: String,
        /// The bridge that has rules.
        bridge: String,
    },
    /// It is marked as another pod's.
    #[error("the pod's port {port} is marked as that of the pod {owner:?}")]
    Taken {
        /// The port.
        port: String,
        /// That pod's UID.
        owner: String,
    },
    /// The kernel refuses to keep it.
    #[error("cannot mark {port}")]
    Write {
        /// The port.
        port: String,
        /// Why.
        source: io::Error,
    },
}

/// An interface, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Interface {
    index: i32,
    name: String,
    mac: Option<[u8; 6]>,
    /// The index of the other end of a pair.
    peer: Option<i32>,
    /// The namespace of that end, as the kernel numbers them; none when it is the same one.
    peer_nsid: Option<i32>,
    is_bridge_port: bool,
}

/// Marks the pod's port, unless it is marked already. It blocks.
///
/// # Errors
/// When there isn't exactly one port of a bridge that leads to the pod, or the kernel refuses.
pub(crate) fn mark(
    bridge: Option<&str>,
    uid: &str,
    netns: &Path,
    addresses: &[IpAddr],
) -> Result<(), PortError> {
    if !is_pod_uid(uid) || addresses.is_empty() {
        let uid = uid.to_owned();
        return Err(PortError::Pod { uid });
    }
    let here = |source| PortError::Interfaces {
        place: "this node",
        source,
    };
    let known = bridge.map_or_else(|| Ok(Vec::new()), links::of_bridge);
    let is_it = |link: &links::Link| {
        link.uid == uid && addresses.iter().all(|ip| link.addresses.contains(ip))
    };
    if known.map_err(here)?.iter().any(is_it) {
        return Ok(());
    }
    let (namespace, inside) = enter(netns)?;
    let socket = open(SockProtocol::NetlinkRoute).map_err(here)?;
    // The kernel numbers namespaces when it first lists an interface whose other end is there.
    let all = interfaces(&socket).map_err(here)?;
    let nsid = nsid(&socket, &namespace).map_err(here)?;
    let ports = ports_to(&all, nsid);
    let [port] = ports.as_slice() else {
        let count = ports.len();
        return Err(PortError::Ports { count });
    };
    let inside = interfaces(&inside).map_err(|source| PortError::Interfaces {
        place: "the pod",
        source,
    })?;
    let Some(mac) = mac_of_peer(port, &inside) else {
        let port = port.name.clone();
        return Err(PortError::Peer { port });
    };
    let own = Path::new(INTERFACES).join(&port.name);
    if bridge.is_some_and(|bridge| {
        !Path::new(INTERFACES)
            .join(bridge)
            .join("brif")
            .join(&port.name)
            .exists()
    }) {
        let (port, bridge) = (port.name.clone(), bridge.unwrap_or_default().to_owned());
        return Err(PortError::Elsewhere { port, bridge });
    }
    let before = fs::read_to_string(own.join("ifalias")).map_err(here)?;
    let owner = links::parse(&port.name, &before).map(|link| link.uid);
    if let Some(owner) = owner.filter(|owner| owner != uid) {
        let port = port.name.clone();
        return Err(PortError::Taken { port, owner });
    }
    let words: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let alias = format!("{MARK} {uid} {mac} {}", words.join(" "));
    fs::write(own.join("ifalias"), alias).map_err(|source| PortError::Write {
        port: port.name.clone(),
        source,
    })
}

/// The namespace, and a socket for questions in it.
fn enter(path: &Path) -> Result<(fs::File, OwnedFd), PortError> {
    let failed = |source| PortError::Namespace {
        path: path.to_owned(),
        source,
    };
    let namespace = fs::File::open(path).map_err(failed)?;
    let there = namespace.try_clone().map_err(failed)?;
    // A thread of its own, since a thread that has been there is of no use any more; the socket stays there.
    let inside = std::thread::spawn(move || -> io::Result<OwnedFd> {
        setns(there, CloneFlags::CLONE_NEWNET)?;
        open(SockProtocol::NetlinkRoute)
    });
    let lost = |_| Err(io::Error::other("the thread that enters it was lost"));
    let inside = inside.join().unwrap_or_else(lost);
    Ok((namespace, inside.map_err(failed)?))
}

/// Ports of bridges whose other end is in that namespace.
fn ports_to(all: &[Interface], nsid: Option<i32>) -> Vec<&Interface> {
    let leads = |one: &&Interface| one.is_bridge_port && nsid.is_some() && one.peer_nsid == nsid;
    all.iter().filter(leads).collect()
}

/// The hardware address of a port's other end: each must name the other.
fn mac_of_peer(port: &Interface, inside: &[Interface]) -> Option<String> {
    let is_peer = |one: &&Interface| Some(one.index) == port.peer && one.peer == Some(port.index);
    let bytes = inside.iter().find(is_peer)?.mac?;
    Some(bytes.map(|byte| format!("{byte:02x}")).join(":"))
}

fn interfaces(socket: &OwnedFd) -> io::Result<Vec<Interface>> {
    ask(
        socket,
        &message(GET_LINK, REQUEST | DUMP, &[0; LINK_HEAD], &[]),
    )?;
    let mut all = Vec::new();
    read(socket, |_, body| all.extend(parse(body)))?;
    Ok(all)
}

/// How this namespace numbers another one; nothing when it has no number.
fn nsid(socket: &OwnedFd, namespace: &fs::File) -> io::Result<Option<i32>> {
    let fd = namespace.as_raw_fd().to_ne_bytes();
    let length = u16::try_from(4 + fd.len()).unwrap_or(u16::MAX);
    let mut asked = [length.to_ne_bytes(), NSID_OF_FD.to_ne_bytes()].concat();
    asked.extend(fd);
    asked.resize(align(asked.len()), 0);
    ask(
        socket,
        &message(GET_NSID, REQUEST | ACK, &[0; NSID_HEAD], &asked),
    )?;
    let mut found = None;
    read(socket, |_, body| {
        let told = attributes(body.get(NSID_HEAD..).unwrap_or_default());
        let mut told = told.filter(|(kind, ..)| *kind == NSID);
        found = told.find_map(|(_, content, _)| number(content));
    })?;
    Ok(found.filter(|nsid| *nsid >= 0))
}

fn parse(body: &[u8]) -> Option<Interface> {
    let mut interface = Interface {
        index: number(body.get(4..8)?)?,
        ..Interface::default()
    };
    for (kind, content, _) in attributes(body.get(LINK_HEAD..)?) {
        match kind {
            ADDRESS => interface.mac = content.try_into().ok(),
            NAME => interface.name = text(content)?,
            PEER => interface.peer = number(content),
            PEER_NSID => interface.peer_nsid = number(content),
            INFO => {
                interface.is_bridge_port = attributes(content).any(|(kind, of, _)| {
                    kind == INFO_PORT_OF && text(of).as_deref() == Some("bridge")
                });
            }
            _ => {}
        }
    }
    Some(interface)
}

fn number(bytes: &[u8]) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = bytes.get(..end.unwrap_or(bytes.len()))?;
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(index: i32, peer: i32, nsid: Option<i32>) -> Interface {
        Interface {
            index,
            name: format!("veth{index}"),
            mac: None,
            peer: Some(peer),
            peer_nsid: nsid,
            is_bridge_port: true,
        }
    }

    #[test]
    fn only_a_port_of_a_bridge_that_leads_there_is_the_pods() {
        let mut alone = port(9, 2, Some(1));
        alone.is_bridge_port = false;
        let all = [
            port(5, 2, Some(1)),
            port(6, 2, Some(2)),
            port(7, 2, None),
            alone,
        ];
        let names = |nsid| -> Vec<&str> {
            let found = ports_to(&all, nsid).into_iter();
            found.map(|one| one.name.as_str()).collect()
        };
        assert_eq!(names(Some(1)), ["veth5"]);
        assert_eq!(names(Some(3)), [""; 0]);
        // A namespace without a number is nobody's: not that of ends that are here.
        assert_eq!(names(None), [""; 0]);
    }

    #[test]
    fn both_ends_name_each_other() {
        let port = port(5, 2, Some(1));
        let mut end = Interface {
            index: 2,
            mac: Some([2, 0, 0, 0, 0, 0xa]),
            peer: Some(5),
            ..Interface::default()
        };
        let found = mac_of_peer(&port, std::slice::from_ref(&end));
        assert_eq!(found.as_deref(), Some("02:00:00:00:00:0a"));
        end.peer = Some(6);
        assert_eq!(mac_of_peer(&port, &[end]), None);
    }

    #[test]
    fn the_kernel_lists_this_machines_interfaces() {
        let socket = open(SockProtocol::NetlinkRoute).unwrap();
        let all = interfaces(&socket).unwrap();
        assert!(all.iter().any(|one| one.name == "lo" && one.index == 1));
        for length in 0..64 {
            let _nothing_or_less = parse(&vec![0xff; length]);
        }
    }

    #[test]
    fn what_is_no_pods_port_is_not_marked() {
        let own = Path::new("/proc/self/ns/net");
        let address = ["192.0.2.1".parse().unwrap()];
        let failed = |uid: &str, netns: &Path, addresses: &[IpAddr]| {
            mark(None, uid, netns, addresses).unwrap_err().to_string()
        };
        assert!(failed("u-1", own, &[]).contains("no address"));
        assert!(failed("u 1", own, &address).contains("UID"));
        assert!(
            failed("u-1", Path::new("/proc/self/ns/absent"), &address).contains("cannot enter")
        );
        // This machine's own namespace, which a pod of the node's network has.
        assert!(failed("u-1", own, &address).starts_with("0 ports"));
    }

    /// A bridge, and a namespace that a port of it leads to.
    struct Wired {
        bridge: String,
        namespace: String,
    }

    fn ip(words: &str) {
        let done = std::process::Command::new("ip")
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .args(words.split(' '))
            .status();
        assert!(done.unwrap().success(), "ip {words}");
    }

    impl Wired {
        fn make() -> Self {
            let pid = std::process::id();
            let wired = Self {
                bridge: format!("pb{pid}"),
                namespace: format!("berth-port-{pid}"),
            };
            ip(&format!("netns add {}", wired.namespace));
            ip(&format!("link add {} type bridge", wired.bridge));
            wired.plug("pv", "eth0");
            wired
        }

        fn plug(&self, port: &str, inside: &str) {
            let (namespace, bridge) = (&self.namespace, &self.bridge);
            let port = format!("{port}{}", std::process::id());
            ip(&format!(
                "link add {port} type veth peer name {inside} netns {namespace}"
            ));
            ip(&format!("link set {port} master {bridge}"));
        }

        fn mark(&self, bridge: Option<&str>, address: &str) -> Result<(), PortError> {
            let netns = Path::new("/run/netns").join(&self.namespace);
            mark(bridge, "u-1", &netns, &[address.parse().unwrap()])
        }
    }

    impl Drop for Wired {
        fn drop(&mut self) {
            for words in [
                format!("netns del {}", self.namespace),
                format!("link del {}", self.bridge),
            ] {
                let _gone = std::process::Command::new("ip")
                    .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
                    .args(words.split(' '))
                    .status();
            }
        }
    }

    #[test]
    fn the_port_that_leads_to_a_namespace_is_marked_once() {
        let wired = Wired::make();
        let inside = format!("-n {} link set eth0 address", wired.namespace);
        ip(&format!("{inside} 02:00:00:00:00:0a"));
        wired.mark(Some(&wired.bridge), "192.0.2.7").unwrap();
        let link = |at: usize| links::of_bridge(&wired.bridge).unwrap()[at].clone();
        assert_eq!(link(0).uid, "u-1");
        assert_eq!(link(0).mac, "02:00:00:00:00:0a");
        assert_eq!(link(0).addresses, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        // What was seen before anything of the pod ran holds.
        ip(&format!("{inside} 02:00:00:00:00:0b"));
        wired.mark(Some(&wired.bridge), "192.0.2.7").unwrap();
        assert_eq!(link(0).mac, "02:00:00:00:00:0a");
        // It is that pod's, and nobody else's; and it is where it is.
        let netns = Path::new("/run/netns").join(&wired.namespace);
        let other = ["192.0.2.9".parse().unwrap()];
        let taken = mark(Some(&wired.bridge), "u-2", &netns, &other).unwrap_err();
        assert!(matches!(taken, PortError::Taken { .. }), "{taken}");
        let elsewhere = mark(Some("no-such-bridge"), "u-1", &netns, &other).unwrap_err();
        assert!(
            matches!(elsewhere, PortError::Elsewhere { .. }),
            "{elsewhere}"
        );
        assert_eq!(link(0).uid, "u-1");
        // Which of two is meant isn't known.
        wired.plug("pw", "eth1");
        let refused = wired.mark(Some(&wired.bridge), "192.0.2.8").unwrap_err();
        assert!(
            matches!(refused, PortError::Ports { count: 2 }),
            "{refused}"
        );
    }
}
