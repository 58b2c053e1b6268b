//! RuntimeClass as a user meets it: versions, what reaches the pod, placement, policy, being told.

use std::fs;

use serde_json::{Value, json};

use crate::cluster::{Cluster, FOREVER, class, pod, short_dir, words};

/// A class with everything in it.
const FULL: &str = "\
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: full}
handler: runc
overhead: {podFixed: {cpu: 50m, memory: 0.0625Gi}}
scheduling:
  nodeSelector: {berth: here}
  tolerations: [{key: sandboxed, operator: Exists, effect: NoSchedule}]
";

fn with(manifest: &str, more: &str) -> String {
    manifest.replace("spec:\n", &format!("spec:\n{more}"))
}

#[test]
fn versions_are_one_object_and_reach_the_pod() {
    let cluster = Cluster::start();
    cluster.apply(
        "apiVersion: node.k8s.io/v1alpha1\nkind: RuntimeClass\nmetadata: {name: old}\nspec: {runtimeHandler: runc}\n",
    );
    assert_eq!(
        cluster.json(&["runtimeclasses.v1.node.k8s.io", "old"])["handler"],
        "runc"
    );
    let beta = cluster.json(&["runtimeclasses.v1beta1.node.k8s.io", "old"]);
    assert_eq!(
        (&beta["apiVersion"], &beta["handler"]),
        (&json!("node.k8s.io/v1beta1"), &json!("runc"))
    );
    cluster.apply(FULL);
    let alpha = cluster.json(&["runtimeclasses.v1alpha1.node.k8s.io", "full"]);
    assert_eq!(alpha["spec"]["runtimeHandler"], "runc");
    assert_eq!(alpha["spec"]["overhead"]["podFixed"]["memory"], "64Mi");

    cluster.kube(&["label", "node", "n1", "berth=here"]);
    cluster.kube(&["taint", "node", "n1", "sandboxed=yes:NoSchedule"]);
    cluster.apply(&pod("in", Some("full"), FOREVER));
    cluster.apply(&pod("out", None, FOREVER));
    cluster.wait_ready(&["in"]);
    let admitted = cluster.json(&["pod", "in"]);
    let spec = &admitted["spec"];
    assert_eq!(spec["overhead"], json!({"cpu": "50m", "memory": "64Mi"}));
    assert_eq!(spec["nodeSelector"]["berth"], "here");
    let tolerations = spec["tolerations"].as_array().expect("tolerations");
    assert!(
        tolerations.iter().any(|one| one["key"] == "sandboxed"),
        "{tolerations:?}"
    );
    cluster.wait_event(
        "out",
        &["FailedScheduling", "untolerated taint {sandboxed: yes}"],
    );

    let conflict = with(
        &pod("refused", Some("full"), FOREVER),
        "  nodeSelector: {berth: elsewhere}\n",
    );
    assert_forbidden(&cluster, &conflict, "nodeSelector");
    let other = with(
        &pod("refused", Some("full"), FOREVER),
        "  overhead: {cpu: 60m, memory: 64Mi}\n",
    );
    assert_forbidden(&cluster, &other, "verhead");
    let same = with(
        &pod("same", Some("full"), FOREVER),
        "  overhead: {cpu: 0.05, memory: 65536Ki}\n",
    );
    cluster.apply(&same);

    let wide = cluster.kube(&["get", "pods", "-o", "wide"]);
    let line = wide
        .lines()
        .find(|line| line.starts_with("in "))
        .unwrap_or_default();
    assert!(
        wide.lines().next().unwrap_or_default().contains("RUNTIME"),
        "{wide}"
    );
    assert!(line.contains("runc"), "{wide}");
    let described = cluster.kube(&["describe", "pod", "in"]);
    assert!(
        described.contains("Runtime Class Name:") && described.contains("full"),
        "{described}"
    );
    let node = cluster.kube(&["describe", "node", "n1"]);
    assert!(node.contains("50m"), "overhead counts on the node: {node}");
}

fn assert_forbidden(cluster: &Cluster, manifest: &str, word: &str) {
    let refused = cluster.try_apply(manifest);
    let said = words(&refused);
    assert!(!refused.status.success(), "it must be refused:\n{manifest}");
    assert!(said.contains("Forbidden") && said.contains(word), "{said}");
}

#[test]
fn a_node_without_the_handler_is_passed_over_while_another_has_it() {
    let cluster = Cluster::start();
    // A second node that reports no runsc: an object is enough for the scheduler.
    cluster.apply("apiVersion: v1\nkind: Node\nmetadata: {name: n2}\n");
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    let status = json!({"status": {
        "capacity": room, "allocatable": room,
        "conditions": [{"type": "Ready", "status": "True"}],
        "runtimeHandlers": [{"name": ""}, {"name": "runc"}],
    }});
    cluster.kube(&[
        "patch",
        "node",
        "n2",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ]);
    cluster.kube(&["cordon", "n1"]);
    cluster.apply(&class("gvisor", "runsc"));
    cluster.apply(&pod("boxed", Some("gvisor"), FOREVER));
    cluster.wait_event(
        "boxed",
        &[
            "FailedScheduling",
            "1 node(s) lack runtime handler \"runsc\"",
            "1 node(s) were unschedulable",
        ],
    );
    cluster.kube(&["uncordon", "n1"]);
    cluster.wait_ready(&["boxed"]);
    assert_eq!(cluster.json(&["pod", "boxed"])["spec"]["nodeName"], "n1");
}

#[test]
fn a_namespace_may_choose_and_limit_classes() {
    let cluster = Cluster::start();
    cluster.apply(&class("gvisor", "runsc"));
    cluster.apply(&class("runc", "runc"));
    let annotate = |list: &[&str]| {
        let mut all = vec!["annotate", "--overwrite", "namespace", "default"];
        all.extend_from_slice(list);
        cluster.kube(&all);
    };
    annotate(&[
        "node.berth.dev/default-runtime-class=gvisor",
        "node.berth.dev/allowed-runtime-classes=gvisor",
    ]);
    cluster.apply(&pod("silent", None, FOREVER));
    assert_eq!(
        cluster.json(&["pod", "silent"])["spec"]["runtimeClassName"],
        "gvisor"
    );
    assert_forbidden(&cluster, &pod("other", Some("runc"), FOREVER), "gvisor");
}

#[test]
fn who_may_and_who_is_told() {
    let cluster = Cluster::start();
    let may = |arguments: &[&str]| {
        let mut all = vec!["auth", "can-i"];
        all.extend_from_slice(arguments);
        words(&cluster.try_kubectl(&all))
            .lines()
            .any(|line| line == "yes")
    };
    assert!(may(&["create", "runtimeclasses"]));
    assert!(!may(&["create", "runtimeclasses", "--as", "bob"]));
    cluster.kube(&[
        "create",
        "clusterrolebinding",
        "bob",
        "--clusterrole=edit",
        "--user=bob",
    ]);
    assert!(may(&["create", "pods", "--as", "bob"]));
    assert!(
        !may(&["create", "runtimeclasses", "--as", "bob"]),
        "edit is not enough"
    );

    let applied = cluster.try_apply(&class("exotic", "kata-qemu"));
    let said = words(&applied);
    assert!(applied.status.success(), "{said}");
    assert!(
        said.contains("Warning:") && said.contains("kata-qemu"),
        "{said}"
    );
    let applied = cluster.try_apply(&pod("exotic", Some("exotic"), FOREVER));
    let said = words(&applied);
    assert!(
        applied.status.success() && said.contains("Warning:"),
        "{said}"
    );
    let classes = cluster.kube(&["get", "runtimeclasses", "-o", "wide"]);
    assert!(
        classes.contains("NODES") && classes.contains("PODS"),
        "{classes}"
    );
}

#[test]
fn kubectl_edit_changes_what_may_change() {
    let cluster = Cluster::server_only();
    cluster.apply(&class("gvisor", "runsc"));
    let dir = short_dir();
    let script = dir.path().join("edit.sh");
    let edit = |kind: &str, expression: &str| {
        fs::write(&script, format!("sed -i '{expression}' \"$1\"\n")).expect("the editor");
        cluster
            .kubectl()
            .env("EDITOR", format!("sh {}", script.display()))
            .env("TMPDIR", dir.path())
            .args(["edit", kind, "gvisor"])
            .output()
            .expect("kubectl runs")
    };
    let edited = edit(
        "runtimeclass",
        r"s/^handler:/overhead:\n  podFixed: {cpu: 10m}\n&/",
    );
    assert!(
        words(&edited).contains("gvisor edited"),
        "{}",
        words(&edited)
    );
    let edited = edit("runtimeclasses.v1alpha1.node.k8s.io", "s/10m/20m/");
    assert!(
        words(&edited).contains("gvisor edited"),
        "{}",
        words(&edited)
    );
    let found = cluster.json(&["runtimeclass", "gvisor"]);
    assert_eq!(found["overhead"]["podFixed"]["cpu"], "20m");
    let refused = edit("runtimeclass", "s/runsc/crun/");
    assert!(!refused.status.success());
    assert!(words(&refused).contains("invalid"), "{}", words(&refused));
}

#[test]
fn gates_of_server_and_node_are_obeyed() {
    let cluster = Cluster::with(&[
        "--feature-gates",
        "PodOverhead=false,RuntimeClassScheduling=false",
    ]);
    cluster.apply(FULL);
    cluster.apply(&pod("p", Some("full"), FOREVER));
    cluster.wait_ready(&["p"]);
    let spec = cluster.json(&["pod", "p"])["spec"].clone();
    assert_eq!(spec["overhead"], Value::Null);
    assert_eq!(spec["nodeSelector"], Value::Null);
    drop(cluster);

    let cluster = Cluster::with(&["--feature-gates", "RuntimeClass=false"]);
    cluster.apply(&pod("p", Some("nowhere"), FOREVER));
    cluster.wait_ready(&["p"]);
    assert_eq!(
        cluster.json(&["pod", "p"])["spec"]["runtimeClassName"],
        Value::Null
    );
    drop(cluster);

    let cluster = Cluster::with(&["--disable-admission-plugins", "RuntimeClass"]);
    cluster.apply(FULL);
    cluster.apply(&pod("p", Some("full"), FOREVER));
    cluster.wait_ready(&["p"]);
    assert_eq!(
        cluster.json(&["pod", "p"])["spec"]["overhead"],
        Value::Null,
        "nothing is merged"
    );
    cluster.apply(&pod("ghost", Some("nowhere"), FOREVER));
    assert_eq!(
        cluster.json(&["pod", "ghost"])["spec"]["runtimeClassName"],
        "nowhere"
    );
}
