//! Guests whose network is behind a tap device, as Kata's are, with and without having waited for their pod.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use berth_cri_api::v1::*;
use berth_testkit::wait_for_async;

use crate::daemon::{Client, Daemon, LIMIT};
use crate::kill::nothing_left;
use crate::leftovers::{processes, remove_cgroup};
use crate::testvm;
use crate::words::{exec, launch, pod, remove, run, shell};

async fn address(client: &mut Client, id: &str) -> IpAddr {
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: id.to_owned(),
        verbose: false,
    };
    let status = client.pod_sandbox_status(request).await.expect("a status");
    let network = status.into_inner().status.and_then(|one| one.network);
    network.expect("a network").ip.parse().expect("an address")
}

/// Waits until a web server in a guest answers who comes by the pod's address.
async fn wait_served(ip: IpAddr) {
    wait_for_async("an answer of the guest", LIMIT, async || {
        let mut stream = TcpStream::connect((ip, 8080)).map_err(|e| e.to_string())?;
        let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(2)));
        stream
            .write_all(b"GET / HTTP/1.0\r\n\r\n")
            .map_err(|e| e.to_string())?;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.starts_with("HTTP/1.").then_some(()).ok_or(answer)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_sends_and_is_reached_through_its_pods_interface() {
    let mut daemon = Daemon::prepare(&testvm::handler(""));
    let directory = testvm::dir(&daemon);
    std::fs::create_dir(&directory).expect("a directory");
    std::fs::write(directory.join("tap"), "").expect("a file");
    daemon.begin().await;
    let mut client = daemon.client.clone();
    let logs = daemon.path().join("logs");
    let parent = format!("berth-tap-{}", std::process::id());
    let config = pod("served", &logs, &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    let ip = address(&mut client, &id).await;
    let serve = shell("c", "httpd -f -p 8080 -h /etc");
    let container = launch(&mut client, &id, &config, serve)
        .await
        .expect("starts");
    wait_served(ip).await;
    // The pod's addresses are the guest's, and nobody else in the pod's namespace listens at them.
    let own = exec(&mut client, &container, "ip -o -4 addr show eth0").await;
    assert!(own.expect("an exec").contains(&format!(" {ip}/")));

    // Where no policy holds a guest's first packets back they arrive, from the pod's address.
    let IpAddr::V4(v4) = ip else {
        panic!("{ip} is no IPv4 address")
    };
    let [a, b, c, _] = v4.octets();
    let listener = TcpListener::bind((IpAddr::from([a, b, c, 1]), 0)).expect("the gateway");
    let door: SocketAddr = listener.local_addr().expect("its address");
    std::fs::write(directory.join("tap"), door.to_string()).expect("a file");
    warm(daemon.path(), true);
    let config = pod("sends", &logs, &parent);
    let waiting = crate::warm::waiting(&daemon, "testvm", 1).await;
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    assert!(waiting.contains(&id));
    let (_stream, from) = listener.accept().expect("the guest");
    assert_eq!(from.ip(), address(&mut client, &id).await);
    let outcomes = testvm::calls(&daemon, "FirstPacket");
    assert!(
        outcomes.iter().all(|one| one["outcome"] == "connected"),
        "{outcomes:?}"
    );

    // All of it outlives the server, and the one that waits is still given.
    let waiting = crate::warm::waiting(&daemon, "testvm", 1).await;
    daemon.kill();
    wait_served(ip).await;
    daemon.launch().await;
    let mut client = daemon.client.clone();
    let config = pod("later", &logs, &parent);
    let id = run(&mut client, &config, "testvm").await.expect("a pod");
    assert!(waiting.contains(&id));
    let serve = shell("c", "httpd -f -p 8080 -h /etc");
    launch(&mut client, &id, &config, serve)
        .await
        .expect("starts");
    wait_served(address(&mut client, &id).await).await;
    for one in crate::words::sandboxes(&mut client).await {
        remove(&mut client, &one.id).await.expect("its end");
    }
    warm(daemon.path(), false);
    crate::warm::waiting(&daemon, "testvm", 0).await;
    nothing_left(&daemon, &parent).await;
    // The tap devices are their monitors', and go with them.
    let machines = processes(&format!("-dir {}", directory.display()));
    assert_eq!(machines, Vec::<String>::new());
    remove_cgroup(&parent);
}

/// Whether one machine waits.
fn warm(dir: &Path, is_on: bool) {
    let table = testvm::handler(if is_on { "warm = 1" } else { "" });
    std::fs::write(dir.join("config.toml"), table).expect("config.toml");
}
