//! Namespaces for three machines and the network between them.

use std::fs::File;
use std::process::Command;

use nix::sched::{CloneFlags, setns};

/// Machines.
pub(crate) const NODES: usize = 3;

/// A bridge in a namespace of its own, with a namespace for each machine on it.
pub(crate) struct Network {
    name: String,
}

/// The namespace of the bridge.
pub(crate) struct Hub(File);

impl Hub {
    /// Brings the calling thread there.
    pub(crate) fn enter(&self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ip {arguments:?}: {error}");
}

impl Network {
    pub(crate) fn make() -> Self {
        let network = Self {
            name: format!("berth-several-{}", std::process::id()),
        };
        let hub = network.hub();
        ip(&["netns", "add", &hub]);
        ip(&["-n", &hub, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &hub, "addr", "add", "10.99.0.254/24", "dev", "br0"]);
        ip(&["-n", &hub, "link", "set", "br0", "up"]);
        ip(&["-n", &hub, "link", "set", "lo", "up"]);
        for node in 0..NODES {
            let namespace = network.node(node);
            let port = format!("port{node}");
            ip(&["netns", "add", &namespace]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
            ip(&[
                "-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
                &namespace,
            ]);
            ip(&["-n", &hub, "link", "set", &port, "master", "br0", "up"]);
            let address = format!("{}/24", Self::address(node));
            ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"]);
            ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        }
        network
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    /// The namespace of a machine.
    pub(crate) fn node(&self, node: usize) -> String {
        format!("{}-{node}", self.name)
    }

    pub(crate) fn address(node: usize) -> String {
        format!("10.99.0.{}", node + 1)
    }

    pub(crate) fn enter_hub(&self) -> Hub {
        Hub(File::open(format!("/run/netns/{}", self.hub())).unwrap())
    }

    /// Cuts a machine off, or lets it back.
    pub(crate) fn cut(&self, node: usize, cut: bool) {
        let state = if cut { "down" } else { "up" };
        let port = format!("port{node}");
        ip(&["-n", &self.hub(), "link", "set", &port, state]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in (0..NODES).map(|n| self.node(n)).chain([self.hub()]) {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}
