//! Names: pods find Services, each other and the rest of the world by them, whatever runs them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use berth_testkit::wait_for;

use crate::cluster::{Cluster, FOREVER, LIMIT, class, path, pod, words};

/// A Service with a port, a headless one with two endpoints, and an alias.
const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-by-hand, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432, protocol: TCP}]
endpoints:
- {addresses: [198.51.100.5], hostname: db-0}
- {addresses: [198.51.100.6], hostname: db-1, conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: db-0.db.default.svc.cluster.local}
"#;

/// What nslookup says in a pod, when it has found something with these words.
fn wait_found(cluster: &Cluster, pod: &str, question: &str, wanted: &str) {
    let script = format!("nslookup {question}");
    wait_for(&format!("{pod}: {question}: {wanted}"), LIMIT, || {
        let output = cluster.try_kubectl(&["exec", pod, "--", "sh", "-c", &script]);
        let said = words(&output);
        // It fails when one of the two families has no address.
        if said.contains(wanted) {
            Ok(())
        } else {
            Err(said)
        }
    });
}

fn cluster_ip(cluster: &Cluster, namespace: &str, service: &str) -> String {
    let path = "jsonpath={.spec.clusterIP}";
    cluster.kube(&["get", "service", "-n", namespace, service, "-o", path])
}

/// A question for the address of `name`, and whether an answer comes.
fn is_answered(from: IpAddr, server: &str, name: &str) -> bool {
    let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label"));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind((from, 0)).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(3)))
        .expect("a limit");
    let server: SocketAddr = format!("{server}:53").parse().expect("its address");
    let mut answer = [0; 512];
    socket.send_to(&bytes, server).is_ok()
        && socket
            .recv_from(&mut answer)
            .is_ok_and(|(length, _)| length > 12 && answer[7] > 0)
}

#[test]
fn pods_find_services_by_their_names_whatever_runs_them() {
    let mut cluster = Cluster::start();
    cluster.apply(OBJECTS);
    cluster.apply(&class("gvisor", "runsc"));
    cluster.apply(&pod("plain", None, FOREVER));
    cluster.apply(&pod("boxed", Some("gvisor"), FOREVER));
    let host = pod("host", None, FOREVER).replace(
        "spec:\n",
        "spec:\n  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet\n",
    );
    cluster.apply(&host);
    cluster.wait_ready(&["plain", "boxed", "host"]);
    let (dns, web) = (
        cluster_ip(&cluster, "kube-system", "kube-dns"),
        cluster_ip(&cluster, "default", "web"),
    );
    assert!(dns.ends_with(".10"), "{dns}");
    // With the end of the line: the server's own address begins with the same digits.
    let api = format!("{}\n", cluster_ip(&cluster, "default", "kubernetes"));
    for pod in ["plain", "boxed", "host"] {
        let file = cluster.kube(&["exec", pod, "--", "cat", "/etc/resolv.conf"]);
        assert!(
            file.contains(&format!("nameserver {dns}\n")),
            "{pod}: {file}"
        );
        assert!(
            file.contains("search default.svc.cluster.local svc.cluster.local cluster.local"),
            "{pod}: {file}"
        );
        assert!(file.contains("ndots:5"), "{pod}: {file}");
        // With the search list, and whole.
        wait_found(&cluster, pod, "web.default.svc.cluster.local", &web);
        // A name without dots is asked for with each suffix of the search list; that some don't have it is no failure.
        let script = "nslookup web; true";
        let said = cluster.kube(&["exec", pod, "--", "sh", "-c", script]);
        assert!(said.contains(&web), "{pod}: {said}");
        wait_found(&cluster, pod, "kubernetes.default.svc.cluster.local", &api);
        wait_found(
            &cluster,
            pod,
            "db.default.svc.cluster.local",
            "198.51.100.5",
        );
        wait_found(
            &cluster,
            pod,
            "db-0.db.default.svc.cluster.local",
            "198.51.100.5",
        );
        wait_found(
            &cluster,
            pod,
            "alias.default.svc.cluster.local",
            "198.51.100.5",
        );
        wait_found(&cluster, pod, &web, "web.default.svc.cluster.local");
        let none = cluster.try_kubectl(&[
            "exec",
            pod,
            "--",
            "nslookup",
            "db-1.db.default.svc.cluster.local",
        ]);
        assert!(
            !words(&none).contains("198.51.100.6"),
            "{pod}: {}",
            words(&none)
        );
    }
    // What changes is found soon, and a server that is killed answers again when it is back, at the same address.
    cluster.kube(&["delete", "service", "web"]);
    cluster.kill();
    cluster.launch();
    cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: later}\nspec: {ports: [{port: 80}]}\n",
    );
    let later = cluster_ip(&cluster, "default", "later");
    for pod in ["plain", "boxed"] {
        wait_found(&cluster, pod, "later.default.svc.cluster.local", &later);
        let gone = cluster.try_kubectl(&[
            "exec",
            pod,
            "--",
            "nslookup",
            "web.default.svc.cluster.local",
        ]);
        assert!(words(&gone).contains("NXDOMAIN"), "{pod}: {}", words(&gone));
    }
}

#[test]
fn clusters_with_the_same_addresses_of_services_keep_their_names_apart() {
    let range = ["--service-cluster-ip-range", "10.99.96.0/24"];
    let clusters = [Cluster::with(&range), Cluster::with(&range)];
    for (number, cluster) in clusters.iter().enumerate() {
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: own}}\nspec: {{clusterIP: 10.99.96.{}, ports: [{{port: 80}}]}}\n",
            100 + number
        ));
        cluster.apply(&pod("asks", None, FOREVER));
    }
    for (number, cluster) in clusters.iter().enumerate() {
        cluster.wait_ready(&["asks"]);
        let wanted = format!("10.99.96.{}", 100 + number);
        wait_found(cluster, "asks", "own.default.svc.cluster.local", &wanted);
    }
}

#[test]
fn who_is_not_the_clusters_is_not_answered() {
    let cluster = Cluster::start();
    cluster.apply(&pod("asks", None, FOREVER));
    cluster.wait_ready(&["asks"]);
    // With the end of the line: the server's own address begins with the same digits.
    let api = format!("{}\n", cluster_ip(&cluster, "default", "kubernetes"));
    wait_found(
        &cluster,
        "asks",
        "kubernetes.default.svc.cluster.local",
        &api,
    );
    let dns = cluster_ip(&cluster, "kube-system", "kube-dns");
    let name = "kubernetes.default.svc.cluster.local";
    // This machine itself is.
    assert!(is_answered([0, 0, 0, 0].into(), &dns, name));
    // A neighbour: a network namespace with an interface of its own, and a route to the address.
    let space = format!("dns{}", std::process::id());
    let ip = |arguments: &str| {
        let output = Command::new("ip")
            .env("PATH", path())
            .args(arguments.split(' '))
            .output()
            .expect("ip runs");
        (output.status.success(), words(&output))
    };
    struct Gone<F: Fn()>(F);
    impl<F: Fn()> Drop for Gone<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let _gone = Gone(|| {
        ip(&format!("netns del {space}"));
    });
    let id = std::process::id();
    for step in [
        format!("netns add {space}"),
        format!("link add d{id}a type veth peer name d{id}b netns {space}"),
        format!("address add 198.18.77.1/30 dev d{id}a"),
        format!("link set d{id}a up"),
        format!("-n {space} address add 198.18.77.2/30 dev d{id}b"),
        format!("-n {space} link set d{id}b up"),
        format!("-n {space} route add {dns}/32 via 198.18.77.1"),
    ] {
        let (done, said) = ip(&step);
        assert!(done, "ip {step}: {said}");
    }
    let busybox = |server: &str| {
        let asked = Command::new("ip")
            .env("PATH", path())
            .args(["netns", "exec", &space, "busybox", "nslookup", name, server])
            .output()
            .expect("ip runs");
        words(&asked)
    };
    // The address itself is reached from there.
    let reached = ip(&format!("netns exec {space} busybox ping -c 1 -W 5 {dns}"));
    assert!(reached.0, "{}", reached.1);
    let said = busybox(&dns);
    assert!(!said.contains("Name:"), "{said}");
}
