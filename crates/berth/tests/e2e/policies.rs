//! ValidatingAdmissionPolicies: what their status says of their types.

use berth_testkit::wait_for;
use serde_json::{Value, json};

use crate::cluster::{Cluster, LIMIT};

fn policy(name: &str, expressions: &[&str]) -> String {
    let validations: Vec<Value> = expressions
        .iter()
        .map(|expression| json!({"expression": expression, "messageExpression": "'at ' + object.metadata.name"}))
        .collect();
    let rules = json!([
        {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments", "deployments/scale"]},
        {"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["widgets"]}]);
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {"matchConstraints": {"resourceRules": rules}, "validations": validations}})
    .to_string()
}

fn checked(cluster: &Cluster, name: &str, generation: i64) -> Value {
    let mut found = Value::Null;
    wait_for("the types to be checked", LIMIT, || {
        let status = cluster.json(&["validatingadmissionpolicy", name])["status"].take();
        found = status;
        let is_checked =
            found["observedGeneration"] == generation && found["typeChecking"].is_object();
        is_checked.then_some(()).ok_or_else(|| found.to_string())
    });
    found["typeChecking"].take()
}

#[test]
fn expressions_are_checked_against_the_types_of_what_they_match() {
    let cluster = Cluster::start();
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "properties": {"replicas": {"type": "string"}}}}}}}]}});
    cluster.apply(&definition.to_string());
    cluster.kube(&[
        "wait",
        "crd/widgets.example.com",
        "--for=condition=Established",
        "--timeout=30s",
    ]);
    let document = "/openapi/v3/apis/example.com/v1";
    wait_for("its schema to be published", LIMIT, || {
        let got = cluster.try_kubectl(&["get", "--raw", document]);
        got.status.success().then_some(()).ok_or("not yet")
    });

    cluster.apply(&policy(
        "good",
        &["object.metadata.name != 'a' && has(object.spec.replicas)"],
    ));
    assert_eq!(checked(&cluster, "good", 1), json!({}));

    cluster.apply(&policy(
        "bad",
        &["object.spec.replicas > 1", "object.spec.frob == 1"],
    ));
    let found = checked(&cluster, "bad", 1);
    let warnings = found["expressionWarnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{found}");
    let text = |at: usize| warnings[at]["warning"].as_str().unwrap();
    assert_eq!(warnings[0]["fieldRef"], "spec.validations[0].expression");
    // It fits a Deployment, and no Widget.
    assert!(
        text(0).starts_with("example.com/v1, Kind=Widget: ERROR: <input>:1:"),
        "{found}"
    );
    assert!(
        text(0).contains("found no matching overload for '_>_' applied to '(string, int)'"),
        "{found}"
    );
    assert_eq!(warnings[1]["fieldRef"], "spec.validations[1].expression");
    for kind in [
        "apps/v1, Kind=Deployment: ",
        "example.com/v1, Kind=Widget: ",
    ] {
        assert!(text(1).contains(kind), "{found}");
    }
    assert!(text(1).contains("undefined field 'frob'"), "{found}");

    // Another generation is looked at again.
    cluster.apply(&policy("bad", &["has(object.spec.replicas)"]));
    assert_eq!(checked(&cluster, "bad", 2), json!({}));
}
