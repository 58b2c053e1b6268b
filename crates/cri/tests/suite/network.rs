//! The network that berth configures for itself.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use nix::sched::{CloneFlags, setns};

use crate::client::{pod, shell};
use crate::server::Server;

/// A network namespace beside the host's, with one link to it and a route to nothing else.
struct Outside {
    name: String,
    host: Ipv4Addr,
    address: Ipv4Addr,
}

impl Outside {
    fn new() -> Self {
        let pid = std::process::id();
        let octets = [198, 18, u8::try_from(pid % 256).unwrap()];
        let at = |last| Ipv4Addr::new(octets[0], octets[1], octets[2], last);
        let outside = Self {
            name: format!("bo{pid}"),
            host: at(1),
            address: at(2),
        };
        let (name, inner, outer) = (&outside.name, format!("bi{pid}"), format!("bh{pid}"));
        ip(&format!("netns add {name}"));
        ip(&format!(
            "link add {outer} type veth peer {inner} netns {name}"
        ));
        ip(&format!("address add {}/30 dev {outer}", outside.host));
        ip(&format!("link set {outer} up"));
        ip(&format!(
            "-n {name} address add {}/30 dev {inner}",
            outside.address
        ));
        ip(&format!("-n {name} link set {inner} up"));
        outside
    }

    /// Greets the first who connects with the address that it comes from.
    fn serve(&self) -> (u16, std::thread::JoinHandle<()>) {
        let space = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        let (port, bound) = std::sync::mpsc::channel();
        let serving = std::thread::spawn(move || {
            setns(space, CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind("0.0.0.0:0").unwrap();
            port.send(listener.local_addr().unwrap().port()).unwrap();
            let (mut connection, from) = listener.accept().unwrap();
            writeln!(connection, "{}", from.ip()).unwrap();
        });
        (bound.recv().unwrap(), serving)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_reach_the_world_with_the_nodes_address() {
    let outside = Outside::new();
    let mut server = Server::start().await;
    let config = pod(&server, "out");
    let id = server.run(&config, "runc").await;
    let container = server.launch(&id, &config, shell("c", "sleep 1000")).await;
    // a restart finds the rules and leaves one of each
    server.stop().await;
    server.resume().await;
    let (port, serving) = outside.serve();
    let greeting = server
        .exec(&container, &format!("nc -w 10 {} {port}", outside.address))
        .await;
    assert_eq!(greeting.trim(), outside.host.to_string());
    serving.join().unwrap();
    server.finish().await;
}
