use serde_json::json;

use super::*;

fn done(text: &str) -> Migration {
    file("f.yaml", text).unwrap()
}

#[test]
fn comments_and_layout_stay() {
    let old = "\
# gVisor for untrusted pods
apiVersion: node.k8s.io/v1alpha1  # was alpha
kind: RuntimeClass
metadata:
  name: gvisor
  labels:
    # who owns it
    team: sandbox
spec:
  # the name in containerd's configuration
  runtimeHandler: runsc # gVisor
  overhead:
    podFixed:
      cpu: 250m   # measured

  scheduling:
    nodeSelector:
      sandbox: \"yes\"
    tolerations:
    - key: sandbox
      operator: Exists
";
    let new = "\
# gVisor for untrusted pods
apiVersion: node.k8s.io/v1  # was alpha
kind: RuntimeClass
metadata:
  name: gvisor
  labels:
    # who owns it
    team: sandbox
# the name in containerd's configuration
handler: runsc # gVisor
overhead:
  podFixed:
    cpu: 250m   # measured

scheduling:
  nodeSelector:
    sandbox: \"yes\"
  tolerations:
  - key: sandbox
    operator: Exists
";
    let got = done(old);
    assert_eq!(got.text, new);
    assert_eq!(
        (got.migrated.len(), got.refused.len(), got.notes.len()),
        (1, 0, 0)
    );
    assert_eq!(done(new).migrated, [], "a second run changes nothing");
    assert_eq!(done(new).text, new);
}

#[test]
fn several_documents_and_lists() {
    let old = "\
---
apiVersion: v1
kind: Pod
metadata: {name: p}   # untouched
---
# first
apiVersion: node.k8s.io/v1beta1
kind: RuntimeClass
metadata:
  name: a
handler: runc
---
apiVersion: v1
kind: List
items:
- apiVersion: node.k8s.io/v1alpha1
  kind: RuntimeClass
  metadata:
    name: b
  spec:
    runtimeHandler: kata
- kind: RuntimeClass
  apiVersion: node.k8s.io/v1alpha1
  metadata: {name: c}
  spec:  # short
      runtimeHandler: runsc
---
";
    let new = "\
---
apiVersion: v1
kind: Pod
metadata: {name: p}   # untouched
---
# first
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata:
  name: a
handler: runc
---
apiVersion: v1
kind: List
items:
- apiVersion: node.k8s.io/v1
  kind: RuntimeClass
  metadata:
    name: b
  handler: kata
- kind: RuntimeClass
  apiVersion: node.k8s.io/v1
  metadata: {name: c}
  # short
  handler: runsc
---
";
    let got = done(old);
    assert_eq!(got.text, new);
    let names: Vec<_> = got
        .migrated
        .iter()
        .map(|m| (m.object.as_str(), m.from))
        .collect();
    assert_eq!(
        names,
        [("a", "v1beta1"), ("b", "v1alpha1"), ("c", "v1alpha1")]
    );
}

#[test]
fn a_class_list_without_versions_on_its_items() {
    let old = "\
apiVersion: node.k8s.io/v1alpha1
kind: RuntimeClassList
items:
  - metadata:
      name: a
    spec:
      runtimeHandler: runc
";
    let new = "\
apiVersion: node.k8s.io/v1
kind: RuntimeClassList
items:
  - metadata:
      name: a
    handler: runc
";
    assert_eq!(done(old).text, new);
}

#[test]
fn what_the_layout_cannot_do_is_written_anew() {
    let got = done(
        "# kept\napiVersion: node.k8s.io/v1alpha1\nkind: RuntimeClass\nmetadata: {name: a}\nspec: {runtimeHandler: runc} # lost\n",
    );
    let value: Value = serde_saphyr::from_str(&got.text).unwrap();
    assert_eq!(
        value,
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "a"}, "handler": "runc"})
    );
    assert!(
        got.text.starts_with("# kept\n") && got.notes.len() == 1,
        "{got:?}"
    );
    let got = done(
        r#"{"apiVersion": "node.k8s.io/v1alpha1", "kind": "RuntimeClass", "metadata": {"name": "a"}, "spec": {"runtimeHandler": "runc"}}"#,
    );
    assert_eq!(serde_json::from_str::<Value>(&got.text).unwrap(), value);
}

#[test]
fn what_has_no_valid_handler_is_refused() {
    let class = |spec: &str| {
        format!(
            "apiVersion: node.k8s.io/v1alpha1\nkind: RuntimeClass\nmetadata:\n  name: x\n{spec}"
        )
    };
    for (spec, reason, suggestion) in [
        ("", "spec.runtimeHandler is missing", "usually runc"),
        (
            "spec: {}\n",
            "spec.runtimeHandler is missing",
            "usually runc",
        ),
        (
            "spec:\n  runtimeHandler: \"\"\n",
            "spec.runtimeHandler is empty",
            "usually runc",
        ),
        (
            "spec:\n  runtimeHandler: kata.v1\n",
            "spec.runtimeHandler \"kata.v1\" contains dots",
            "\"kata-v1\"",
        ),
        (
            "spec:\n  runtimeHandler: Kata_QEMU\n",
            "spec.runtimeHandler \"Kata_QEMU\"",
            "\"kata-qemu\"",
        ),
        (
            "spec:\n  runtimeHandler: 7\n",
            "spec.runtimeHandler is not a text",
            "quotes",
        ),
        (
            "handler: a\nspec:\n  runtimeHandler: b\n",
            "handler: stands both in the object and in its spec",
            "remove one",
        ),
    ] {
        let text = class(spec);
        let got = done(&text);
        assert!(!got.is_change() && got.text == text, "{spec:?}: {got:?}");
        let refusal = &got.refused[0];
        assert_eq!(
            (refusal.file.as_str(), refusal.object.as_str()),
            ("f.yaml", "x")
        );
        assert!(refusal.reason.starts_with(reason), "{refusal}");
        assert!(refusal.suggestion.contains(suggestion), "{refusal}");
    }
}

#[test]
fn the_old_crd_is_left_out_and_spoken_of() {
    let old = "apiVersion: apiextensions.k8s.io/v1beta1\nkind: CustomResourceDefinition\nmetadata:\n  name: runtimeclasses.node.k8s.io\n---\n\
               apiVersion: node.k8s.io/v1alpha1\nkind: RuntimeClass\nmetadata:\n  name: a\nspec:\n  runtimeHandler: runc\n";
    let got = done(old);
    assert!(
        got.notes[0].contains("kubectl delete crd runtimeclasses.node.k8s.io"),
        "{got:?}"
    );
    assert!(
        got.text.contains("# kind: CustomResourceDefinition\n")
            && !got.text.contains("\nkind: CustomResourceDefinition")
    );
    assert!(got.text.ends_with("metadata:\n  name: a\nhandler: runc\n"));
}

#[test]
fn unreadable_files_are_named() {
    let error = file("f.yaml", "a: b\n---\na: [\n").unwrap_err();
    assert_eq!((error.file.as_str(), error.document), ("f.yaml", 2));
    assert!(file("f.json", "{").is_err());
    assert_eq!(done("").text, "");
    assert_eq!(done("# only a comment\n").migrated, []);
}

#[test]
fn live_objects_lose_what_the_server_set() {
    let mut object = json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "1", "managedFields": [],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}, "labels": {"a": "b"}}, "handler": "x"});
    strip_server_fields(&mut object);
    assert_eq!(
        object,
        json!({"metadata": {"name": "a", "labels": {"a": "b"}}, "handler": "x"})
    );
}
