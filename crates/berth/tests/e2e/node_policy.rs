//! NetworkPolicies and floors of classes where server, runtime and node agent are apart: `berth node --network-policy-kubeconfig`.

use berth_testkit::wait_for;

use crate::cluster::{FOREVER, LIMIT, class, words};
use crate::network_policy::{
    Door, address, bridge, listed, manifest, nft, pod, policy, reached, text, wait_reached,
};
use crate::parts::Parts;

const FLOOR: &str =
    "  name: boxed\n  annotations: {node.berth.dev/default-network-policy: deny-egress}\n";

/// How often each of them came.
fn counts(door: &Door, pods: [&str; 2]) -> [usize; 2] {
    pods.map(|ip| door.count(ip))
}

/// That a pod which may comes on, and that of those which may not nobody has come any more than before.
fn goes_on(door: &Door, free: &str, never: [&str; 2], came: [usize; 2], what: &str) {
    let before = door.count(free);
    wait_for(what, LIMIT, || match door.count(free) > before + 1 {
        true => Ok(()),
        false => Err(format!("{before} times")),
    });
    assert_eq!(counts(door, never), came, "{what}: {never:?}");
}

#[test]
fn a_node_agent_by_itself_enforces_policies_and_floors() {
    let mut parts = Parts::start();
    let readers = parts.kubeconfig("policies", &["--user", "system:network-policy"]);
    let readers = format!("--network-policy-kubeconfig={}", readers.display());
    parts.start_node(&[&readers]);
    let cluster = &parts.cluster;
    let node = text(cluster, &["node", "n1"], "/status/addresses/0/address");
    let door = Door::open(&node);
    cluster.apply(&class("gvisor", "runsc"));
    cluster.apply(&class("boxed", "runc").replace("  name: boxed\n", FLOOR));
    cluster.apply(&policy(
        "default",
        "jail",
        "{podSelector: {matchLabels: {role: jailed}}, policyTypes: [Egress]}",
    ));

    // Before the first packet: those that may send nothing never have.
    let knock = |end: &str| {
        let port = door.port();
        format!(
            "i=0; while [ $i -lt 6 ]; do nc -w 1 {node} {port} </dev/null; {end}; done; echo done"
        )
    };
    let (at_once, always) = (knock("i=$((i+1))"), knock("sleep 0.1"));
    let serve = format!("httpd -p 8080 -h /etc; {FOREVER}");
    let rush = [
        ("rush-plain", "role: jailed", None),
        ("rush-gvisor", "role: jailed", Some("gvisor")),
        ("rush-boxed", "role: none", Some("boxed")),
        ("free", "role: none", None),
    ];
    let mut all = String::new();
    for (name, labels, class) in rush {
        all += &manifest(&pod(name, labels, class, &at_once));
    }
    for (name, labels, class, command) in [
        ("server", "app: server", None, serve.as_str()),
        ("friend", "role: friend", None, FOREVER),
        ("outsider", "role: none", None, FOREVER),
        ("knocks", "role: none", None, &always),
        ("knocks-jailed", "role: jailed", Some("gvisor"), &always),
        ("knocks-boxed", "role: none", Some("boxed"), &always),
    ] {
        all += &manifest(&pod(name, labels, class, command));
    }
    cluster.apply(&all);
    for (name, ..) in rush {
        cluster.wait_phase(name, "Succeeded");
        let ip = address(cluster, "default", name);
        let came = door.count(&ip);
        assert_eq!(came > 0, name == "free", "{name} came {came} times");
    }
    cluster.wait_ready(&[
        "server",
        "friend",
        "outsider",
        "knocks",
        "knocks-jailed",
        "knocks-boxed",
    ]);

    // Ingress.
    let ip = address(cluster, "default", "server");
    let servers = [("server", ip.as_str(), 8080, "")];
    wait_reached(cluster, ("default", "outsider"), &servers, &["server"]);
    let friends = "{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: \
                   {role: friend}}}]}]}";
    cluster.apply(&policy("default", "in", friends));
    wait_reached(cluster, ("default", "outsider"), &servers, &[]);
    wait_reached(cluster, ("default", "friend"), &servers, &["server"]);

    // Whichever part is away, and whatever somebody removes.
    let free = address(cluster, "default", "knocks");
    let never = ["knocks-jailed", "knocks-boxed"].map(|name| address(cluster, "default", name));
    let never = never.each_ref().map(String::as_str);
    goes_on(
        &door,
        &free,
        never,
        [0, 0],
        "a pod that may to reach the door",
    );
    parts.kill("node");
    goes_on(
        &door,
        &free,
        never,
        [0, 0],
        "it to be reached without a node agent",
    );
    parts.start_node(&[&readers]);
    goes_on(
        &door,
        &free,
        never,
        [0, 0],
        "it to be reached after the restart of the node agent",
    );
    parts.kill("cri");
    goes_on(
        &door,
        &free,
        never,
        [0, 0],
        "it to be reached without a runtime",
    );
    parts.start_cri();
    goes_on(
        &door,
        &free,
        never,
        [0, 0],
        "it to be reached after the restart of the runtime",
    );
    let cluster = &parts.cluster;
    let table = format!("berth-policy-{}", bridge(cluster));
    for (family, emptied) in [("inet", "delete"), ("inet", "flush"), ("bridge", "delete")] {
        nft(&[emptied, "table", family, &table]);
        wait_for("the rules to come back", LIMIT, || {
            let found = listed(cluster);
            let parts = ["jump torn", "@macs", never[0], never[1]];
            match parts.iter().all(|part| found.contains(part)) {
                true => Ok(()),
                false => Err(found),
            }
        });
    }
    // The agent listens on another port since its restart, and says so once it has registered.
    wait_for("exec to be served again", LIMIT, || {
        let output = cluster.try_kubectl(&["exec", "outsider", "--", "true"]);
        output
            .status
            .success()
            .then_some(())
            .ok_or_else(|| words(&output))
    });
    wait_reached(cluster, ("default", "outsider"), &servers, &[]);

    // Some came while there were no rules, and nobody does after that.
    let came = counts(&door, never);
    goes_on(
        &door,
        &free,
        never,
        came,
        "a pod that may to reach the door by the new rules",
    );

    // Who may not read policies starts no pods, and opens nothing.
    parts.kill("node");
    let nobody = parts.kubeconfig("nobody", &["--user", "nobody"]);
    parts.start_node(&[&format!("--network-policy-kubeconfig={}", nobody.display())]);
    let cluster = &parts.cluster;
    cluster.apply(&manifest(&pod("late", "role: none", None, FOREVER)));
    cluster.wait_event(
        "late",
        &["NetworkPolicyNotInForce", "cannot read the NetworkPolicies"],
    );
    assert!(
        parts
            .log("node")
            .contains("cannot watch pods for NetworkPolicies")
    );
    goes_on(&door, &free, never, came, "what was open to stay open");
    assert_eq!(reached(cluster, "default", "outsider", &servers), [].into());
    parts.kill("node");
    parts.start_node(&[&readers]);
    parts.cluster.wait_ready(&["late"]);

    // Switched off: no rules are left behind, and classes that deny something run nowhere.
    parts.kill("node");
    parts.start_node(&[&readers, "--network-policy=false"]);
    let cluster = &parts.cluster;
    wait_reached(cluster, ("default", "outsider"), &servers, &["server"]);
    assert!(nft(&["list", "table", "inet", &table]).contains("No such file"));
    cluster.apply(&manifest(&pod(
        "refused",
        "role: none",
        Some("boxed"),
        FOREVER,
    )));
    cluster.wait_event(
        "refused",
        &["NetworkPolicyNotInForce", "nothing enforces it"],
    );
}
