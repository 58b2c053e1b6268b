//! `berth migrate`: manifests of the alpha days, and a live cluster.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::cluster::{Cluster, berth, short_dir, words};

const ALPHA: &str = "\
# Sandboxes of the first hour.
apiVersion: node.k8s.io/v1alpha1
kind: RuntimeClass
metadata:
  name: gvisor # what pods name
spec:
  # the node's handler
  runtimeHandler: runsc
  overhead:
    podFixed: {memory: 64Mi}
---
apiVersion: v1
kind: List
items:
- apiVersion: node.k8s.io/v1alpha1
  kind: RuntimeClass
  metadata: {name: plain}
  spec:
    runtimeHandler: runc # the default one
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: other}
---
apiVersion: node.k8s.io/v1beta1
kind: RuntimeClass
metadata:
  name: beta
handler: crun
";

const MIGRATED: &str = "\
# Sandboxes of the first hour.
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata:
  name: gvisor # what pods name
# the node's handler
handler: runsc
overhead:
  podFixed: {memory: 64Mi}
---
apiVersion: v1
kind: List
items:
- apiVersion: node.k8s.io/v1
  kind: RuntimeClass
  metadata: {name: plain}
  handler: runc # the default one
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: other}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata:
  name: beta
handler: crun
";

/// The CustomResourceDefinition of the alpha days with an instance of it, as it was documented then.
const OLD_CRD: &str = "\
apiVersion: apiextensions.k8s.io/v1beta1
kind: CustomResourceDefinition
metadata:
  name: runtimeclasses.node.k8s.io
spec:
  group: node.k8s.io
  version: v1alpha1
---
apiVersion: node.k8s.io/v1alpha1
kind: RuntimeClass
metadata:
  name: instance
  generation: 1
spec:
  runtimeHandler: runsc
status: {}
";

fn migrate(dir: &Path, arguments: &[&str]) -> Output {
    berth()
        .current_dir(dir)
        .arg("migrate")
        .args(arguments)
        .output()
        .expect("berth migrate runs")
}

#[test]
fn files() {
    let dir = short_dir();
    let at = dir.path();
    let read = |name: &str| fs::read_to_string(at.join(name)).unwrap();
    fs::create_dir(at.join("m")).unwrap();
    fs::write(at.join("m/classes.yaml"), ALPHA).unwrap();
    fs::write(at.join("m/crd.yml"), OLD_CRD).unwrap();
    fs::write(at.join("m/notes.txt"), "left alone").unwrap();

    let dry = migrate(at, &["--dry-run", "m"]);
    let said = words(&dry);
    assert!(dry.status.success(), "{said}");
    for what in ["gvisor", "plain", "beta", "instance", "would migrate"] {
        assert!(said.contains(what), "{what}: {said}");
    }
    assert_eq!(read("m/classes.yaml"), ALPHA, "a dry run writes nothing");

    let done = migrate(at, &["m"]);
    let said = words(&done);
    assert!(done.status.success(), "{said}");
    assert_eq!(read("m/classes.yaml"), MIGRATED);
    assert_eq!(read("m/classes.yaml.orig"), ALPHA, "nothing is lost");
    let crd = read("m/crd.yml");
    assert!(
        crd.contains("apiVersion: node.k8s.io/v1\n") && crd.contains("handler: runsc"),
        "{crd}"
    );
    assert!(
        said.contains("kubectl delete crd runtimeclasses.node.k8s.io"),
        "{said}"
    );

    let again = migrate(at, &["m"]);
    assert!(again.status.success() && words(&again).contains("nothing to migrate"));
    assert_eq!(read("m/classes.yaml"), MIGRATED);
    assert!(!at.join("m/classes.yaml.orig.1").exists());
}

#[test]
fn what_has_no_valid_handler_is_refused_by_name() {
    let dir = short_dir();
    let at = dir.path();
    let alpha = |name: &str, spec: &str| {
        format!(
            "apiVersion: node.k8s.io/v1alpha1\nkind: RuntimeClass\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        )
    };
    for (name, spec, suggestion) in [
        ("dotted", "{runtimeHandler: kata.v1}", "\"kata-v1\""),
        ("empty", "{runtimeHandler: ''}", "runc"),
        ("missing", "{}", "runc"),
    ] {
        let file = format!("{name}.yaml");
        let text = [alpha("fine", "{runtimeHandler: runc}"), alpha(name, spec)].join("---\n");
        fs::write(at.join(&file), &text).unwrap();
        let refused = migrate(at, &[&file]);
        let said = words(&refused);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        for what in [file.as_str(), name, suggestion, "left as it is"] {
            assert!(said.contains(what), "{what}: {said}");
        }
        assert_eq!(fs::read_to_string(at.join(&file)).unwrap(), text);
        assert!(!at.join(format!("{file}.orig")).exists());
    }
}

#[test]
fn a_live_cluster_is_tried_dry_first() {
    let cluster = Cluster::server_only();
    let dir = short_dir();
    let at = dir.path();
    fs::write(
        at.join("alpha.yaml"),
        ALPHA.replace(
            "- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: other}\n",
            "",
        ),
    )
    .unwrap();
    cluster.kube(&["apply", "-f", &at.join("alpha.yaml").display().to_string()]);
    let kubeconfig = cluster
        .data()
        .join("admin.kubeconfig")
        .display()
        .to_string();
    let versions = || {
        cluster.kube(&[
            "get",
            "runtimeclasses",
            "-o",
            "jsonpath={.items[*].metadata.resourceVersion}",
        ])
    };
    let before = versions();

    let dry = migrate(at, &["--kubeconfig", &kubeconfig]);
    let said = words(&dry);
    assert!(
        dry.status.success() && said.contains("dry run") && said.contains("--yes"),
        "{said}"
    );
    assert_eq!(versions(), before, "a dry run writes nothing");
    let saved: Value = serde_json::from_str(
        &fs::read_to_string(at.join("runtimeclasses-before-migration.json")).unwrap(),
    )
    .unwrap();
    assert_eq!(saved["items"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        saved["items"][1]["spec"]["runtimeHandler"], "runsc",
        "as it was: {saved}"
    );

    let done = migrate(
        at,
        &[
            "--kubeconfig",
            &kubeconfig,
            "--yes",
            "--backup",
            "second.json",
        ],
    );
    let said = words(&done);
    assert!(
        done.status.success() && said.contains("3 RuntimeClass(es)"),
        "{said}"
    );
    for (name, handler) in [("gvisor", "runsc"), ("plain", "runc"), ("beta", "crun")] {
        let class = cluster.json(&["runtimeclasses.v1.node.k8s.io", name]);
        assert_eq!(class["handler"], handler);
    }
    // Applying the migrated files now changes nothing.
    let files = migrate(at, &["alpha.yaml"]);
    assert!(files.status.success(), "{}", words(&files));
    let migrated = at.join("alpha.yaml").display().to_string();
    let applied = cluster.kube(&["apply", "-f", &migrated]);
    assert_eq!(applied.lines().count(), 3, "{applied}");
    let class = cluster.json(&["runtimeclasses.v1alpha1.node.k8s.io", "gvisor"]);
    assert_eq!(
        class["spec"]["overhead"]["podFixed"]["memory"], "64Mi",
        "nothing was lost"
    );
}
