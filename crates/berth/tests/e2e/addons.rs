//! Add-ons: what a manifest in the server's directory comes to.

use std::fs;
use std::path::PathBuf;

use berth_testkit::wait_for;

use crate::cluster::{Cluster, LIMIT};

fn config(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  value: \"{value}\"\n---\n"
    )
}

const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: lamps.example.com
spec:
  group: example.com
  names: {kind: Lamp, plural: lamps, singular: lamp, listKind: LampList}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
---
";
const LAMP: &str =
    "apiVersion: example.com/v1\nkind: Lamp\nmetadata: {name: desk, namespace: lights}\n---\n";
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: lights}\n---\n";

/// Writes a file as an editor does that replaces the old one.
fn write(cluster: &Cluster, name: &str, text: &str) -> PathBuf {
    let dir = cluster.data().join("server/manifests");
    let (new, path) = (dir.join(format!(".{name}")), dir.join(name));
    fs::write(&new, text).expect("a manifest");
    fs::rename(&new, &path).expect("a manifest");
    path
}

/// The value of a ConfigMap, or that it is not there.
fn wait_value(cluster: &Cluster, name: &str, wanted: Option<&str>) {
    wait_for(&format!("{name} is {wanted:?}"), LIMIT, || {
        let output =
            cluster.try_kubectl(&["get", "configmap", name, "-o", "jsonpath={.data.value}"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = output.status.success().then_some(text);
        (found.as_deref() == wanted)
            .then_some(())
            .ok_or_else(|| format!("{found:?} {}", cluster.log()))
    });
}

#[test]
fn a_manifest_is_applied_and_what_it_no_longer_holds_is_deleted() {
    let mut cluster = Cluster::start();
    // A custom object before its kind and its namespace: the file says it in any order.
    let all = [
        LAMP,
        NAMESPACE,
        DEFINITION,
        &config("a", "1"),
        &config("b", "1"),
    ]
    .concat();
    let path = write(&cluster, "first.yaml", &all);
    write(&cluster, "notes.txt", &config("note", "1"));
    wait_value(&cluster, "a", Some("1"));
    wait_for("the custom object", LIMIT, || {
        let output = cluster.try_kubectl(&["get", "lamp", "desk", "-n", "lights"]);
        output
            .status
            .success()
            .then_some(())
            .ok_or_else(|| cluster.log())
    });
    assert!(
        !cluster
            .try_kubectl(&["get", "configmap", "note"])
            .status
            .success()
    );
    let applied = cluster.json(&["configmap", "a"]);
    assert_eq!(
        applied["metadata"]["annotations"]["node.berth.dev/addon"],
        "first.yaml"
    );

    // Somebody makes an object of the same name anew: it is not the add-on's to delete.
    cluster.kube(&["delete", "configmap", "b"]);
    cluster.kube(&["create", "configmap", "b", "--from-literal=value=mine"]);
    // Changed while no server runs.
    cluster.kill();
    write(
        &cluster,
        "first.yaml",
        &[NAMESPACE, DEFINITION, &config("c", "1")].concat(),
    );
    cluster.launch();
    wait_value(&cluster, "c", Some("1"));
    wait_value(&cluster, "a", None);
    wait_value(&cluster, "b", Some("mine"));
    wait_for("the custom object's end", LIMIT, || {
        let output = cluster.try_kubectl(&["get", "lamp", "desk", "-n", "lights"]);
        let gone = String::from_utf8_lossy(&output.stderr).contains("NotFound");
        gone.then_some(()).ok_or_else(|| cluster.log())
    });

    // What can't be read changes nothing, and says so.
    write(
        &cluster,
        "first.yaml",
        &[&config("c", "2"), "kind: Pod\n"].concat(),
    );
    wait_for("an event", LIMIT, || {
        let events = cluster.kube(&["get", "events", "-n", "kube-system"]);
        let wanted = [
            "ApplyManifestFailed",
            "document 2: apiVersion and kind are needed",
        ];
        let said = wanted.iter().all(|words| events.contains(words));
        said.then_some(()).ok_or(events)
    });
    wait_value(&cluster, "c", Some("1"));
    // Skipped, a file is as good as gone, and its objects stay.
    fs::write(path.with_file_name("first.yaml.skip"), "").expect("a file");
    write(&cluster, "first.yaml", &config("c", "3"));
    write(
        &cluster,
        "second.json",
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}, "data": {"value": "1"}}"#,
    );
    wait_value(&cluster, "d", Some("1"));
    wait_value(&cluster, "c", Some("1"));
}

#[test]
fn a_directory_that_others_may_write_is_not_followed() {
    use std::os::unix::fs::PermissionsExt as _;
    let cluster = Cluster::server_only();
    let dir = cluster.data().join("server/manifests");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("a mode");
    write(&cluster, "evil.yaml", &config("evil", "1"));
    wait_for("a word about it", LIMIT, || {
        let log = cluster.log();
        let said = log.contains("must be root's alone to write");
        said.then_some(()).ok_or(log)
    });
    assert!(
        !cluster
            .try_kubectl(&["get", "configmap", "evil"])
            .status
            .success()
    );
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("a mode");
    wait_value(&cluster, "evil", Some("1"));
}
