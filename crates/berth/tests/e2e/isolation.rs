//! How far pods are kept apart from the node: a namespace demands it, the node attests it; and classes that come by themselves.

use berth_testkit::wait_for;
use serde_json::Value;

use crate::cluster::{Cluster, FOREVER, LIMIT, class, pod, short_dir, words};

const MINIMUM: &str = "node.berth.dev/minimum-isolation";

fn in_namespace(manifest: &str, namespace: &str) -> String {
    manifest.replacen(
        "metadata:\n",
        &format!("metadata:\n  namespace: {namespace}\n"),
        1,
    )
}

/// As [`wait_for`] wants it.
fn is(so: bool, what: &Value) -> Result<(), String> {
    if so { Ok(()) } else { Err(what.to_string()) }
}

#[test]
fn a_namespace_gets_the_isolation_that_it_demands() {
    let cluster = Cluster::start();
    cluster.apply(&class("runc", "runc"));
    cluster.apply(&class("gvisor", "runsc"));
    let node = cluster.json(&["node", "n1"]);
    let levels = node["metadata"]["annotations"]["berth.dev/handler-isolation"].as_str();
    let levels: Value = serde_json::from_str(levels.expect("the node tells")).expect("JSON");
    assert_eq!(
        (&levels["runc"], &levels["runsc"], &levels[""]),
        (&"process".into(), &"sandbox".into(), &"process".into()),
        "{levels}"
    );
    cluster.kube(&["create", "namespace", "boxed"]);
    cluster.kube(&[
        "annotate",
        "namespace",
        "boxed",
        &format!("{MINIMUM}=sandbox"),
    ]);
    for weak in [
        pod("weak", None, FOREVER),
        pod("weak", Some("runc"), FOREVER),
    ] {
        let refused = words(&cluster.try_apply(&in_namespace(&weak, "boxed")));
        assert!(
            refused
                .contains("isolates by process, and namespace \"boxed\" demands at least sandbox"),
            "{refused}"
        );
    }
    cluster.apply(&in_namespace(
        &pod("strong", Some("gvisor"), FOREVER),
        "boxed",
    ));
    wait_for("the pod to run", LIMIT, || {
        let pod = cluster.json(&["pod", "strong", "-n", "boxed"]);
        is(pod["status"]["phase"] == "Running", &pod)
    });
    let strong = cluster.json(&["pod", "strong", "-n", "boxed"]);
    let annotations = &strong["metadata"]["annotations"];
    assert_eq!(annotations[MINIMUM], "sandbox");
    assert_eq!(annotations["berth.dev/isolation"], "sandbox");
}

#[test]
fn scheduler_and_node_refuse_what_admission_did_not_see() {
    let cluster = Cluster::with(&["--disable-admission-plugins", "MinimumIsolation"]);
    // An administrator is wrong about what is behind the handler.
    let sworn = class("sworn", "runc").replace(
        "  name: sworn\n",
        "  name: sworn\n  annotations: {node.berth.dev/isolation: vm}\n",
    );
    cluster.apply(&sworn);
    let demanding = |name: &str, class: &str| {
        pod(name, Some(class), FOREVER).replacen(
            "metadata:\n",
            &format!("metadata:\n  annotations: {{{MINIMUM}: vm}}\n"),
            1,
        )
    };
    cluster.apply(&demanding("waits", "sworn"));
    let why = "node(s) whose runtime handler \"runc\" isolates less than vm";
    cluster.wait_event("waits", &["FailedScheduling", why]);
    let placed = demanding("placed", "sworn").replace("spec:\n", "spec:\n  nodeName: n1\n");
    cluster.apply(&placed);
    wait_for("the node to refuse the pod", LIMIT, || {
        let pod = cluster.json(&["pod", "placed"]);
        is(pod["status"]["phase"] == "Failed", &pod)
    });
    let placed = cluster.json(&["pod", "placed"]);
    assert_eq!(placed["status"]["reason"], "InsufficientIsolation");
    let message = placed["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("isolates by process"), "{message}");
}

#[test]
fn classes_come_by_themselves_and_are_the_users_once_touched() {
    let cluster = Cluster::with(&["--create-runtime-classes=true"]);
    wait_for("a class for each handler", LIMIT, || {
        let all = cluster.json(&["runtimeclasses"]);
        let named = |name: &str| {
            let items = all["items"].as_array();
            items.is_some_and(|items| items.iter().any(|class| class["metadata"]["name"] == name))
        };
        let are_there = ["runc", "crun", "runsc", "berth"].into_iter().all(named);
        is(are_there, &all)
    });
    let runc = cluster.json(&["runtimeclass", "runc"]);
    assert_eq!(runc["handler"], "runc");
    assert_eq!(
        runc["metadata"]["labels"]["app.kubernetes.io/managed-by"],
        "berth"
    );
    cluster.kube(&["label", "runtimeclass", "crun", "team=a"]);
    cluster.apply(&pod("p", Some("runc"), FOREVER));
    cluster.wait_ready(&["p"]);
    wait_for("the status of the class", LIMIT, || {
        let runc = cluster.json(&["runtimeclass", "runc"]);
        let status = runc["metadata"]["annotations"]["node.berth.dev/status"].as_str();
        let status: Value = serde_json::from_str(status.unwrap_or("{}")).expect("JSON");
        is(
            status["able"] == 1 && status["isolation"][0] == "process",
            &status,
        )
    });
    let shown = cluster.kube(&["get", "runtimeclasses", "-o", "wide"]);
    for (name, managed) in [("runc", "yes"), ("crun", "no"), ("runsc", "yes")] {
        let line = shown
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        let cells: Vec<&str> = line.expect("a line").split_whitespace().collect();
        assert_eq!((cells[3], cells[6]), ("1/1", managed), "{shown}");
    }
    // A node in the wrong hands gets a class made that the list has, and none of a name that it chooses.
    let dir = short_dir();
    let evil = dir.path().join("evil.yaml");
    std::fs::write(&evil, EVIL).expect("the manifest");
    let evil = evil.to_string_lossy();
    let identity = [
        "--as",
        "system:node:evil",
        "--as-group",
        "system:nodes",
        "--as-group",
        "system:authenticated",
    ];
    let mut create = vec!["create", "-f", &evil];
    create.extend(identity);
    cluster.kube(&create);
    wait_for("the class of the node's handler", LIMIT, || {
        let got = cluster.try_kubectl(&["get", "runtimeclass", "kata-fc"]);
        if got.status.success() {
            Ok(())
        } else {
            Err(words(&got))
        }
    });
    let all = cluster.kube(&["get", "runtimeclasses", "-o", "name"]);
    for name in ["gvisor", "production", "kata-evil"] {
        assert!(
            !all.lines().any(|line| line.ends_with(&format!("/{name}"))),
            "{all}"
        );
    }
    let made = cluster.json(&["runtimeclass", "kata-fc"]);
    assert_eq!(made["overhead"]["podFixed"]["memory"], "130Mi");
    assert_eq!(
        made["metadata"]["annotations"]["node.berth.dev/isolation"],
        Value::Null
    );
}

const EVIL: &str = "\
apiVersion: v1
kind: Node
metadata:
  name: evil
  annotations: {berth.dev/handler-isolation: '{\"kata-fc\": \"vm\", \"production\": \"vm\"}'}
status:
  conditions: [{type: Ready, status: \"True\"}]
  runtimeHandlers: [{name: gvisor}, {name: production}, {name: kata-evil}, {name: kata-fc}]
";
