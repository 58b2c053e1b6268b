//! Rules of Services, as the elements and chains they come to.

use serde_json::{Value, json};

use super::*;
use crate::nft::{Standing, Table, apply};

const NODE: &str = "192.0.2.2";

fn facts() -> Facts {
    Facts {
        node: "n1".to_owned(),
        zone: Some("east".to_owned()),
        addresses: vec![NODE.parse().unwrap()],
        own: [NODE, "10.88.0.1", "127.0.0.1"]
            .map(|ip| ip.parse().unwrap())
            .into(),
        pod_cidrs: vec!["10.88.0.0/16".parse().unwrap()],
        external_ips: vec!["198.51.100.0/24".parse().unwrap()],
        reserved: [6443, 10250].into(),
        taken: [(Protocol::Tcp, 22)].into(),
        bridge_passes_rules: true,
    }
}

/// A Service `default/NAME` with a port 80 (`http`) and what else is said of it.
fn service(name: &str, spec: Value) -> Service {
    let n = name.bytes().map(u32::from).sum::<u32>();
    let mut all = json!({"type": "ClusterIP", "clusterIPs": [format!("10.96.0.{}", n % 250)],
        "ports": [{"name": "http", "port": 80}]});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    let meta = json!({"name": name, "namespace": "default", "uid": format!("{n:08x}-0000"),
        "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", n % 60)});
    let object = json!({"metadata": meta, "spec": all});
    Service::parse(&serde_json::from_value(object).unwrap()).expect("a Service that is led")
}

/// A slice with a port 8080 (`http`), and endpoints by address, node and state.
fn slice(service: &str, endpoints: &[(&str, &str, &str)]) -> Slice {
    slice_in("default", service, endpoints)
}

fn slice_in(namespace: &str, service: &str, endpoints: &[(&str, &str, &str)]) -> Slice {
    let endpoint = |(ip, node, state): &(&str, &str, &str)| {
        json!({"addresses": [ip], "nodeName": node, "conditions": {
            "ready": *state == "ready", "serving": *state != "unready", "terminating": *state == "ending"}})
    };
    let six = endpoints.iter().any(|(ip, ..)| ip.contains("::"));
    let object = json!({
        "metadata": {"name": "x", "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": if six { "IPv6" } else { "IPv4" },
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": 8080}],
    });
    Slice::parse(&serde_json::from_value(object).unwrap()).expect("a slice")
}

/// What a map leads this to.
fn to(plan: &Plan, map: &str, key: &str) -> Option<String> {
    plan.ruleset.sets[map].elements.get(key).cloned()
}

/// The rules of the chain that a map leads this to.
fn chain(plan: &Plan, map: &str, key: &str) -> Vec<String> {
    let to = to(plan, map, key).unwrap_or_else(|| panic!("{map} {key}: {plan:#?}"));
    rules(plan, &to)
}

fn rules(plan: &Plan, goto: &str) -> Vec<String> {
    let name = goto.rsplit(' ').next().unwrap();
    plan.ruleset.chains[name].rules.clone()
}

fn only(service: &Service) -> String {
    format!("{} . tcp . 80", service.cluster_ips[0])
}

fn plan_of(services: &[Service], slices: &[Slice]) -> Plan {
    plan(services, slices, &facts())
}

#[test]
fn ready_endpoints_share_what_comes_to_the_cluster_address() {
    let web = service("web", json!({}));
    let ends = [
        slice(
            "web",
            &[("10.88.0.2", "n1", "ready"), ("10.88.0.3", "n2", "ready")],
        ),
        slice(
            "web",
            &[("10.88.0.4", "n1", "unready"), ("10.88.0.2", "n1", "ready")],
        ),
        slice("other", &[("10.88.0.9", "n1", "ready")]),
        slice_in("evil", "web", &[("10.88.0.66", "n1", "ready")]),
    ];
    let plan = plan_of(std::slice::from_ref(&web), &ends);
    assert_eq!(
        chain(&plan, "cluster4", &only(&web)),
        [
            "meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.88.0.2 . 8080, 1 : 10.88.0.3 . 8080 } comment \
             \"default/web:http\""
        ]
    );
    assert!(
        plan.ruleset.sets["hairpin4"]
            .elements
            .contains_key("10.88.0.2 . 10.88.0.2")
    );
    assert_eq!(to(&plan, "refused4", &only(&web)), None);
    let pre = &plan.ruleset.chains["nat-prerouting"].rules;
    assert!(pre.contains(
        &"ip saddr { 10.88.0.0/16 } ip daddr . meta l4proto . th dport vmap @cluster4".to_owned()
    ));
    // Nobody's pods of the other family are known, so nobody is led there from outside.
    assert!(
        !pre.iter().any(|rule| rule.contains("@cluster6")),
        "{pre:?}"
    );
    // A connection to the one that isn't ready goes on.
    let front = (web.cluster_ips[0], Protocol::Tcp, 80);
    assert_eq!(plan.fronts[&front].len(), 3);
}

#[test]
fn without_endpoints_it_is_refused_and_those_that_end_are_better_than_none() {
    let web = service(
        "web",
        json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}),
    );
    let node = format!("{NODE} . tcp . 30080");
    let none = plan_of(
        std::slice::from_ref(&web),
        &[slice("web", &[("10.88.0.4", "n1", "unready")])],
    );
    for key in [&only(&web), &node] {
        assert_eq!(
            to(&none, "refused4", key).as_deref(),
            Some("goto refuse"),
            "{key}"
        );
    }
    assert_eq!(to(&none, "cluster4", &only(&web)), None);
    assert_eq!(to(&none, "external4", &node), None);
    let ending = plan_of(
        std::slice::from_ref(&web),
        &[slice("web", &[("10.88.0.4", "n1", "ending")])],
    );
    assert_eq!(
        chain(&ending, "cluster4", &only(&web)),
        ["meta l4proto tcp dnat ip to 10.88.0.4:8080 comment \"default/web:http\""]
    );
    let ends = [slice(
        "web",
        &[("10.88.0.4", "n1", "ending"), ("10.88.0.5", "n1", "ready")],
    )];
    let both = plan_of(std::slice::from_ref(&web), &ends);
    assert!(chain(&both, "cluster4", &only(&web))[0].contains("dnat ip to 10.88.0.5:8080"));
}

#[test]
fn what_comes_from_outside_is_masqueraded_unless_it_stays_local() {
    let port = json!([{"name": "http", "port": 80, "nodePort": 30080}]);
    let cluster = service("web", json!({"type": "NodePort", "ports": port}));
    let ends = [slice(
        "web",
        &[("10.88.0.2", "n1", "ready"), ("10.88.9.3", "n2", "ready")],
    )];
    let node = format!("{NODE} . tcp . 30080");
    let rules = chain(&plan_of(&[cluster], &ends), "external4", &node);
    assert_eq!(rules[0], "meta mark set meta mark | 0x4000");
    assert!(rules[1].starts_with("goto svc4-"), "{rules:?}");
    let local = service(
        "web",
        json!({"type": "NodePort", "ports": port, "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}),
    );
    let plan = plan_of(std::slice::from_ref(&local), &ends);
    let rules = chain(&plan, "external4", &node);
    assert!(
        rules[0].starts_with("ip saddr { 10.88.0.0/16 } goto svc4-"),
        "{rules:?}"
    );
    assert!(
        rules[1].starts_with("fib saddr type local meta mark set"),
        "{rules:?}"
    );
    assert!(rules[2].starts_with("goto loc4-"), "{rules:?}");
    let near = "meta l4proto tcp dnat ip to 10.88.0.2:8080 comment \"default/web:http\"";
    assert_eq!(self::rules(&plan, &rules[2]), [near]);
    assert_eq!(chain(&plan, "cluster4", &only(&local)), [near]);
    // None here: nothing answers to those outside, and inside nothing is led elsewhere.
    let away = [slice("web", &[("10.88.9.3", "n2", "ready")])];
    let plan = plan_of(std::slice::from_ref(&local), &away);
    assert_eq!(chain(&plan, "external4", &node).len(), 2);
    for key in [&only(&local), &node] {
        assert_eq!(to(&plan, "refused4", key).as_deref(), Some("drop"), "{key}");
    }
}

#[test]
fn a_client_stays_with_its_endpoint() {
    let config = json!({"clientIP": {"timeoutSeconds": 10}});
    let web = service(
        "web",
        json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}),
    );
    let ends = [slice(
        "web",
        &[("10.88.0.2", "n1", "ready"), ("10.88.0.3", "n1", "ready")],
    )];
    let plan = plan_of(std::slice::from_ref(&web), &ends);
    let rules = chain(&plan, "cluster4", &only(&web));
    assert_eq!(rules.len(), 3, "{rules:?}");
    assert!(
        rules[0].starts_with("ip saddr @aff4-")
            && rules[0].contains("-10-10.88.0.2_8080 goto ep4-"),
        "{rules:?}"
    );
    assert!(
        rules[2].starts_with("numgen random mod 2 vmap { 0 : goto ep4-"),
        "{rules:?}"
    );
    let first = self::rules(&plan, &rules[0]);
    assert!(
        first[0].starts_with("update @aff4-") && first[0].ends_with("{ ip saddr }"),
        "{first:?}"
    );
    let sessions: Vec<_> = plan
        .ruleset
        .sets
        .values()
        .filter(|set| set.dynamic)
        .collect();
    assert_eq!(sessions.len(), 2);
    assert!(sessions[0].spec.contains("timeout 10s;"));
}

#[test]
fn a_load_balancer_has_the_node_if_its_ports_are_free_there() {
    let lb = |name: &str, port: u16, more: Value| {
        let mut spec = json!({"type": "LoadBalancer", "ports": [{"name": "http", "port": port}]});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        service(name, spec)
    };
    let older = lb(
        "a",
        80,
        json!({"loadBalancerSourceRanges": ["203.0.113.0/24", "203.0.113.7/32"]}),
    );
    let services = [
        older.clone(),
        lb("b", 80, json!({})),
        lb("c", 6443, json!({})),
        lb("d", 10250, json!({})),
        lb("e", 22, json!({})),
        lb("f", 8443, json!({"loadBalancerClass": "example.com/other"})),
        service(
            "g",
            json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}),
        ),
        lb("h", 30080, json!({})),
    ];
    let plan = plan_of(
        &services,
        &["a", "b", "c", "d", "e", "f", "g", "h"]
            .map(|s| slice(s, &[("10.88.0.2", "n1", "ready")])),
    );
    let state = |name: &str| {
        let found = plan.balanced.iter().find(|(key, _)| key.name == name);
        found.map(|(_, state)| state.clone())
    };
    assert_eq!(state("a"), Some(Ok(vec![NODE.parse().unwrap()])));
    for (name, why) in [
        ("b", "port 80/TCP of the node is another Service's"),
        (
            "c",
            "port 6443/TCP of the node is in use by a program of the node",
        ),
        (
            "d",
            "port 10250/TCP of the node is in use by a program of the node",
        ),
        (
            "e",
            "port 22/TCP of the node is in use by a program of the node",
        ),
        ("h", "port 30080/TCP of the node is another Service's"),
    ] {
        assert_eq!(state(name), Some(Err(why.to_owned())), "{name}");
    }
    assert_eq!(state("f"), None);
    for port in [6443, 10250, 22, 8443] {
        for map in ["external4", "refused4"] {
            assert_eq!(
                to(&plan, map, &format!("{NODE} . tcp . {port}")),
                None,
                "{port}"
            );
        }
    }
    assert!(
        to(&plan, "external4", &format!("{NODE} . tcp . 30080"))
            .unwrap()
            .contains("0067-0000")
    );
    let rules = chain(&plan, "firewall4", &format!("{NODE} . tcp . 80"));
    assert_eq!(rules[0], "ip saddr { 203.0.113.0/24 } return");
    assert!(rules[1].starts_with("drop"));
}

#[test]
fn what_costs_too_much_is_refused_and_the_others_go_on() {
    let ports = |count: u32, affinity: &str| {
        let port = |n: u32| json!({"name": format!("p{n}"), "port": n + 1, "targetPort": 8080});
        let ports: Vec<Value> = (0..count).map(port).collect();
        json!({"ports": ports, "sessionAffinity": affinity})
    };
    let many: Vec<String> = (1..=100).map(|n| format!("10.88.1.{n}")).collect();
    let many: Vec<(&str, &str, &str)> = many.iter().map(|ip| (&**ip, "n1", "ready")).collect();
    let fine = service("fine", json!({}));
    for (spec, is_led) in [
        (ports(20, "None"), true),
        (ports(21, "None"), false),
        (ports(1, "ClientIP"), false),
        (ports(50_000, "None"), false),
    ] {
        let greedy = service("greedy", spec);
        let ends = [
            slice("greedy", &many),
            slice("fine", &[("10.88.0.2", "n1", "ready")]),
        ];
        let plan = plan_of(&[greedy.clone(), fine.clone()], &ends);
        assert_eq!(plan.left_out.is_empty(), is_led, "{:?}", plan.left_out);
        assert!(to(&plan, "cluster4", &only(&fine)).is_some());
        // Its address is refused, and leads nowhere else.
        let refused = &plan.ruleset.sets["cluster-ips4"].elements;
        assert!(refused.contains_key(&greedy.cluster_ips[0].to_string()));
    }
    // Many in one namespace, and one in another.
    let mut all: Vec<Service> = (0..6)
        .map(|_| service("greedy", ports(20, "None")))
        .collect();
    for (n, one) in all.iter_mut().enumerate() {
        one.uid = format!("{n:08x}-0001");
    }
    let mut other = service("greedy", ports(20, "None"));
    other.key.namespace = "other".to_owned();
    let all: Vec<Service> = all.into_iter().chain([other]).collect();
    let ends = [slice("greedy", &many), slice_in("other", "greedy", &many)];
    let plan = plan_of(&all, &ends);
    assert_eq!(plan.left_out.len(), 1);
    assert!(plan.left_out.keys().all(|key| key.namespace == "default"));
}

#[test]
fn a_service_takes_no_address_that_is_not_its_own() {
    let ips = [
        "8.8.8.8",
        NODE,
        "10.88.0.7",
        "127.0.0.1",
        "10.96.0.1",
        "198.51.100.9",
    ];
    let thief = service("thief", json!({"externalIPs": ips}));
    let plan = plan_of(
        &[thief],
        &[slice("thief", &[("10.88.0.66", "n1", "ready")])],
    );
    let led: Vec<&String> = plan.ruleset.sets["external4"].elements.keys().collect();
    assert_eq!(led, ["198.51.100.9 . tcp . 80"]);
    // What its status says is nobody's word for anything.
    let mut liar = service("liar", json!({"type": "LoadBalancer"}));
    liar.ingress = vec!["8.8.8.8".parse().unwrap()];
    let plan = plan_of(&[liar], &[slice("liar", &[("10.88.0.66", "n1", "ready")])]);
    let led: Vec<&String> = plan.ruleset.sets["external4"].elements.keys().collect();
    assert_eq!(led, [&format!("{NODE} . tcp . 80")]);
}

#[test]
fn of_two_with_the_same_address_the_older_has_it() {
    let ip = json!({"externalIPs": ["198.51.100.9"]});
    let (old, new) = (service("a", ip.clone()), service("b", ip));
    let ends = [
        slice("a", &[("10.88.0.2", "n1", "ready")]),
        slice("b", &[("10.88.0.66", "n1", "ready")]),
    ];
    for services in [[old.clone(), new.clone()], [new, old]] {
        let plan = plan_of(&services, &ends);
        let rules = chain(&plan, "external4", "198.51.100.9 . tcp . 80");
        assert!(
            self::rules(&plan, &rules[1])[0].contains("10.88.0.2:8080"),
            "{rules:?}"
        );
    }
}

#[test]
fn endpoints_lead_to_nothing_that_is_this_machines_alone() {
    let web = service("web", json!({}));
    for ip in [
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "10.88.0.1",
        "::1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "ff02::1",
        "localhost",
        "-j ACCEPT",
        "10.0.0.1; flush ruleset",
    ] {
        let plan = plan_of(
            std::slice::from_ref(&web),
            &[slice("web", &[(ip, "n1", "ready")])],
        );
        assert_eq!(to(&plan, "cluster4", &only(&web)), None, "{ip}");
        assert_eq!(
            to(&plan, "refused4", &only(&web)).as_deref(),
            Some("goto refuse"),
            "{ip}"
        );
    }
    // A pod on the node's network is reached at the address that the node reports.
    let plan = plan_of(
        std::slice::from_ref(&web),
        &[slice("web", &[(NODE, "n1", "ready")])],
    );
    assert!(to(&plan, "cluster4", &only(&web)).is_some());
    // The gateway is where the API server may listen, and for its own Service only.
    let own = service("kubernetes", json!({}));
    let plan = plan_of(
        std::slice::from_ref(&own),
        &[slice("kubernetes", &[("10.88.0.1", "", "ready")])],
    );
    assert!(chain(&plan, "cluster4", &only(&own))[0].contains("10.88.0.1:8080"));
}

#[test]
fn both_families_and_every_protocol() {
    let ports = json!([{"name": "http", "port": 80, "protocol": "UDP"}, {"name": "http", "port": 80, "protocol": "SCTP"}]);
    let web = service(
        "web",
        json!({"clusterIPs": ["10.96.0.9", "fd00:96::9"], "ports": ports}),
    );
    let object = |ip: &str, kind: &str| {
        let ports = json!([{"name": "http", "port": 53, "protocol": "UDP"}]);
        let object = json!({"metadata": {"name": "x", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": kind, "endpoints": [{"addresses": [ip]}], "ports": ports});
        Slice::parse(&serde_json::from_value(object).unwrap()).unwrap()
    };
    let plan = plan_of(
        &[web],
        &[object("10.88.0.2", "IPv4"), object("fd00:88::2", "IPv6")],
    );
    assert!(
        chain(&plan, "cluster4", "10.96.0.9 . udp . 80")[0]
            .contains("meta l4proto udp dnat ip to 10.88.0.2:53")
    );
    assert!(
        chain(&plan, "cluster6", "fd00:96::9 . udp . 80")[0]
            .contains("meta l4proto udp dnat ip6 to [fd00:88::2]:53")
    );
    assert_eq!(
        to(&plan, "refused4", "10.96.0.9 . sctp . 80").as_deref(),
        Some("goto refuse")
    );
}

#[test]
fn a_bridge_that_rules_do_not_see_has_its_pods_masqueraded() {
    let rule = |passes: bool| {
        let facts = Facts {
            bridge_passes_rules: passes,
            ..facts()
        };
        let plan = plan([], [], &facts);
        let rules = plan.ruleset.chains["nat-postrouting"].rules.clone();
        rules
            .iter()
            .any(|r| r.contains("ip saddr { 10.88.0.0/16 } ip daddr { 10.88.0.0/16 } masquerade"))
    };
    assert!(!rule(true));
    assert!(rule(false));
}

#[test]
fn load_balancers_ask_for_the_endpoints_of_this_node() {
    let lb = service(
        "web",
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}),
    );
    let ends = [slice(
        "web",
        &[
            ("10.88.0.2", "n1", "ready"),
            ("10.88.0.3", "n1", "unready"),
            ("10.88.9.3", "n2", "ready"),
        ],
    )];
    let plan = plan_of(&[lb], &ends);
    assert_eq!(plan.health[&31000].1, 1);
}

/// What nft says to the scripts, one after the other, in a table of its own for addresses that nobody has here.
#[tokio::test]
async fn the_kernel_takes_every_script() {
    let table = Table::new("test", &format!("r{}", std::process::id())).unwrap();
    let port = json!([{"name": "http", "port": 80, "nodePort": 30080}]);
    let web = |more: Value| {
        let mut spec = json!({"type": "LoadBalancer", "ports": port, "clusterIPs": ["10.96.77.9", "fd00:96::9"]});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        service("web", spec)
    };
    // Nobody has these addresses here.
    let facts = Facts {
        addresses: vec!["203.0.113.250".parse().unwrap()],
        pod_cidrs: vec![
            "203.0.113.0/25".parse().unwrap(),
            "fd00:88::/64".parse().unwrap(),
        ],
        ..facts()
    };
    let ends = [
        slice(
            "web",
            &[
                ("203.0.113.2", "n1", "ready"),
                ("203.0.113.3", "n1", "ready"),
            ],
        ),
        slice("web", &[("fd00:88::2", "n1", "ready")]),
    ];
    let variants = [
        plan([], [], &facts),
        plan(&[web(json!({}))], &ends, &facts),
        plan(
            &[web(json!({"sessionAffinity": "ClientIP"}))],
            &ends,
            &facts,
        ),
        plan(
            &[web(
                json!({"externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["203.0.113.0/24"]}),
            )],
            &ends[..1],
            &facts,
        ),
        plan(&[web(json!({}))], [], &facts),
        plan(
            [],
            [],
            &Facts {
                bridge_passes_rules: false,
                pod_cidrs: Vec::new(),
                ..facts.clone()
            },
        ),
    ];
    apply(&variants[0].ruleset.anew(&table)).await.unwrap();
    let mut before = &variants[0].ruleset;
    for round in 0..2 {
        for variant in variants.iter().chain(variants.iter().rev()) {
            let script = match round {
                0 => variant.ruleset.changes(before, &table),
                _ => variant
                    .ruleset
                    .rebuild(&table.names().await.unwrap().unwrap(), &table),
            };
            apply(&script)
                .await
                .unwrap_or_else(|error| panic!("{error}\n{script}"));
            let changed = table.standing().await.unwrap().unwrap();
            // What is there is the same as if it had been written at once.
            apply(&variant.ruleset.anew(&table)).await.unwrap();
            let anew = table.standing().await.unwrap().unwrap();
            assert_eq!(sorted(&changed), sorted(&anew));
            before = &variant.ruleset;
        }
    }
    table.remove().await.unwrap();
    table.remove().await.unwrap();
    assert_eq!(table.standing().await.unwrap(), None);
}

/// The kernel lists chains in the order in which they were made. The rules of a chain stay in theirs.
fn sorted(standing: &Standing) -> Vec<Value> {
    let mut all = standing.0.clone();
    let place = |one: &Value| {
        let (kind, what) = one.as_object().unwrap().iter().next().unwrap();
        let name = what
            .get("chain")
            .filter(|_| kind == "rule")
            .unwrap_or(&what["name"]);
        (kind.clone(), name.to_string())
    };
    all.sort_by_key(place);
    for one in &mut all {
        for kind in ["set", "map"] {
            if let Some(elements) = one[kind]["elem"].as_array_mut() {
                elements.sort_by_key(ToString::to_string);
            }
        }
    }
    all
}

/// A slice of endpoints that are ready, each with its hints.
fn hinted(service: &str, endpoints: &[(&str, Value)]) -> Slice {
    let endpoint = |(ip, hints): &(&str, Value)| json!({"addresses": [ip], "nodeName": "n1", "conditions": {"ready": true}, "hints": hints});
    let object = json!({
        "metadata": {"name": "x", "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": 8080}],
    });
    Slice::parse(&serde_json::from_value(object).unwrap()).expect("a slice")
}

#[test]
fn hints_lead_to_what_is_near_and_cut_nobody_off() {
    let web = service("web", json!({}));
    let node = |zone: &str, node: &str| json!({"forZones": [{"name": zone}], "forNodes": [{"name": node}]});
    let zone = |name: &str| json!({"forZones": [{"name": name}]});
    let (a, b, c) = ("10.88.0.2", "10.88.0.3", "10.88.0.4");
    let used = |facts: &Facts, ends: &[(&str, Value)]| -> Vec<&'static str> {
        let services = std::slice::from_ref(&web);
        let plan = plan(services, &[hinted("web", ends)], facts);
        let rules = chain(&plan, "cluster4", &only(&web)).join(" ");
        let all = [a, b, c].into_iter();
        all.filter(|ip| rules.contains(&format!("{ip} ")) || rules.contains(&format!("{ip}:")))
            .collect()
    };
    let own = facts();
    let mixed = [
        (a, node("east", "n1")),
        (b, node("east", "n2")),
        (c, node("west", "n3")),
    ];
    assert_eq!(used(&own, &mixed), [a], "those of this node");
    assert_eq!(used(&own, &mixed[1..]), [b], "else those of its zone");
    assert_eq!(used(&own, &mixed[2..]), [c], "else all");
    let zones = [(a, zone("east")), (b, zone("west")), (c, zone("east"))];
    assert_eq!(used(&own, &zones), [a, c]);
    let nowhere = Facts {
        zone: None,
        ..facts()
    };
    assert_eq!(used(&nowhere, &zones), [a, b, c], "a node without a zone");
    let some = [(a, zone("east")), (b, Value::Null), (c, zone("west"))];
    assert_eq!(used(&own, &some), [a, b, c], "one without hints is for all");
    // Traffic that stays on this node by policy stays there, whatever hints say.
    let local = service("web", json!({"internalTrafficPolicy": "Local"}));
    let ends = [hinted("web", &[(a, zone("west")), (b, zone("east"))])];
    let plan = plan(std::slice::from_ref(&local), &ends, &own);
    let rules = chain(&plan, "cluster4", &only(&local)).join(" ");
    assert!(rules.contains(a) && rules.contains(b), "{rules}");
}
