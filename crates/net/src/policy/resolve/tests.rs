//! NetworkPolicies by what they let pass, as the reference defines them.

use std::net::SocketAddr;

use berth_rules::network_floor;
use serde_json::{Value, json};

use super::*;
use crate::policy::judge::{Judge, is_tighter};

const NODE: &str = "192.0.2.2";
const DNS: &str = "10.96.0.10";

/// Namespaces `a` and `b`, this node's pods `a/web` (.2), `a/db` (.3), `b/web` (.4), and `b/far` of another node.
pub(crate) struct World {
    pods: BTreeMap<Key, Pod>,
    attached: BTreeMap<String, Pod>,
    namespaces: BTreeMap<Key, Labels>,
    policies: BTreeMap<Key, Policy>,
    pub(crate) links: Vec<Link>,
    floors: Floors,
    pub(crate) facts: Facts,
}

fn key(namespace: &str, name: &str) -> Key {
    Key {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            pods: BTreeMap::new(),
            attached: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            policies: BTreeMap::new(),
            links: Vec::new(),
            floors: Floors::new(),
            facts: Facts {
                node: "n1".to_owned(),
                bridge: "br".to_owned(),
                pod_cidrs: vec!["10.88.0.0/16".parse().unwrap()],
                dns: vec![ip(DNS)],
                node_port: 10250,
                own: [NODE, "10.88.0.1", DNS].map(ip).into(),
                bridge_passes_rules: true,
            },
        };
        for (name, team) in [("a", "red"), ("b", "blue"), ("kube-system", "none")] {
            let labels = [("team", team), ("kubernetes.io/metadata.name", name)];
            let labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned()));
            world.namespaces.insert(key("", name), labels.into());
        }
        world.pod("a", "web", "n1", "10.88.0.2", json!({}));
        world.pod("a", "db", "n1", "10.88.0.3", json!({}));
        world.pod("b", "web", "n1", "10.88.0.4", json!({}));
        world.pod("b", "far", "n2", "10.89.0.5", json!({}));
        world
    }

    /// A pod with the label `app: NAME`, and a port 8080 named `http`.
    fn pod(&mut self, namespace: &str, name: &str, node: &str, address: &str, more: Value) {
        let mut spec = json!({"nodeName": node, "containers": [{"name": "c", "ports":
            [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 5353, "protocol": "UDP"}]}]});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let uid = format!("{namespace}-{name}");
        let object = json!({"metadata": {"namespace": namespace, "name": name, "uid": uid, "labels": {"app": name}},
            "spec": spec, "status": {"podIP": address, "podIPs": [{"ip": address}]}});
        let pod = Pod::parse(&serde_json::from_value(object).unwrap()).unwrap();
        if node == "n1" && !pod.host_network {
            self.links.push(Link {
                name: format!("veth{}", self.links.len()),
                uid,
                mac: "02:00:00:00:00:01".to_owned(),
                addresses: vec![ip(address)],
            });
        }
        self.pods.insert(key(namespace, name), pod);
    }

    fn policy(&mut self, namespace: &str, name: &str, spec: Value) {
        let object = json!({"metadata": {"namespace": namespace, "name": name, "uid": format!("u-{namespace}-{name}"),
            "resourceVersion": "7"}, "spec": spec});
        let policy = Policy::parse(&serde_json::from_value(object).unwrap()).unwrap();
        self.policies.insert(key(namespace, name), policy);
    }

    fn floor(&mut self, class: &str, level: &str, except: Option<&str>) {
        let mut annotations = BTreeMap::new();
        annotations.insert(
            network_floor::DEFAULT_NETWORK_POLICY.to_owned(),
            level.to_owned(),
        );
        if let Some(except) = except {
            annotations.insert(network_floor::EXCEPT.to_owned(), except.to_owned());
        }
        let floor = network_floor::parse(Some(&annotations)).map_err(|error| error.to_string());
        self.floors.insert(class.to_owned(), floor);
    }

    /// Policies and pods for every kind of rule there is.
    pub(crate) fn fill(&mut self) {
        self.floor("deny", "deny-all", Some("dns,node,203.0.113.0/24"));
        self.floor("allow", "allow", None);
        let classes = ["deny", "allow"].into_iter().enumerate();
        for (i, class) in classes {
            let spec = json!({"runtimeClassName": class});
            self.pod("a", class, "n1", &format!("10.88.0.{}", 20 + i), spec);
        }
        let blocks = json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.1.0/24"]}});
        self.policy("a", "p", json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}, {"port": 443, "endPort": 500}]},
                {"from": [blocks, {"ipBlock": {"cidr": "2001:db8::/32"}}], "ports": [{"port": "http"}]}, {"ports": [{"protocol": "SCTP"}]}],
            "egress": [{"to": [{"namespaceSelector": {}}]}, {"ports": [{"port": "dns", "protocol": "UDP"}]}]}));
        self.policy(
            "a",
            "q",
            json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}),
        );
        self.policy(
            "b",
            "deny",
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        );
    }

    /// The API has the pod no more.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.pods.retain(|_, pod| pod.uid != uid);
    }

    pub(crate) fn resolve(&self) -> Decisions {
        resolve(&Inputs {
            pods: &self.pods,
            attached: &self.attached,
            namespaces: &self.namespaces,
            policies: &self.policies,
            links: &self.links,
            floors: Some(&self.floors),
            facts: &self.facts,
        })
    }

    fn allows(&self, protocol: Protocol, from: &str, to: &str) -> bool {
        let decisions = self.resolve();
        let here = self.links.iter();
        let here = here.flat_map(|l| l.addresses.iter().map(move |ip| (*ip, l.uid.as_str())));
        let from = SocketAddr::new(ip(from), 40_000);
        Judge::new(&decisions, &self.facts, here).allows(Some(protocol), from, to.parse().unwrap())
    }

    /// By TCP.
    fn tcp(&self, from: &str, to: &str) -> bool {
        self.allows(Protocol::Tcp, from, to)
    }
}

const WEB: &str = "10.88.0.2";
const DB: &str = "10.88.0.3";
const OTHER: &str = "10.88.0.4";
const FAR: &str = "10.89.0.5";
const OUTSIDE: &str = "198.51.100.7";

/// Who of all these reaches `a/db`, at this port.
fn reach_db(world: &World, port: u16) -> Vec<&'static str> {
    let all = [WEB, OTHER, FAR, OUTSIDE, NODE];
    let to = format!("{DB}:{port}");
    all.into_iter()
        .filter(|from| world.tcp(from, &to))
        .collect()
}

/// A policy for `a/db` with these ingress rules.
fn ingress(rules: Value) -> World {
    let mut world = World::new();
    let spec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"], "ingress": rules});
    world.policy("a", "p", spec);
    world
}

/// What `a/web` reaches with these egress rules.
fn egress(rules: Value) -> World {
    let mut world = World::new();
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": rules});
    world.policy("a", "p", spec);
    world
}

#[test]
fn without_a_policy_everything_passes() {
    let world = World::new();
    assert_eq!(reach_db(&world, 80), [WEB, OTHER, FAR, OUTSIDE, NODE]);
    assert!(world.tcp(WEB, "169.254.169.254:80"));
}

#[test]
fn an_address_that_two_pods_have_is_nobodys() {
    let mut world = ingress(json!([{"from": [{"namespaceSelector": {}}]}]));
    world.pod("b", "twin", "n1", WEB, json!({}));
    let decisions = world.resolve();
    for uid in ["a-web", "b-twin"] {
        assert!(!decisions.subjects.contains_key(uid), "{uid}");
        assert!(decisions.closed[uid].contains(WEB), "{uid}");
    }
    assert!(!world.tcp(WEB, &format!("{OTHER}:80")));
    assert!(!world.tcp(OTHER, &format!("{WEB}:80")));
    // Nor by the labels of either.
    assert_eq!(reach_db(&world, 80), [OTHER, FAR, NODE]);
    // Two ports of one pod are one pod's.
    let mut world = World::new();
    let mut again = world.links[0].clone();
    again.name = "veth9".to_owned();
    world.links.push(again);
    assert!(world.tcp(WEB, &format!("{OTHER}:80")));
}

#[test]
fn who_may_come_in() {
    let everybody = vec![WEB, OTHER, FAR, OUTSIDE, NODE];
    // This machine reaches its pods whatever policies say.
    for (rules, want) in [
        (json!([]), vec![NODE]),
        (json!([{}]), everybody.clone()),
        (json!([{"from": [], "ports": []}]), everybody.clone()),
        (json!([{"from": [{"podSelector": {}}]}]), vec![WEB, NODE]),
        (
            json!([{"from": [{"podSelector": {"matchLabels": {"app": "far"}}}]}]),
            vec![NODE],
        ),
        (
            json!([{"from": [{"namespaceSelector": {}}]}]),
            vec![WEB, OTHER, FAR, NODE],
        ),
        (
            json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]}]),
            vec![OTHER, FAR, NODE],
        ),
        // Both in one peer: pods of that name in such namespaces.
        (
            json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}, "podSelector": {"matchLabels": {"app": "web"}}}]}]),
            vec![OTHER, NODE],
        ),
        // As two peers: either.
        (
            json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}}, {"podSelector": {"matchLabels": {"app": "web"}}}]}]),
            vec![WEB, OTHER, FAR, NODE],
        ),
        (
            json!([{"from": [{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["red"]}]}}]}]),
            vec![OTHER, FAR, NODE],
        ),
        (
            json!([{"from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}]),
            vec![OUTSIDE, NODE],
        ),
        (
            json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.88.0.0/16"]}}]}]),
            vec![FAR, OUTSIDE, NODE],
        ),
        (
            json!([{"from": [{"ipBlock": {"cidr": "198.51.100.0/24", "except": ["198.51.100.7/32"]}}]}]),
            vec![NODE],
        ),
        // What isn't understood allows nothing.
        (
            json!([{"from": [{"ipBlock": {"cidr": "everywhere"}}]}]),
            vec![NODE],
        ),
        (
            json!([{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["x"]}}]}]),
            vec![NODE],
        ),
        (json!([{"from": [{}]}]), vec![NODE]),
        (
            json!([{"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Like"}]}}]}]),
            vec![NODE],
        ),
        (json!([{"ports": [{"port": 0}]}]), vec![NODE]),
    ] {
        assert_eq!(reach_db(&ingress(rules.clone()), 80), want, "{rules}");
    }
}

#[test]
fn ports_and_protocols() {
    let tcp = |rules: Value, port: u16| ingress(rules).tcp(WEB, &format!("{DB}:{port}"));
    let udp = |rules: Value, port: u16| {
        ingress(rules).allows(Protocol::Udp, WEB, &format!("{DB}:{port}"))
    };
    let sctp = |rules: Value| ingress(rules).allows(Protocol::Sctp, WEB, &format!("{DB}:80"));
    let rule = |port: Value| json!([{"ports": [port]}]);
    let range = rule(json!({"port": 100, "endPort": 200}));
    for (port, want) in [
        (99, false),
        (100, true),
        (150, true),
        (200, true),
        (201, false),
    ] {
        assert_eq!(tcp(range.clone(), port), want, "{port}");
    }
    assert!(tcp(rule(json!({"port": 80})), 80));
    assert!(!udp(rule(json!({"port": 80})), 80));
    assert!(udp(rule(json!({"protocol": "UDP"})), 9));
    assert!(!tcp(rule(json!({"protocol": "UDP"})), 9));
    assert!(sctp(rule(json!({"protocol": "SCTP", "port": 80}))));
    assert!(!sctp(rule(json!({"port": 80}))));
    assert!(sctp(json!([{}])));
    // A name is the port of the pod that is reached, of that protocol.
    assert!(tcp(rule(json!({"port": "http"})), 8080));
    assert!(!tcp(rule(json!({"port": "http"})), 80));
    assert!(!tcp(rule(json!({"port": "dns"})), 5353));
    assert!(udp(rule(json!({"port": "dns", "protocol": "UDP"})), 5353));
    assert!(!tcp(rule(json!({"port": "none"})), 8080));
    // Each rule is for its own peers.
    let rules =
        json!([{"from": [{"podSelector": {}}], "ports": [{"port": 1}]}, {"ports": [{"port": 2}]}]);
    let world = ingress(rules);
    assert!(world.tcp(WEB, &format!("{DB}:1")) && !world.tcp(OTHER, &format!("{DB}:1")));
    assert!(world.tcp(OTHER, &format!("{DB}:2")));
}

#[test]
fn where_a_pod_may_go() {
    let reached = |rules: Value| -> Vec<&str> {
        let world = egress(rules);
        let all = [
            "10.88.0.3:8080",
            "10.88.0.4:8080",
            "10.89.0.5:8080",
            "198.51.100.7:8080",
            "192.0.2.2:8080",
        ];
        all.into_iter().filter(|to| world.tcp(WEB, to)).collect()
    };
    let (db, other, far) = ("10.88.0.3:8080", "10.88.0.4:8080", "10.89.0.5:8080");
    let (outside, node) = ("198.51.100.7:8080", "192.0.2.2:8080");
    assert_eq!(reached(json!([])), [""; 0]);
    assert_eq!(reached(json!([{}])), [db, other, far, outside, node]);
    assert_eq!(reached(json!([{"to": [{"podSelector": {}}]}])), [db]);
    assert_eq!(
        reached(json!([{"to": [{"namespaceSelector": {}}]}])),
        [db, other, far]
    );
    // The node is an address like others.
    assert_eq!(
        reached(json!([{"to": [{"ipBlock": {"cidr": "192.0.2.2/32"}}]}])),
        [node]
    );
    // A port's name is that of each pod that is reached, also where the peer is everybody or a network.
    let http = json!([{"port": "http"}]);
    assert_eq!(reached(json!([{"ports": http}])), [db, other, far]);
    assert_eq!(
        reached(json!([{"to": [{"podSelector": {}}], "ports": http}])),
        [db]
    );
    assert_eq!(
        reached(json!([{"to": [{"ipBlock": {"cidr": "10.88.0.4/30"}}], "ports": http}])),
        [other]
    );
    // Others are not isolated by it.
    let world = egress(json!([]));
    assert!(world.tcp(DB, "198.51.100.7:80") && world.tcp(OTHER, "10.88.0.2:80"));
}

#[test]
fn the_dns_server_is_selected_as_stock_clusters_pods_of_it() {
    let dns = format!("{DNS}:53");
    let selects = |pods: &str, namespace: &str| {
        json!([{"to": [{"podSelector": {"matchLabels": {"k8s-app": pods}},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]}])
    };
    let good = selects("kube-dns", "kube-system");
    for (rules, want) in [
        (json!([]), false),
        (good.clone(), true),
        (selects("other", "kube-system"), false),
        (selects("kube-dns", "a"), false),
        (json!([{"to": [{"namespaceSelector": {}}]}]), true),
        (json!([{"to": [{"podSelector": {}}]}]), false),
        (json!([{"ports": [{"port": 53, "protocol": "UDP"}]}]), true),
        (
            json!([{"to": [{"namespaceSelector": {}}], "ports": [{"port": "dns", "protocol": "UDP"}]}]),
            true,
        ),
        (
            json!([{"to": [{"namespaceSelector": {}}], "ports": [{"port": 53}]}]),
            false,
        ),
        (
            json!([{"to": [{"ipBlock": {"cidr": "10.96.0.10/32"}}]}]),
            true,
        ),
    ] {
        let allowed = egress(rules.clone()).allows(Protocol::Udp, WEB, &dns);
        assert_eq!(allowed, want, "{rules}");
    }
    // It is no way to whatever else listens at that address of this machine.
    let world = egress(good.clone());
    assert!(world.tcp(WEB, &dns) && !world.tcp(WEB, &format!("{DNS}:22")));
    // Where another server is the cluster's, its pods are selected like others.
    let mut world = egress(good);
    world.facts.dns.clear();
    assert!(!world.allows(Protocol::Udp, WEB, &dns));
}

#[test]
fn policies_add_up_and_types_have_defaults() {
    let mut world = ingress(json!([{"ports": [{"port": 1}]}]));
    world.policy(
        "a",
        "q",
        json!({"podSelector": {}, "ingress": [{"ports": [{"port": 2}]}]}),
    );
    for (port, want) in [(1, true), (2, true), (3, false)] {
        assert_eq!(world.tcp(OTHER, &format!("{DB}:{port}")), want, "{port}");
    }
    assert!(!world.tcp(OTHER, &format!("{WEB}:1")));
    // The second one says nothing of egress, so it isolates nobody from it; one with rules for it does.
    assert!(world.tcp(WEB, "198.51.100.7:80"));
    world.policy(
        "a",
        "r",
        json!({"podSelector": {}, "egress": [{"ports": [{"port": 443}]}]}),
    );
    assert!(!world.tcp(WEB, "198.51.100.7:80") && world.tcp(WEB, "198.51.100.7:443"));
    // Policies of one namespace are nothing to another's pods.
    assert!(world.tcp(FAR, "10.88.0.4:80"));
    // Who can't be told whom it is meant for isolates all of its namespace.
    let mut world = World::new();
    world.policy("a", "p", json!({"podSelector": {"matchExpressions": [{"key": "x", "operator": "?"}]}, "policyTypes": ["Ingress"]}));
    assert_eq!(reach_db(&world, 80), [NODE]);
    let mut world = World::new();
    world.policy(
        "a",
        "p",
        json!({"podSelector": {}, "policyTypes": ["Sideways"]}),
    );
    assert!(!world.tcp(WEB, "198.51.100.7:80") && !world.tcp(OTHER, "10.88.0.3:80"));
}

#[test]
fn both_ends_have_to_agree_and_a_pod_reaches_itself() {
    let mut world = egress(json!([{"to": [{"podSelector": {}}]}]));
    assert!(world.tcp(WEB, "10.88.0.3:80"));
    world.policy(
        "a",
        "deny",
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"]}),
    );
    assert!(!world.tcp(WEB, "10.88.0.3:80"));
    let mut world = World::new();
    world.policy(
        "a",
        "all",
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
    );
    assert!(world.tcp(WEB, "10.88.0.2:80"));
    assert!(!world.tcp(WEB, "10.88.0.3:80"));
}

#[test]
fn addresses_are_whose_they_really_are() {
    let only_a = || ingress(json!([{"from": [{"podSelector": {}}]}]));
    let mut world = only_a();
    // A pod that is over, or of the host's network, is no peer.
    world.pod("a", "host", "n1", NODE, json!({"hostNetwork": true}));
    assert!(!world.resolve().subjects.contains_key("a-host"));
    // The status of a pod here says nothing; its port does.
    world.pods.get_mut(&key("a", "web")).unwrap().addresses = vec![ip(OTHER)];
    assert_eq!(reach_db(&world, 80), [WEB, NODE]);
    // What another node says of addresses that are here counts for nothing.
    let mut world = only_a();
    world.pod("a", "liar", "n2", OTHER, json!({}));
    world.pod("a", "gateway", "n2", "10.88.0.1", json!({}));
    world.pod("a", "honest", "n2", FAR, json!({}));
    assert_eq!(reach_db(&world, 80), [WEB, FAR, NODE]);
    // A pod that nobody knows is closed, in both directions; this machine reaches it.
    let mut world = World::new();
    world.pods.remove(&key("a", "db"));
    assert_eq!(reach_db(&world, 80), [NODE]);
    assert!(!world.tcp(DB, "198.51.100.7:80"));
    // One that was started here is known, whatever the API has.
    let mut known = World::new();
    let pod = known.pods.remove(&key("a", "db")).unwrap();
    known.attached.insert("a-db".to_owned(), pod);
    assert!(known.tcp(DB, "198.51.100.7:80"));
}

#[test]
fn a_floor_is_below_policies() {
    let allow_all = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]});
    let world = |level: &str, except: Option<&str>| {
        let mut world = World::new();
        world.floor("boxed", level, except);
        world.pod(
            "a",
            "box",
            "n1",
            "10.88.0.9",
            json!({"runtimeClassName": "boxed"}),
        );
        world.policy("a", "all", allow_all.clone());
        world
    };
    const BOX: &str = "10.88.0.9";
    let reached = |world: &World| -> Vec<&str> {
        let all = [
            "10.88.0.3:80",
            "198.51.100.7:80",
            "192.0.2.2:80",
            "192.0.2.2:10250",
            "10.88.0.1:10250",
            "169.254.169.254:80",
            "10.96.0.10:53",
        ];
        all.into_iter().filter(|to| world.tcp(BOX, to)).collect()
    };
    let open = world("allow", None);
    assert_eq!(
        reached(&open),
        [
            "10.88.0.3:80",
            "198.51.100.7:80",
            "192.0.2.2:80",
            "10.96.0.10:53"
        ]
    );
    assert!(open.tcp(OTHER, "10.88.0.9:80"));
    let open = world("allow", Some("169.254.169.254/32,node"));
    assert_eq!(reached(&open).len(), 7);
    // No policy opens it: those of its namespace are written by whom it is meant against.
    let egress = world("deny-egress", None);
    assert_eq!(reached(&egress), [""; 0]);
    assert!(egress.tcp(OTHER, "10.88.0.9:80"));
    let egress = world("deny-egress", Some("dns, 198.51.100.0/24"));
    assert_eq!(reached(&egress), ["198.51.100.7:80", "10.96.0.10:53"]);
    let all = world("deny-all", None);
    assert_eq!(reached(&all), [""; 0]);
    assert!(!all.tcp(OTHER, "10.88.0.9:80"));
    // Probes come from the node.
    assert!(all.tcp(NODE, "10.88.0.9:80"));
    let all = world("deny-all", Some("10.88.0.4/32,node"));
    assert!(all.tcp(OTHER, "10.88.0.9:80") && all.tcp(BOX, "10.88.0.4:80"));
    assert_eq!(
        reached(&all),
        [
            "192.0.2.2:80",
            "192.0.2.2:10250",
            "10.88.0.1:10250",
            "10.96.0.10:53"
        ]
    );
    // And a policy may deny what the floor doesn't.
    let mut both = world("allow", None);
    both.policies.clear();
    both.policy(
        "a",
        "none",
        json!({"podSelector": {}, "policyTypes": ["Egress"]}),
    );
    assert_eq!(reached(&both), [""; 0]);
}

#[test]
fn a_class_that_is_not_understood_closes_its_pods_and_no_others() {
    let mut world = World::new();
    world.floor("odd", "open", None);
    world.pod(
        "a",
        "odd",
        "n1",
        "10.88.0.9",
        json!({"runtimeClassName": "odd"}),
    );
    world.pod(
        "a",
        "lost",
        "n1",
        "10.88.0.10",
        json!({"runtimeClassName": "gone"}),
    );
    let decisions = world.resolve();
    assert!(
        decisions.closed["a-odd"].contains("must be deny-egress"),
        "{decisions:?}"
    );
    assert!(decisions.closed["a-lost"].contains("gone"), "{decisions:?}");
    assert_eq!(decisions.subjects.len(), 3);
    assert!(!world.tcp("10.88.0.9", "198.51.100.7:80") && !world.tcp(WEB, "10.88.0.10:80"));
    assert!(world.tcp(WEB, "10.88.0.3:80"));
}

#[test]
fn who_spends_too_much_is_closed_and_nobody_else() {
    let port = |n: usize| json!({"port": n + 1});
    let many_ports: Vec<Value> = (0..POLICY_BUDGET).map(port).collect();
    let values: Vec<String> = (0..POLICY_BUDGET).map(|n| format!("v{n}")).collect();
    let everybody = json!({"namespaceSelector": {}});
    let of_many = json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": &values[..2000]}]}});
    let all = [
        json!({"podSelector": {}, "ingress": [{"ports": many_ports}]}),
        json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": values}]}}),
    ];
    for spec in all {
        let mut world = World::new();
        world.policy("a", "p", spec);
        closed_are_of_a(&world);
    }
    // Many policies for one pod, each as small as can be.
    let mut world = World::new();
    for i in 0..=PER_POD {
        world.policy("a", &format!("p{i}"), json!({"podSelector": {}}));
    }
    closed_are_of_a(&world);
    // Peers that cost little to name, and much to find.
    let mut world = World::new();
    for i in 0..1500 {
        let address = format!("10.90.{}.{}", i / 250, i % 250 + 1);
        world.pod("b", &format!("x{i}"), "n2", &address, json!({}));
    }
    let rules: Vec<Value> = (0..10).map(|_| json!({"from": [everybody]})).collect();
    world.policy("a", "p", json!({"podSelector": {}, "ingress": rules}));
    closed_are_of_a(&world);
    world.policies.clear();
    let from = json!([{"namespaceSelector": {}, "podSelector": of_many["podSelector"]}]);
    world.policy(
        "a",
        "p",
        json!({"podSelector": {}, "ingress": [{"from": from}]}),
    );
    closed_are_of_a(&world);
}

fn closed_are_of_a(world: &World) {
    let decisions = world.resolve();
    let closed: Vec<&str> = decisions.closed.keys().map(String::as_str).collect();
    assert_eq!(closed, ["a-db", "a-web"]);
    assert!(
        decisions.closed["a-db"].contains("cost too much"),
        "{:?}",
        decisions.closed
    );
    assert!(decisions.policies.is_empty());
    assert!(!world.tcp(WEB, "198.51.100.7:80") && !world.tcp(FAR, "10.88.0.3:80"));
    assert!(world.tcp(FAR, "10.88.0.4:80"));
}

#[test]
fn what_becomes_tighter() {
    let open = World::new().resolve();
    let some = ingress(json!([{"from": [{"namespaceSelector": {}}]}]));
    let (some, none) = (some.resolve(), ingress(json!([])).resolve());
    assert!(!is_tighter(&open, &open) && !is_tighter(&some, &some));
    assert!(is_tighter(&open, &some) && is_tighter(&some, &none));
    // A pod more is wider, one less is not.
    let mut more = ingress(json!([{"from": [{"namespaceSelector": {}}]}]));
    more.pod("b", "new", "n2", "10.89.0.6", json!({}));
    let more = more.resolve();
    assert!(!is_tighter(&some, &more) && is_tighter(&more, &some));
    let mut closed = World::new();
    closed.floor("odd", "open", None);
    closed.pods.get_mut(&key("a", "web")).unwrap().class = Some("odd".to_owned());
    assert!(is_tighter(&open, &closed.resolve()));
}
