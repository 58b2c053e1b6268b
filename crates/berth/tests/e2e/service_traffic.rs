//! What is sent to a Service reaches its pods, whatever runs them, and nobody else's.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use berth_testkit::wait_for;
use serde_json::Value;

use crate::cluster::{Cluster, FOREVER, IMAGE, LIMIT, class, path, pod, words};

/// Answers with the pod's name and who asked.
const WHO: &str = "mkdir -p /www/cgi-bin; printf '#!/bin/sh\\necho\\necho $(hostname) $REMOTE_ADDR\\n' >/www/cgi-bin/who; \
                   chmod +x /www/cgi-bin/who; httpd -p 8080 -h /www; ";
/// Asks, and says nothing when nobody answers.
const ASK: &str = "printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' | nc -w 5";

fn deployment(name: &str, class: Option<&str>, replicas: u32) -> String {
    let class = class.map_or(String::new(), |c| format!("      runtimeClassName: {c}\n"));
    let command = format!("{WHO}{FOREVER}");
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  selector: \
         {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}, all: web}}}}\n    spec:\n{class}      \
         terminationGracePeriodSeconds: 1\n      containers:\n      - name: main\n        image: {IMAGE}\n        command: [sh, -c, \
         {command:?}]\n        readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}\n---\n"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports: [{{port: 80, targetPort: 8080}}]\n{spec}---\n"
    )
}

fn of(cluster: &Cluster, what: &[&str], at: &str) -> String {
    let value = cluster.json(what);
    let found = value.pointer(at).unwrap_or(&Value::Null);
    found
        .as_str()
        .map_or_else(|| found.to_string(), str::to_owned)
}

fn cluster_ip(cluster: &Cluster, service: &str) -> String {
    of(cluster, &["service", service], "/spec/clusterIP")
}

/// Pods of an app by name, with their addresses.
fn pods(cluster: &Cluster, selector: &str) -> Vec<(String, String)> {
    let all = cluster.json(&["pods", "-l", selector]);
    let list = all["items"].as_array().expect("a list");
    let text = |pod: &Value, at: &str| {
        pod.pointer(at)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let living = list
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    living
        .map(|pod| (text(pod, "/metadata/name"), text(pod, "/status/podIP")))
        .collect()
}

/// Who answers to a pod: the answering pod's name, and whom it saw.
fn ask(cluster: &Cluster, from: &str, ip: &str, port: u16) -> Result<(String, String), String> {
    let script = format!("{ASK} {ip} {port}");
    let output = cluster.try_kubectl(&["exec", from, "--", "sh", "-c", &script]);
    answer(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| words(&output))
}

fn answer(told: &str) -> Option<(String, String)> {
    let (head, rest) = told.split_once('\n')?;
    let (name, saw) = rest.trim().lines().last()?.split_once(' ')?;
    // A socket for both families shows IPv4 addresses in its own way.
    let saw = saw.trim_matches(['[', ']']).trim_start_matches("::ffff:");
    let is_good = head.starts_with("HTTP/1.") && head.contains(" 200 ");
    is_good.then(|| (name.to_owned(), saw.to_owned()))
}

/// The same from this machine.
fn ask_from_here(ip: &str, port: u16) -> std::io::Result<(String, String)> {
    let at = SocketAddr::new(ip.parse().expect("an address"), port);
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /cgi-bin/who HTTP/1.0\r\n\r\n")?;
    let mut told = String::new();
    stream.read_to_string(&mut told)?;
    answer(&told).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// Asks until each of these has answered; gives what they saw.
fn ask_until(
    what: &str,
    wanted: &[String],
    mut ask: impl FnMut() -> Result<(String, String), String>,
) -> Vec<String> {
    let (mut answered, mut seen) = (Vec::new(), Vec::new());
    wait_for(what, LIMIT, || {
        let (name, saw) = ask()?;
        if !answered.contains(&name) {
            answered.push(name);
        }
        seen.push(saw);
        match wanted.iter().all(|name| answered.contains(name)) {
            true => Ok(()),
            false => Err(format!("answered: {answered:?}, wanted: {wanted:?}")),
        }
    });
    seen
}

fn nft(arguments: &[&str]) -> Output {
    let mut command = Command::new("nft");
    command.env("PATH", path()).args(arguments);
    command.output().expect("nft runs")
}

fn table(cluster: &Cluster) -> String {
    let marker = std::fs::read_to_string(cluster.data().join("berth.json")).expect("the marker");
    let marker: Value = serde_json::from_str(&marker).expect("JSON");
    format!(
        "berth-services-{}",
        marker["bridge"].as_str().expect("a bridge")
    )
}

fn listed(table: &str) -> String {
    words(&nft(&["-s", "list", "table", "inet", table]))
}

fn node_ip(cluster: &Cluster) -> String {
    of(cluster, &["node", "n1"], "/status/addresses/0/address")
}

fn node_port(cluster: &Cluster, service: &str) -> u16 {
    of(cluster, &["service", service], "/spec/ports/0/nodePort")
        .parse()
        .expect("a node port")
}

#[test]
fn services_lead_to_their_pods_whatever_runs_them() {
    // The node's address is one for all clusters of this machine.
    let cluster = Cluster::with(&["--service-node-port-range", "31000-31049"]);
    cluster.apply(&class("gvisor", "runsc"));
    cluster.apply(&(deployment("plain", None, 2) + &deployment("boxed", Some("gvisor"), 1)));
    cluster.apply(
        &(service("web", "  type: NodePort\n  selector: {all: web}\n")
            + &service("alone", "  selector: {app: boxed}\n")),
    );
    cluster.apply(&service(
        "sticky",
        "  sessionAffinity: ClientIP\n  selector: {all: web}\n",
    ));
    cluster.apply(&service("none", "  selector: {app: nobody}\n"));
    cluster.apply(
        &(pod("asker", None, FOREVER) + "---\n" + &pod("boxedasker", Some("gvisor"), FOREVER)),
    );
    cluster.kube(&[
        "rollout",
        "status",
        "deployment/plain",
        "deployment/boxed",
        "--timeout=120s",
    ]);
    cluster.wait_ready(&["asker", "boxedasker"]);
    let web = cluster_ip(&cluster, "web");
    let all: Vec<String> = pods(&cluster, "all=web")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(all.len(), 3);
    // Each of them by the Service, from each kind of pod; the answering pod sees who asked.
    for from in ["asker", "boxedasker"] {
        let own = of(&cluster, &["pod", from], "/status/podIP");
        let seen = ask_until(&format!("{from} to reach all"), &all, || {
            ask(&cluster, from, &web, 80)
        });
        assert!(
            seen.iter().all(|saw| *saw == own),
            "{from} ({own}) was seen as {seen:?}"
        );
    }
    // From this machine, at the cluster's address and at the node's.
    let (node, port) = (node_ip(&cluster), node_port(&cluster, "web"));
    ask_until("this machine to reach all", &all, || {
        ask_from_here(&web, 80).map_err(|e| e.to_string())
    });
    ask_until("a node port to reach all", &all, || {
        ask_from_here(&node, port).map_err(|e| e.to_string())
    });
    ask_until("a pod to reach all by a node port", &all, || {
        ask(&cluster, "asker", &node, port)
    });
    // A pod reaches itself by its own Service, under runc and gVisor.
    let alone = cluster_ip(&cluster, "alone");
    let (boxed, _) = pods(&cluster, "app=boxed").remove(0);
    ask_until(
        "a pod under gVisor to reach itself",
        std::slice::from_ref(&boxed),
        || ask(&cluster, &boxed, &alone, 80),
    );
    let (plain, _) = pods(&cluster, "app=plain").remove(0);
    ask_until("a pod to reach itself and others", &all, || {
        ask(&cluster, &plain, &web, 80)
    });
    // Whoever asks again gets the same answer.
    let sticky = cluster_ip(&cluster, "sticky");
    let first = wait_for("an answer", LIMIT, || ask(&cluster, "asker", &sticky, 80)).0;
    for _ in 0..8 {
        assert_eq!(
            ask(&cluster, "asker", &sticky, 80).expect("an answer").0,
            first
        );
    }
    // Nobody is there: that is said at once.
    let none = cluster_ip(&cluster, "none");
    for from in ["asker", "boxedasker"] {
        let start = Instant::now();
        let script = format!("nc -w 60 {none} 80 </dev/null");
        let output = cluster.try_kubectl(&["exec", from, "--", "sh", "-c", &script]);
        assert!(!output.status.success(), "{}", words(&output));
        assert!(
            start.elapsed() < Duration::from_secs(45),
            "{from} waited {:?}",
            start.elapsed()
        );
        // A port that the Service doesn't have, either.
        let output = cluster.try_kubectl(&[
            "exec",
            from,
            "--",
            "sh",
            "-c",
            &format!("nc -w 60 {web} 81 </dev/null"),
        ]);
        assert!(!output.status.success(), "{}", words(&output));
    }
    // Those that go are asked no more.
    cluster.kube(&["scale", "deployment/plain", "--replicas=0"]);
    wait_for("one endpoint", LIMIT, || {
        let slices = cluster.json(&["endpointslices", "-l", "kubernetes.io/service-name=web"]);
        let count = slices["items"][0]["endpoints"]
            .as_array()
            .map_or(0, Vec::len);
        if count == 1 {
            Ok(())
        } else {
            Err(format!("{slices:#}"))
        }
    });
    wait_for("no rule for the others", LIMIT, || {
        let text = listed(&table(&cluster));
        if text.matches("0x00004000").count() > 0 && !text.contains("mod 3") {
            Ok(())
        } else {
            Err(text)
        }
    });
    for _ in 0..4 {
        assert_eq!(
            ask(&cluster, "asker", &web, 80).expect("an answer").0,
            boxed
        );
    }
}

#[test]
fn rules_that_somebody_removes_come_back_and_no_old_one_stays() {
    let mut cluster = Cluster::start();
    cluster.apply(&deployment("web", None, 1));
    cluster.apply(&service(
        "web",
        "  sessionAffinity: ClientIP\n  selector: {app: web}\n",
    ));
    cluster.kube(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    let (table, web) = (table(&cluster), cluster_ip(&cluster, "web"));
    let reached = |what: &str| {
        wait_for(what, LIMIT, || {
            ask_from_here(&web, 80).map_err(|error| format!("{error}\n{}", listed(&table)))
        });
    };
    reached("the Service");
    for removed in [
        vec!["delete", "table", "inet", &table],
        vec!["flush", "table", "inet", &table],
        vec!["flush", "map", "inet", &table, "cluster4"],
    ] {
        let output = nft(&removed);
        assert!(output.status.success(), "{removed:?}: {}", words(&output));
        reached(&format!("the Service after nft {removed:?}"));
    }
    // What is there when it starts is taken over or removed.
    cluster.kill();
    reached("the Service without berth");
    for stale in [
        vec!["add", "chain", "inet", &table, "stale"],
        vec![
            "add",
            "element",
            "inet",
            &table,
            "cluster4",
            "{ 10.9.9.9 . tcp . 1 : goto stale }",
        ],
        vec![
            "add",
            "rule",
            "inet",
            &table,
            "nat-output",
            "tcp dport 1 drop",
        ],
    ] {
        let output = nft(&stale);
        assert!(output.status.success(), "{stale:?}: {}", words(&output));
    }
    cluster.launch();
    wait_for("what is stale to go", LIMIT, || {
        let text = listed(&table);
        let is_gone = !["stale", "10.9.9.9", "dport 1 "]
            .iter()
            .any(|old| text.contains(old));
        if is_gone { Ok(()) } else { Err(text) }
    });
    reached("the Service after the restart");
    // The Service goes, and everything of it.
    cluster.kube(&["delete", "service", "web"]);
    wait_for("the rules to go", LIMIT, || {
        let text = listed(&table);
        if text.contains(&web) || text.contains("aff4") {
            Err(text)
        } else {
            Ok(())
        }
    });
    wait_for("its Endpoints and slices to go", LIMIT, || {
        let left = cluster.kube(&["get", "endpoints,endpointslices", "-o", "name"]);
        if left.contains("web") {
            Err(left)
        } else {
            Ok(())
        }
    });
    drop(cluster);
    assert!(
        listed(&table).contains("No such file"),
        "{}",
        listed(&table)
    );
}

fn slice(service: &str, protocol: &str, at: SocketAddr) -> String {
    let (ip, port) = (at.ip(), at.port());
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}, labels: {{kubernetes.io/service-name: \
         {service}}}}}\naddressType: IPv4\nports: [{{name: \"\", port: {port}, protocol: {protocol}}}]\nendpoints: [{{addresses: \
         [\"{ip}\"]}}]\n---\n"
    )
}

#[test]
fn connections_to_endpoints_that_are_gone_are_cut() {
    let cluster = Cluster::start();
    let node: IpAddr = node_ip(&cluster).parse().expect("an address");
    let (one, two) = (
        UdpSocket::bind((node, 0)).expect("a socket"),
        UdpSocket::bind((node, 0)).expect("a socket"),
    );
    for socket in [&one, &two] {
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .expect("a time limit");
    }
    let listener = TcpListener::bind((node, 0)).expect("a listener");
    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: datagrams}\nspec: {ports: [{port: 53, protocol: UDP}]}\n---\n");
    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: stream}\nspec: {ports: [{port: 80}]}\n---\n");
    cluster.apply(&slice(
        "datagrams",
        "UDP",
        one.local_addr().expect("its address"),
    ));
    cluster.apply(&slice(
        "stream",
        "TCP",
        listener.local_addr().expect("its address"),
    ));
    let client = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
    client
        .connect((cluster_ip(&cluster, "datagrams").as_str(), 53))
        .expect("a route");
    let arrives = |what: &str, socket: &UdpSocket| {
        wait_for(what, LIMIT, || {
            // Refused, as long as nobody is there.
            let _refused = client.send(b"x");
            socket
                .recv(&mut [0; 8])
                .map(|_| ())
                .map_err(|error| error.to_string())
        });
    };
    arrives("the first endpoint to be reached", &one);
    cluster.apply(&slice(
        "datagrams",
        "UDP",
        two.local_addr().expect("its address"),
    ));
    arrives("the second endpoint, by the same socket", &two);
    let ip = cluster_ip(&cluster, "stream");
    let mut stream = wait_for("a connection", LIMIT, || {
        TcpStream::connect((ip.as_str(), 80))
    });
    let (mut peer, _) = listener.accept().expect("the connection");
    stream.write_all(b"x").expect("it can be written");
    peer.read_exact(&mut [0; 1]).expect("it arrives");
    cluster.kube(&["delete", "endpointslice", "stream"]);
    wait_for("the connection to be cut", LIMIT, || {
        match stream.write_all(b"x") {
            Ok(()) => Err("it can still be written"),
            Err(_) => Ok(()),
        }
    });
}

#[test]
fn a_load_balancer_has_the_node_and_none_of_its_ports() {
    let cluster = Cluster::with(&["--service-node-port-range", "31050-31099"]);
    cluster.apply(&deployment("web", None, 1));
    cluster.kube(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    let node = node_ip(&cluster);
    let free = TcpListener::bind((node.as_str(), 0))
        .expect("a port")
        .local_addr()
        .expect("its address")
        .port();
    let mine = TcpListener::bind((node.as_str(), 0)).expect("a port");
    let taken = mine.local_addr().expect("its address").port();
    let kubelet: u16 = of(
        &cluster,
        &["node", "n1"],
        "/status/daemonEndpoints/kubeletEndpoint/Port",
    )
    .parse()
    .expect("a port");
    let balancer = |name: &str, port: u16| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: LoadBalancer\n  selector: {{app: web}}\n  ports: \
             [{{port: {port}, targetPort: 8080}}]\n---\n"
        )
    };
    let mut manifest = balancer("good", free);
    for (name, port) in [
        ("taken", taken),
        ("kubelet", kubelet),
        ("apiserver", cluster.port()),
    ] {
        manifest += &balancer(name, port);
    }
    cluster.apply(&manifest);
    wait_for("the address", LIMIT, || {
        match of(
            &cluster,
            &["service", "good"],
            "/status/loadBalancer/ingress/0/ip",
        ) {
            ip if ip == node => Ok(()),
            other => Err(other),
        }
    });
    wait_for("an answer", LIMIT, || {
        ask_from_here(&node, free).map_err(|e| e.to_string())
    });
    for (name, port) in [
        ("taken", taken),
        ("kubelet", kubelet),
        ("apiserver", cluster.port()),
    ] {
        wait_for(name, LIMIT, || {
            let events = cluster.events_of(name);
            if events.contains("is in use by a program of the node") {
                Ok(())
            } else {
                Err(events)
            }
        });
        assert_eq!(
            of(&cluster, &["service", name], "/status/loadBalancer/ingress"),
            "null",
            "{name}"
        );
        let text = listed(&table(&cluster));
        assert!(
            !text.contains(&format!("{node} . tcp . {port} ")),
            "{name}\n{text}"
        );
    }
    // Endpoints lead to nothing that the node keeps for itself, whoever writes them.
    let gateway = cluster.kube(&[
        "get",
        "endpoints",
        "kubernetes",
        "-o",
        "jsonpath={.subsets[0].addresses[0].ip}",
    ]);
    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: inward}\nspec: {type: NodePort, ports: [{port: 80}]}\n---\n");
    let at = SocketAddr::new(gateway.parse().expect("an address"), cluster.port());
    cluster.apply(&slice("inward", "TCP", at));
    let port = node_port(&cluster, "inward");
    wait_for("the rules", LIMIT, || {
        let text = listed(&table(&cluster));
        if text.contains(&format!("{node} . tcp . {port} : goto refuse")) {
            Ok(())
        } else {
            Err(text)
        }
    });
    assert!(TcpStream::connect((node.as_str(), port)).is_err());
    for ip in ["127.0.0.1", "169.254.169.254"] {
        let at = SocketAddr::new(ip.parse().expect("an address"), 80);
        let output = cluster.try_apply(&slice("inward", "TCP", at));
        assert!(!output.status.success(), "{ip}: {}", words(&output));
    }
    // Nor does a Service take an address that isn't its own.
    cluster.apply(&service(
        "thief",
        "  selector: {app: web}\n  externalIPs: [198.51.100.77]\n",
    ));
    let thief = cluster_ip(&cluster, "thief");
    wait_for("the Service's own address", LIMIT, || {
        ask_from_here(&thief, 80).map_err(|e| e.to_string())
    });
    let text = listed(&table(&cluster));
    assert!(!text.contains("198.51.100.77"), "{text}");
}
