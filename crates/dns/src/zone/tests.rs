use hickory_proto::rr::RecordType::{A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT};
use serde_json::{Value, json};

use super::*;

fn zone() -> Zone {
    let pods = vec!["10.88.0.0/16".parse().unwrap()];
    let services = [
        "10.96.0.0/16".parse().unwrap(),
        "fd01::/112".parse().unwrap(),
    ];
    let servers = vec!["10.96.0.10".parse().unwrap()];
    Zone::new("cluster.local", servers, pods, &services).unwrap()
}

fn service(name: &str, spec: Value) -> ApiService {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "prod"}, "spec": spec}))
        .unwrap()
}

fn slice(name: &str, service: &str, endpoints: Value) -> ApiSlice {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "prod", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }))
    .unwrap()
}

fn endpoint(ip: &str, ready: bool, hostname: Option<&str>) -> Value {
    json!({"addresses": [ip], "conditions": {"ready": ready}, "hostname": hostname})
}

/// A zone with a Service of each kind.
fn full() -> Zone {
    let mut zone = zone();
    let ports =
        json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    for (name, spec) in [
        (
            "web",
            json!({"clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1", "fd01::1"], "ports": ports}),
        ),
        (
            "db",
            json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": ports}),
        ),
        (
            "early",
            json!({"clusterIP": "None", "publishNotReadyAddresses": true}),
        ),
        (
            "away",
            json!({"type": "ExternalName", "externalName": "db.example.com"}),
        ),
        (
            "broken",
            json!({"type": "ExternalName", "externalName": ""}),
        ),
        ("pending", json!({"ports": ports})),
    ] {
        zone.apply_service(&service(name, spec));
    }
    let two = json!([
        endpoint("10.88.0.5", true, Some("db-0")),
        endpoint("10.88.0.6", false, Some("db-1")),
        endpoint("10.88.0.7", true, None),
    ]);
    zone.apply_slice(&slice("db-a", "db", two));
    let one = json!([endpoint("10.88.0.9", false, None)]);
    zone.apply_slice(&slice("early-a", "early", one));
    zone.keep_services(&zone.all_keys());
    zone.keep_slices(&zone.all_keys());
    zone
}

/// The answer in few words.
fn say(zone: &Zone, name: &str, kind: hickory_proto::rr::RecordType) -> String {
    let name = Name::from_ascii(name).unwrap();
    match zone.lookup(&name, kind) {
        None => "elsewhere".to_owned(),
        Some(Found::NoData) => "no data".to_owned(),
        Some(Found::NoName) => "no name".to_owned(),
        Some(Found::Alias(target)) => format!("alias {target}"),
        Some(Found::Records(answers, additionals)) => {
            for record in &answers {
                assert_eq!((&record.name, record.ttl), (&name, TTL));
            }
            let words = |records: &[Record]| {
                let words = records.iter().map(|record| record.data.to_string());
                words.collect::<Vec<_>>().join(" ")
            };
            let mut text = words(&answers);
            if !additionals.is_empty() {
                text += &format!(" + {}", words(&additionals));
            }
            text
        }
    }
}

#[test]
fn the_names_of_the_specification() {
    let zone = full();
    for (name, kind, wanted) in [
        ("dns-version.cluster.local.", TXT, "1.1.0"),
        ("web.prod.svc.cluster.local.", A, "10.96.1.1"),
        ("WEB.Prod.SVC.cluster.LOCAL.", A, "10.96.1.1"),
        ("web.prod.svc.cluster.local.", AAAA, "fd01::1"),
        ("web.prod.svc.cluster.local.", MX, "no data"),
        (
            "_http._tcp.web.prod.svc.cluster.local.",
            SRV,
            "0 100 80 web.prod.svc.cluster.local. + 10.96.1.1 fd01::1",
        ),
        (
            "_dns._udp.web.prod.svc.cluster.local.",
            SRV,
            "0 100 53 web.prod.svc.cluster.local. + 10.96.1.1 fd01::1",
        ),
        ("_http._udp.web.prod.svc.cluster.local.", SRV, "no name"),
        ("http._tcp.web.prod.svc.cluster.local.", SRV, "no name"),
        ("_http._tcp.web.prod.svc.cluster.local.", A, "no data"),
        ("_tcp.web.prod.svc.cluster.local.", SRV, "no data"),
        ("_sctp.web.prod.svc.cluster.local.", SRV, "no name"),
        // Headless: endpoints that are ready.
        ("db.prod.svc.cluster.local.", A, "10.88.0.5 10.88.0.7"),
        ("db.prod.svc.cluster.local.", AAAA, "no data"),
        ("db-0.db.prod.svc.cluster.local.", A, "10.88.0.5"),
        ("db-1.db.prod.svc.cluster.local.", A, "no name"),
        ("10-88-0-7.db.prod.svc.cluster.local.", A, "10.88.0.7"),
        // An endpoint with a name has no other.
        ("10-88-0-5.db.prod.svc.cluster.local.", A, "no name"),
        (
            "_http._tcp.db.prod.svc.cluster.local.",
            SRV,
            "0 100 8080 db-0.db.prod.svc.cluster.local. 0 100 8080 10-88-0-7.db.prod.svc.cluster.local. + 10.88.0.5 10.88.0.7",
        ),
        ("early.prod.svc.cluster.local.", A, "10.88.0.9"),
        ("away.prod.svc.cluster.local.", A, "alias db.example.com."),
        (
            "away.prod.svc.cluster.local.",
            CNAME,
            "alias db.example.com.",
        ),
        ("x.away.prod.svc.cluster.local.", A, "no name"),
        ("broken.prod.svc.cluster.local.", A, "no data"),
        ("pending.prod.svc.cluster.local.", A, "no name"),
        ("none.prod.svc.cluster.local.", A, "no name"),
        ("web.none.svc.cluster.local.", A, "no name"),
        ("none.svc.cluster.local.", A, "no name"),
        ("prod.svc.cluster.local.", A, "no data"),
        ("svc.cluster.local.", A, "no data"),
        ("a.b.web.prod.svc.cluster.local.", A, "no name"),
        ("a.b.c.web.prod.svc.cluster.local.", A, "no name"),
        ("example.com.prod.svc.cluster.local.", A, "no name"),
        ("x.cluster.local.", A, "no name"),
        ("cluster.local.", A, "no data"),
        ("cluster.local.", NS, "ns.dns.cluster.local. + 10.96.0.10"),
        ("ns.dns.cluster.local.", A, "10.96.0.10"),
        ("10-88-3-4.prod.pod.cluster.local.", A, "10.88.3.4"),
        ("10-88-3-4.prod.pod.cluster.local.", AAAA, "no data"),
        ("192-0-2-1.prod.pod.cluster.local.", A, "no name"),
        ("nonsense.prod.pod.cluster.local.", A, "no name"),
        // Reverse.
        (
            "1.1.96.10.in-addr.arpa.",
            PTR,
            "web.prod.svc.cluster.local.",
        ),
        (
            "5.0.88.10.in-addr.arpa.",
            PTR,
            "db-0.db.prod.svc.cluster.local.",
        ),
        (
            "7.0.88.10.in-addr.arpa.",
            PTR,
            "10-88-0-7.db.prod.svc.cluster.local.",
        ),
        ("6.0.88.10.in-addr.arpa.", PTR, "no name"),
        (
            "9.0.88.10.in-addr.arpa.",
            PTR,
            "10-88-0-9.early.prod.svc.cluster.local.",
        ),
        ("5.0.88.10.in-addr.arpa.", A, "no data"),
        ("9.9.96.10.in-addr.arpa.", PTR, "no name"),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.d.f.ip6.arpa.",
            PTR,
            "web.prod.svc.cluster.local.",
        ),
        ("1.2.0.192.in-addr.arpa.", PTR, "elsewhere"),
        ("2.0.192.in-addr.arpa.", PTR, "elsewhere"),
        ("in-addr.arpa.", SOA, "elsewhere"),
        ("example.com.", A, "elsewhere"),
        ("cluster.local.example.com.", A, "elsewhere"),
        ("xcluster.local.", A, "elsewhere"),
        ("local.", A, "elsewhere"),
        (".", NS, "elsewhere"),
    ] {
        assert_eq!(say(&zone, name, kind), wanted, "{name} {kind}");
    }
    assert!(
        say(&zone, "cluster.local.", SOA)
            .starts_with("ns.dns.cluster.local. hostmaster.cluster.local.")
    );
}

#[test]
fn what_goes_leaves_nothing() {
    let mut zone = full();
    let ports = json!({"clusterIP": "10.96.1.2", "clusterIPs": ["10.96.1.2"]});
    zone.apply_service(&service("web", ports));
    assert_eq!(say(&zone, "1.1.96.10.in-addr.arpa.", PTR), "no name");
    assert_eq!(say(&zone, "web.prod.svc.cluster.local.", A), "10.96.1.2");
    // A list that hasn't it any more.
    zone.keep_services(&HashSet::new());
    assert_eq!(say(&zone, "web.prod.svc.cluster.local.", A), "no name");
    assert_eq!(say(&zone, "5.0.88.10.in-addr.arpa.", PTR), "no name");
    zone.keep_slices(&HashSet::new());
    assert!(zone.namespaces.is_empty());
    assert!(zone.cluster_ips.is_empty());
    assert!(zone.slices_by_address.is_empty());
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_old_one() {
    let mut zone = full();
    let one = json!([endpoint("10.88.0.5", true, None)]);
    zone.apply_slice(&slice("db-a", "early", one));
    assert_eq!(say(&zone, "db.prod.svc.cluster.local.", A), "no data");
    assert_eq!(
        say(&zone, "early.prod.svc.cluster.local.", A),
        "10.88.0.5 10.88.0.9"
    );
}

#[test]
fn an_answer_has_a_bound_however_many_endpoints_there_are() {
    let mut zone = full();
    for n in 0..20 {
        let endpoints = (0..100).map(|i| endpoint(&format!("10.89.{n}.{i}"), true, None));
        let endpoints: Vec<Value> = endpoints.collect();
        zone.apply_slice(&slice(&format!("db-{n}"), "db", json!(endpoints)));
        // Somebody who claims an address for many names.
        let claim = json!([endpoint("10.88.0.5", true, Some(&format!("n{n}")))]);
        zone.apply_slice(&slice(&format!("claim-{n}"), "db", claim));
    }
    let count = |name: &str, kind| say(&zone, name, kind).split(' ').count();
    let all = count("db.prod.svc.cluster.local.", A);
    assert!((400..=512).contains(&all), "{all}");
    assert!(count("5.0.88.10.in-addr.arpa.", PTR) <= 16);
}

#[test]
fn a_domain_must_be_a_name() {
    let wrong = format!("{}.local", "x".repeat(64));
    assert!(Zone::new(&wrong, Vec::new(), Vec::new(), &[]).is_err());
}
