//! NetworkPolicies and the floors of classes hold for pods of every handler, before their first packet and whatever is restarted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_testkit::wait_for;
use serde_json::Value;

use crate::cluster::{Cluster, FOREVER, IMAGE, LIMIT, class, path, words};
use crate::machines::{self, Machines};

/// Answers every request.
const SERVE: &str = "httpd -p 8080 -h /etc; httpd -p 8081 -h /etc; ";
/// Asks all targets at once; a target that answers by HTTP is reached.
const ASK: &str = "ask() { if printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc $4 -w 5 $2 $3 2>/dev/null | grep -q HTTP; then echo \"$1 yes\"; \
                   else echo \"$1 no\"; fi; }; ";

/// A pod with labels, on a handler.
pub(crate) struct Wanted<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) labels: &'a str,
    pub(crate) class: Option<&'a str>,
    pub(crate) command: &'a str,
    /// More of the container.
    pub(crate) more: &'a str,
}

pub(crate) fn manifest(pod: &Wanted<'_>) -> String {
    let Wanted {
        namespace,
        name,
        labels,
        class,
        command,
        more,
    } = pod;
    let class = class.map_or(String::new(), |c| format!("  runtimeClassName: {c}\n"));
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\nspec:\n{class}  \
         restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: {IMAGE}\n    \
         ports: [{{name: http, containerPort: 8080}}]\n    command: [sh, -c, {command:?}]\n{more}---\n"
    )
}

pub(crate) fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )
}

pub(crate) fn text(cluster: &Cluster, what: &[&str], at: &str) -> String {
    let value = cluster.json(what);
    let found = value.pointer(at).and_then(Value::as_str);
    found.unwrap_or_default().to_owned()
}

pub(crate) fn address(cluster: &Cluster, namespace: &str, pod: &str) -> String {
    text(cluster, &["-n", namespace, "pod", pod], "/status/podIP")
}

/// Which of these targets (name, address, port, options of nc) a pod reaches.
pub(crate) fn reached(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    targets: &[(&str, &str, u16, &str)],
) -> BTreeSet<String> {
    let asked = targets.iter();
    let asked: Vec<String> = asked
        .map(|(name, ip, port, options)| format!("ask {name} {ip} {port} '{options}' & "))
        .collect();
    let script = format!("{ASK}{}wait", asked.concat());
    let output = cluster.try_kubectl(&["-n", namespace, "exec", pod, "--", "sh", "-c", &script]);
    let told = String::from_utf8_lossy(&output.stdout);
    let answers: BTreeMap<&str, &str> = told
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    assert_eq!(answers.len(), targets.len(), "{pod}: {}", words(&output));
    let yes = answers.into_iter().filter(|(_, answer)| *answer == "yes");
    yes.map(|(name, _)| name.to_owned()).collect()
}

pub(crate) fn wait_reached(
    cluster: &Cluster,
    (namespace, pod): (&str, &str),
    targets: &[(&str, &str, u16, &str)],
    want: &[&str],
) {
    let want: BTreeSet<String> = want.iter().map(|name| (*name).to_owned()).collect();
    wait_for(&format!("{pod} to reach {want:?}"), LIMIT, || {
        let found = reached(cluster, namespace, pod, targets);
        match found == want {
            true => Ok(()),
            false => Err(format!("it reaches {found:?}\n{}", listed(cluster))),
        }
    });
}

pub(crate) fn bridge(cluster: &Cluster) -> String {
    let marker = std::fs::read_to_string(cluster.runtime_data().join("berth.json"));
    let marker = marker.expect("the marker");
    let marker: Value = serde_json::from_str(&marker).expect("JSON");
    marker["bridge"].as_str().expect("a bridge").to_owned()
}

pub(crate) fn nft(arguments: &[&str]) -> String {
    let mut command = Command::new("nft");
    command.env("PATH", path()).args(arguments);
    words(&command.output().expect("nft runs"))
}

pub(crate) fn listed(cluster: &Cluster) -> String {
    let table = format!("berth-policy-{}", bridge(cluster));
    ["inet", "bridge"]
        .map(|family| nft(&["list", "table", family, &table]))
        .concat()
}

/// A server of this machine that remembers who came.
pub(crate) struct Door {
    at: SocketAddr,
    came: Arc<Mutex<Vec<IpAddr>>>,
}

impl Door {
    pub(crate) fn open(ip: &str) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a listener");
        let at = listener.local_addr().expect("its address");
        let came = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&came);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                if let Ok(peer) = stream.peer_addr() {
                    seen.lock().expect("the list").push(peer.ip());
                }
                let _gone = stream.set_read_timeout(Some(Duration::from_millis(200)));
                let _gone = stream.read(&mut [0; 64]);
                let _gone = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
            }
        });
        Self { at, came }
    }

    pub(crate) fn port(&self) -> u16 {
        self.at.port()
    }

    /// How often this address came.
    pub(crate) fn count(&self, ip: &str) -> usize {
        let ip: IpAddr = ip.parse().expect("an address");
        let came = self.came.lock().expect("the list");
        came.iter().filter(|one| **one == ip).count()
    }
}

pub(crate) fn pod<'a>(
    name: &'a str,
    labels: &'a str,
    class: Option<&'a str>,
    command: &'a str,
) -> Wanted<'a> {
    Wanted {
        namespace: "default",
        name,
        labels,
        class,
        command,
        more: "",
    }
}

/// The pods' kinds, and their classes: each target is tried from and to each of them.
const HANDLERS: [(&str, Option<&str>); 3] = [
    ("plain", None),
    ("boxed", Some("gvisor")),
    ("machine", Some("machine")),
];

/// The names of these pods, one for each kind.
fn of_each_kind(role: &str) -> [String; 3] {
    HANDLERS.map(|(kind, _)| format!("{role}-{kind}"))
}

#[test]
fn policies_hold_whatever_runs_the_pods() {
    let machines = Machines::new();
    let mut cluster = machines.cluster();
    let node = text(&cluster, &["node", "n1"], "/status/addresses/0/address");
    let door = Door::open(&node);
    machines.connect_at_boot(door.at);
    cluster.apply(&class("gvisor", "runsc"));
    cluster.apply(&class("machine", machines::HANDLER));
    cluster.apply(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {team: blue}}\n---\n",
    );
    // The policies are there before the pods: those that may send nothing never have.
    cluster.apply(&policy(
        "default",
        "jail",
        "{podSelector: {matchLabels: {role: jailed}}, policyTypes: [Egress]}",
    ));
    let at_once = format!(
        "i=0; while [ $i -lt 6 ]; do nc -w 1 {node} {} </dev/null; i=$((i+1)); done; echo done",
        door.port()
    );
    let serve = format!("{SERVE}{FOREVER}");
    let mut all = String::new();
    for (kind, class) in HANDLERS {
        for i in 0..2 {
            let name = format!("rush-{kind}-{i}");
            all += &manifest(&pod(&name, "role: jailed", class, &at_once));
        }
        let [server, friend, jailed] =
            ["server", "friend", "jailed"].map(|name| format!("{name}-{kind}"));
        all += &manifest(&pod(&server, "app: server", class, &serve));
        all += &manifest(&pod(&friend, "role: friend", class, FOREVER));
        all += &manifest(&pod(&jailed, "role: jailed", class, &serve));
    }
    all += &manifest(&pod("free", "role: none", None, &at_once));
    all += &manifest(&pod("outsider", "role: none", None, FOREVER));
    all += &manifest(&Wanted {
        more: "    securityContext: {capabilities: {add: [NET_ADMIN]}}\n",
        ..pod("forger", "role: jailed", None, FOREVER)
    });
    all += &manifest(&Wanted {
        namespace: "other",
        ..pod("elsewhere", "role: none", None, FOREVER)
    });
    let output = cluster.try_apply(&all);
    assert!(output.status.success(), "{}", words(&output));
    // The node enforces them, so nobody is warned.
    assert!(
        !words(&output).contains("not enforced"),
        "{}",
        words(&output)
    );
    for role in ["server", "friend", "jailed"] {
        cluster.wait_ready(&of_each_kind(role).each_ref().map(String::as_str));
    }
    cluster.wait_ready(&["outsider", "forger"]);
    let rushing = HANDLERS.map(|(kind, _)| [0, 1].map(|i| format!("rush-{kind}-{i}")));
    for name in rushing.into_iter().flatten().chain(["free".to_owned()]) {
        cluster.wait_phase(&name, "Succeeded");
        let ip = address(&cluster, "default", &name);
        assert_eq!(
            door.count(&ip) > 0,
            name == "free",
            "{name} came {} times",
            door.count(&ip)
        );
    }
    wait_for("the other namespace's pod", LIMIT, || {
        match address(&cluster, "other", "elsewhere").as_str() {
            "" => Err("no address"),
            _ => Ok(()),
        }
    });
    cluster.kube(&[
        "-n",
        "other",
        "wait",
        "--for=condition=Ready",
        "pod/elsewhere",
        "--timeout=60s",
    ]);

    // A guest sends while it boots: nothing of that arrives before it is known whose it is, and what it may do.
    if let Some(outcomes) = machines.connections_at_boot() {
        let jailed = |name: &str| name.starts_with("jailed-") || name.starts_with("rush-");
        let (of_jailed, of_others): (Vec<_>, Vec<_>) =
            outcomes.iter().partition(|(name, _)| jailed(name));
        assert_eq!(of_jailed.len(), 3, "{outcomes:?}");
        assert!(!of_others.is_empty(), "{outcomes:?}");
        let lost = of_jailed
            .iter()
            .filter(|(_, outcome)| outcome == "timed out");
        assert_eq!(lost.count(), of_jailed.len(), "{outcomes:?}");
    }

    let named = ["server", "jailed"].map(of_each_kind).into_iter().flatten();
    let ips: BTreeMap<String, String> = named
        .chain(["friend-plain".to_owned()])
        .map(|name| (name.clone(), address(&cluster, "default", &name)))
        .collect();
    let kinds = HANDLERS.map(|(kind, _)| kind);
    let servers =
        |port: u16| kinds.map(|kind| (kind, ips[&format!("server-{kind}")].as_str(), port, ""));
    // Nothing isolates the servers yet.
    wait_reached(&cluster, ("default", "outsider"), &servers(8080), &kinds);

    // Ingress: by pods, by a port's name, by namespaces, by addresses.
    let rules = |from: &str| {
        format!(
            "{{podSelector: {{matchLabels: {{app: server}}}}, policyTypes: [Ingress], ingress: [{from}]}}"
        )
    };
    let friends =
        rules("{from: [{podSelector: {matchLabels: {role: friend}}}], ports: [{port: http}]}");
    cluster.apply(&policy("default", "in", &friends));
    wait_reached(&cluster, ("default", "outsider"), &servers(8080), &[]);
    let both = [
        servers(8080),
        servers(8081).map(|(name, ip, port, options)| (again(name), ip, port, options)),
    ]
    .concat();
    for friend in of_each_kind("friend") {
        wait_reached(&cluster, ("default", &friend), &both, &kinds);
    }
    assert_eq!(
        reached(&cluster, "other", "elsewhere", &servers(8080)),
        [].into()
    );
    // By a Service it is the pod that is asked.
    cluster.apply("apiVersion: v1\nkind: Service\nmetadata: {name: servers}\nspec: {selector: {app: server}, ports: [{port: 80, targetPort: 8080}]}\n---\n");
    let service = text(&cluster, &["service", "servers"], "/spec/clusterIP");
    wait_reached(
        &cluster,
        ("default", "friend-plain"),
        &[("service", &service, 80, "")],
        &["service"],
    );
    assert_eq!(
        reached(
            &cluster,
            "default",
            "outsider",
            &[("service", &service, 80, "")]
        ),
        [].into()
    );
    // Who answers by an address that isn't its own reaches nobody: not as a friend, and not out of its jail.
    let friend = ips["friend-plain"].as_str();
    cluster.kube(&[
        "exec",
        "forger",
        "--",
        "ip",
        "addr",
        "add",
        &format!("{friend}/32"),
        "dev",
        "eth0",
    ]);
    let forged = format!("-s {friend}");
    let targets = [
        (
            "server",
            ips["server-plain"].as_str(),
            8080,
            forged.as_str(),
        ),
        ("door", node.as_str(), door.port(), &forged),
    ];
    let before = door.count(friend);
    assert_eq!(reached(&cluster, "default", "forger", &targets), [].into());
    assert_eq!(door.count(friend), before);
    wait_reached(
        &cluster,
        ("default", "friend-plain"),
        &servers(8080),
        &kinds,
    );
    cluster.apply(&policy(
        "default",
        "in",
        &rules("{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}"),
    ));
    wait_reached(&cluster, ("other", "elsewhere"), &servers(8080), &kinds);
    assert_eq!(
        reached(&cluster, "default", "friend-plain", &servers(8080)),
        [].into()
    );
    let block = rules(&format!(
        "{{from: [{{ipBlock: {{cidr: 0.0.0.0/0, except: [{friend}/32]}}}}]}}"
    ));
    cluster.apply(&policy("default", "in", &block));
    wait_reached(&cluster, ("default", "outsider"), &servers(8080), &kinds);
    assert_eq!(
        reached(&cluster, "default", "friend-plain", &servers(8080)),
        [].into()
    );

    // Egress: nothing, not even names, until a policy allows them.
    let lookup = |pod: &str| {
        let output = cluster.try_kubectl(&[
            "exec",
            pod,
            "--",
            "timeout",
            "4",
            "nslookup",
            "kubernetes.default.svc.cluster.local",
        ]);
        output.status.success()
    };
    let out = [
        ("door", node.as_str(), door.port(), ""),
        ("server", ips["server-plain"].as_str(), 8080, ""),
    ];
    for jailed in &of_each_kind("jailed") {
        assert_eq!(
            reached(&cluster, "default", jailed, &out),
            [].into(),
            "{jailed}"
        );
        assert!(!lookup(jailed), "{jailed} asked the DNS server");
        // What others begin with it is answered.
        let own = [("own", ips[jailed].as_str(), 8080, "")];
        wait_reached(&cluster, ("default", "outsider"), &own, &["own"]);
    }
    let dns = "{podSelector: {matchLabels: {role: jailed}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: \
               {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]}]}";
    cluster.apply(&policy("default", "dns", dns));
    for jailed in &of_each_kind("jailed") {
        wait_for("names", LIMIT, || {
            if lookup(jailed) {
                Ok(())
            } else {
                Err(listed(&cluster))
            }
        });
        assert_eq!(
            reached(&cluster, "default", jailed, &out),
            [].into(),
            "{jailed}"
        );
    }
    let to_door = format!(
        "{{podSelector: {{matchLabels: {{role: jailed}}}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {node}/32}}}}], ports: \
         [{{port: {}}}]}}]}}",
        door.port()
    );
    cluster.apply(&policy("default", "door", &to_door));
    for jailed in &of_each_kind("jailed") {
        wait_reached(&cluster, ("default", jailed), &out, &["door"]);
    }
    cluster.kube(&["delete", "networkpolicy", "door", "dns"]);
    for jailed in &of_each_kind("jailed") {
        wait_reached(&cluster, ("default", jailed), &out, &[]);
    }

    // While berth is away the rules stay, and when somebody empties them they come back.
    let knock = format!(
        "while :; do nc -w 1 {node} {} </dev/null; sleep 0.1; done",
        door.port()
    );
    cluster.apply(
        &(manifest(&pod("knocks", "role: none", None, &knock))
            + &manifest(&pod("shut-boxed", "role: jailed", Some("gvisor"), &knock))
            + &manifest(&pod(
                "shut-machine",
                "role: jailed",
                Some("machine"),
                &knock,
            ))),
    );
    cluster.wait_ready(&["knocks", "shut-boxed", "shut-machine"]);
    let [free, boxed, machine] =
        ["knocks", "shut-boxed", "shut-machine"].map(|name| address(&cluster, "default", name));
    let goes_on = |what: &str| {
        let before = door.count(&free);
        wait_for(what, LIMIT, || match door.count(&free) > before + 1 {
            true => Ok(()),
            false => Err(format!("{before} times")),
        });
        assert_eq!(door.count(&boxed) + door.count(&machine), 0, "{what}");
    };
    goes_on("a pod that may to reach the door");
    cluster.kill();
    goes_on("it to be reached without berth");
    cluster.launch();
    goes_on("it to be reached after the restart");
    let table = format!("berth-policy-{}", bridge(&cluster));
    for (family, emptied) in [("inet", "delete"), ("inet", "flush"), ("bridge", "delete")] {
        nft(&[emptied, "table", family, &table]);
        wait_for("the rules to come back", LIMIT, || {
            let found = listed(&cluster);
            let is_whole =
                found.contains("jump torn") && found.contains("@macs") && found.contains(&boxed);
            if is_whole { Ok(()) } else { Err(found) }
        });
    }
    wait_reached(&cluster, ("default", "jailed-plain"), &out, &[]);
    drop(cluster);
    assert!(nft(&["list", "table", "bridge", &table]).contains("No such file"));
    machines.wait_gone();
}

/// A server's name when its second port is meant.
fn again(kind: &str) -> &'static str {
    match kind {
        "plain" => "plain2",
        "boxed" => "boxed2",
        _ => "machine2",
    }
}

/// The classes that have a floor, and their handlers.
const FLOORED: [(&str, &str); 2] = [("boxed", "runsc"), ("machine", machines::HANDLER)];

#[test]
fn a_policy_cuts_connections_and_a_class_has_a_floor() {
    let machines = Machines::new();
    let cluster = machines.cluster();
    let node = text(&cluster, &["node", "n1"], "/status/addresses/0/address");
    let door = Door::open(&node);
    let floor = |level: &str| {
        let all = FLOORED.map(|(name, handler)| {
            let line = format!("  name: {name}\n");
            let annotated = format!(
                "{line}  annotations: {{node.berth.dev/default-network-policy: {level}}}\n"
            );
            class(name, handler).replace(&line, &annotated) + "---\n"
        });
        all.concat()
    };
    // What isn't understood opens nothing, and isn't stored.
    let output = cluster.try_apply(&floor("none"));
    assert!(
        !output.status.success()
            && words(&output).contains("must be deny-egress, deny-all or allow"),
        "{}",
        words(&output)
    );
    cluster.apply(&floor("deny-egress"));
    // Whoever writes policies in the namespace opens nothing that the class denies.
    cluster.apply(&policy(
        "default",
        "open",
        "{podSelector: {}, policyTypes: [Egress, Ingress], egress: [{}], ingress: [{}]}",
    ));
    let listen = format!("(sleep 100000 | nc -l -p 9000 >/tmp/got) & {SERVE}{FOREVER}");
    let talk =
        |ip: &str| format!("(while :; do echo tick; sleep 0.1; done) | nc {ip} 9000; {FOREVER}");
    let serve = format!("{SERVE}{FOREVER}");
    let floored = FLOORED.map(|(name, _)| name);
    let of_each = floored.map(|name| manifest(&pod(name, "app: floored", Some(name), &serve)));
    cluster.apply(&(of_each.concat() + &manifest(&pod("listens", "app: listens", None, &listen))));
    cluster.wait_ready(&floored);
    cluster.wait_ready(&["listens"]);
    let listens = address(&cluster, "default", "listens");
    cluster.apply(&manifest(&pod(
        "talks",
        "app: talks",
        None,
        &talk(&listens),
    )));
    cluster.wait_ready(&["talks"]);
    let heard = || -> usize {
        let output = cluster.try_kubectl(&["exec", "listens", "--", "sh", "-c", "wc -c </tmp/got"]);
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .unwrap_or(0)
    };
    wait_for("the connection to carry something", LIMIT, || {
        match heard() {
            0 => Err("nothing yet"),
            _ => Ok(()),
        }
    });
    cluster.apply(&policy(
        "default",
        "open",
        "{podSelector: {matchLabels: {app: listens}}, policyTypes: [Ingress]}",
    ));
    wait_for("the connection to be cut", LIMIT, || {
        let before = heard();
        std::thread::sleep(Duration::from_millis(1500));
        match heard() == before {
            true => Ok(()),
            false => Err(format!("{before} bytes and more")),
        }
    });

    let ips = floored.map(|name| address(&cluster, "default", name));
    let all = [
        (floored[0], ips[0].as_str(), 8080, ""),
        (floored[1], ips[1].as_str(), 8080, ""),
    ];
    let kubelet: u16 = {
        let node = cluster.json(&["node", "n1"]);
        let port = node
            .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
            .and_then(Value::as_u64);
        u16::try_from(port.expect("a port")).expect("a port")
    };
    // nc says nothing of TLS: a connection is enough.
    let connects = |name: &str| {
        let script = format!("nc -w 3 {node} {kubelet} </dev/null");
        cluster
            .try_kubectl(&["exec", name, "--", "sh", "-c", &script])
            .status
            .success()
    };
    // How many of them reach the node's API.
    let reach_node = || floored.into_iter().filter(|name| connects(name)).count();
    let targets = [("door", node.as_str(), door.port(), "")];
    for name in floored {
        assert_eq!(reached(&cluster, "default", name, &targets), [].into());
    }
    wait_reached(&cluster, ("default", "talks"), &all, &floored);
    assert_eq!(reach_node(), 0);
    // What the class says now counts for pods that run.
    cluster.apply(&floor("allow"));
    for name in floored {
        wait_reached(&cluster, ("default", name), &targets, &["door"]);
    }
    assert_eq!(reach_node(), 0, "the node's own API is denied");
    let rules = listed(&cluster);
    assert!(rules.contains("169.254.169.254 drop"), "{rules}");
    cluster.apply(&floor("allow").replace(
        "{node.berth",
        "{node.berth.dev/default-network-policy-except: node, node.berth",
    ));
    wait_for("the node's API to be left open", LIMIT, || {
        match reach_node() == floored.len() {
            true => Ok(()),
            false => Err(listed(&cluster)),
        }
    });
    cluster.apply(&floor("deny-all"));
    wait_reached(&cluster, ("default", "talks"), &all, &[]);
    // A class that is gone leaves its pods what they had.
    cluster.kube(&["delete", "runtimeclass", floored[0], floored[1]]);
    cluster.apply(&policy(
        "default",
        "later",
        "{podSelector: {matchLabels: {app: later}}, policyTypes: [Ingress]}",
    ));
    wait_for("a later change to be in force", LIMIT, || {
        cluster.apply(&manifest(&pod("later", "app: later", None, FOREVER)));
        cluster.wait_ready(&["later"]);
        std::io::Result::Ok(())
    });
    for name in floored {
        assert_eq!(reached(&cluster, "default", name, &targets), [].into());
    }
    assert_eq!(reached(&cluster, "default", "talks", &all), [].into());

    // A namespace that spends too much is closed, and its pods say why; others' pods start.
    let ports: Vec<String> = (1..=4001).map(|port| format!("{{port: {port}}}")).collect();
    cluster.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: greedy}\n---\n");
    cluster.kube(&[
        "-n",
        "greedy",
        "wait",
        "--for=create",
        "serviceaccount/default",
        "--timeout=60s",
    ]);
    let greedy = format!(
        "{{podSelector: {{}}, ingress: [{{ports: [{}]}}]}}",
        ports.join(", ")
    );
    cluster.apply(&policy("greedy", "much", &greedy));
    let wanted = Wanted {
        namespace: "greedy",
        ..pod("much", "app: much", None, FOREVER)
    };
    cluster.apply(&manifest(&wanted));
    wait_for("an event that says why", LIMIT, || {
        let events = cluster.kube(&[
            "-n",
            "greedy",
            "get",
            "events",
            "-o",
            "jsonpath={range .items[*]}{.reason} {.message}{\"\\n\"}{end}",
        ]);
        match events.contains("NetworkPolicyNotInForce") && events.contains("cost too much") {
            true => Ok(()),
            false => Err(events),
        }
    });
    cluster.apply(&manifest(&pod("after", "app: after", None, FOREVER)));
    cluster.wait_ready(&["after"]);
    cluster.kube(&["-n", "greedy", "delete", "networkpolicy", "much"]);
    cluster.kube(&[
        "-n",
        "greedy",
        "wait",
        "--for=condition=Ready",
        "pod/much",
        "--timeout=60s",
    ]);
}
