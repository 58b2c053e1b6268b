//! Where questions are received: the server's addresses, on the interfaces of those that may ask.
//!
//! | network | sockets | who may ask |
//! |---|---|---|
//! | a bridge of its own | bound to the bridge, and to the interface that has the address | addresses of its pods; this machine |
//! | somebody else's | bound to the address | who isn't reached by the default route |
//!
//! The addresses are on an interface of their own: CNI's bridge plugin refuses a bridge that has another one than its.
//! A socket that is bound to a bridge gets what comes from that bridge and nothing else: two clusters on a machine may have
//! the same address, and what comes from outside finds no server. What this machine sends to an address of its own counts as
//! received by the interface that has the address, though it goes by `lo`.

mod outside;
mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use berth_supervise::{Outage, Tasks};
use ipnet::IpNet;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::handler::Handler;
use crate::netlink;
use outside::Outside;

/// How often it is looked whether interfaces and addresses are still there.
const CHECK: Duration = Duration::from_secs(2);
/// Room for questions of others while one pod floods.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The interface that has the addresses of the server of a bridge's pods, or of those of somebody else's network.
pub(crate) fn interface(bridge: Option<&str>) -> String {
    // An interface's name has at most 15 bytes, and what differs in the names of berth's bridges is at their end.
    let bridge = bridge.unwrap_or("pods");
    let end: Vec<char> = bridge.chars().rev().take(11).collect();
    let end: String = end.into_iter().rev().collect();
    format!("dns-{end}")
}

/// Who may ask.
#[derive(Clone)]
pub(crate) enum Askers {
    /// These networks.
    Networks(Arc<[IpNet]>),
    /// Everybody who gets here: this machine.
    Anybody,
    /// Everybody but those that are reached by the default route.
    Inside(Arc<Outside>),
}

impl Askers {
    /// Whether this client may.
    pub(crate) fn has(&self, client: IpAddr) -> bool {
        match self {
            Self::Networks(networks) => networks.iter().any(|network| network.contains(&client)),
            Self::Anybody => true,
            Self::Inside(outside) => !outside.has(client),
        }
    }
}

/// What to listen at.
pub(crate) struct Listening {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) port: u16,
    /// The bridge of berth's own network.
    pub(crate) bridge: Option<String>,
    /// Addresses of its pods.
    pub(crate) pods: Vec<IpNet>,
}

/// Sockets on one interface.
struct Place {
    address: IpAddr,
    /// The interface they are bound to.
    device: Option<String>,
    /// Its number when they were bound: an interface that was made anew has another.
    bound: Option<(u32, CancellationToken)>,
    askers: Askers,
    outage: Outage,
}

impl Listening {
    /// Listens until `shutdown`, wherever interfaces and addresses go in the meantime.
    pub(crate) async fn keep(self, handler: Handler, tasks: Tasks, shutdown: CancellationToken) {
        let mut places = self.places();
        let mut missing = Outage::new("the DNS server's addresses cannot be set");
        loop {
            match self.ensure_addresses() {
                Ok(()) => missing.works(),
                Err(error) => {
                    missing.failed(error);
                }
            }
            for place in &mut places {
                place.ensure(self.port, &handler, &tasks);
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(CHECK) => {}
            }
        }
        if self.bridge.is_none() {
            // Beside a bridge the address stays for pods, which run on: they learn at once that nobody answers.
            for address in &self.addresses {
                if let Some(index) = netlink::index(&interface(None)) {
                    let _gone_with_the_interface = netlink::remove_address(index, *address);
                }
            }
        }
    }

    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for address in &self.addresses {
            let mut add = |device: Option<&str>, askers| {
                let at = device.map_or(String::new(), |device| format!(" on {device}"));
                places.push(Place {
                    address: *address,
                    device: device.map(str::to_owned),
                    bound: None,
                    askers,
                    outage: Outage::new(format!(
                        "the DNS server cannot listen at {address} port {}{at}",
                        self.port
                    )),
                });
            };
            match &self.bridge {
                Some(bridge) => {
                    add(Some(bridge), Askers::Networks(self.pods.clone().into()));
                    let own = interface(Some(bridge));
                    add(Some(&own), Askers::Anybody);
                }
                None => {
                    let outside = Outside::new(self.addresses.clone(), self.pods.clone());
                    add(None, Askers::Inside(Arc::new(outside)));
                }
            }
        }
        places
    }

    /// The addresses are looked for at each turn: whoever configures the machine's network may have removed them.
    fn ensure_addresses(&self) -> io::Result<()> {
        if let Some(bridge) = &self.bridge {
            // The sockets are bound to it, before the first pod makes CNI create it.
            netlink::ensure_bridge(bridge)?;
        }
        let mut addresses = self.addresses.iter().filter(|ip| !ip.is_loopback());
        let name = interface(self.bridge.as_deref());
        // A bridge without ports: every kernel that has pods' networks has those.
        addresses
            .try_for_each(|address| netlink::add_address(netlink::ensure_bridge(&name)?, *address))
    }
}

impl Place {
    /// Binds the sockets where that isn't so, or the interface is another one by now.
    fn ensure(&mut self, port: u16, handler: &Handler, tasks: &Tasks) {
        let index = match &self.device {
            Some(device) => netlink::index(device),
            None => Some(0),
        };
        if let Some((old, stop)) = &self.bound
            && index != Some(*old)
        {
            stop.cancel();
            self.bound = None;
        }
        let (Some(index), None) = (index, &self.bound) else {
            return;
        };
        match self.bind(port) {
            Ok((udp, tcp)) => {
                self.outage.works();
                info!(address = %self.address, port, device = self.device, "the DNS server listens");
                let stop = tasks.stop_token().child_token();
                let (datagrams, streams) = (handler.clone(), handler.clone());
                let (askers, stopped) = (self.askers.clone(), stop.clone());
                tasks.spawn("DNS over UDP", async move {
                    stopped
                        .run_until_cancelled(udp::serve(udp, datagrams, askers))
                        .await;
                });
                let (askers, stopped) = (self.askers.clone(), stop.clone());
                tasks.spawn("DNS over TCP", async move {
                    stopped
                        .run_until_cancelled(tcp::serve(tcp, streams, askers))
                        .await;
                });
                self.bound = Some((index, stop));
            }
            Err(error) => {
                self.outage.failed(error);
            }
        }
    }

    fn bind(&self, port: u16) -> io::Result<(UdpSocket, TcpListener)> {
        let at = SocketAddr::new(self.address, port);
        let udp = match self.socket(SockType::Datagram, at, false) {
            // A server that has this port at all addresses of the machine (dnsmasq) shares it with those at some.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && self.device.is_some() => {
                self.socket(SockType::Datagram, at, true)?
            }
            other => other?,
        };
        let tcp = self.socket(SockType::Stream, at, true)?;
        listen(&tcp, Backlog::new(128)?)?;
        let udp = UdpSocket::from_std(std::net::UdpSocket::from(udp))?;
        Ok((udp, TcpListener::from_std(tcp.into())?))
    }

    fn socket(&self, kind: SockType, at: SocketAddr, reuse: bool) -> io::Result<OwnedFd> {
        let family = if at.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, kind, flags, None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &reuse)?;
        if let Some(device) = &self.device {
            setsockopt(&socket, sockopt::BindToDevice, &device.into())?;
        }
        if kind == SockType::Datagram {
            // More than the machine's usual limit where that is allowed.
            if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
                setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
            }
        }
        bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
        Ok(socket)
    }
}
