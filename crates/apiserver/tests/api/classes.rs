//! RuntimeClasses in a cluster: what is told early, how far classes are in use, gates, plugins.

use serde_json::{Value, json};

use crate::harness::{Api, CLASSES, PODS, class, pod};

fn node(name: &str, handlers: &[&str]) -> Value {
    let handlers: Vec<Value> = handlers.iter().map(|h| json!({"name": h})).collect();
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"runtimeHandlers": handlers}})
}

fn classy(name: &str, class: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["runtimeClassName"] = json!(class);
    pod
}

#[tokio::test]
async fn what_no_node_can_run_is_told_when_it_is_created() {
    let api = Api::start().await;
    api.post("/api/v1/nodes", node("n1", &["", "runc"]))
        .await
        .expect(201);
    let fine = api.post(CLASSES, class("runc", "runc")).await;
    assert_eq!(fine.warnings(), Vec::<String>::new());
    let odd = api.post(CLASSES, class("gvisor", "runsc")).await;
    assert_eq!(odd.code, 201);
    assert!(
        odd.warnings()[0].contains("no node reports its handler"),
        "{:?}",
        odd.warnings()
    );
    assert_eq!(
        api.post(PODS, classy("a", "runc")).await.warnings(),
        Vec::<String>::new()
    );
    let pod = api.post(PODS, classy("b", "gvisor")).await;
    assert_eq!(pod.code, 201);
    assert!(
        pod.warnings()[0].contains("1 node(s) lack runtime handler"),
        "{:?}",
        pod.warnings()
    );
}

#[tokio::test]
async fn kubectl_sees_how_far_a_class_is_in_use() {
    let api = Api::start().await;
    api.post("/api/v1/nodes", node("n1", &["", "runc"]))
        .await
        .expect(201);
    api.post("/api/v1/nodes", node("n2", &["", "runc", "runsc"]))
        .await
        .expect(201);
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    api.post(PODS, classy("a", "gvisor")).await.expect(201);
    let accept = (
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    );
    let table = api
        .raw(
            "GET",
            CLASSES,
            &[accept, ("user-agent", "kubectl/v1.36.0 (linux/amd64)")],
            "",
        )
        .await
        .expect(200);
    assert_eq!(table["columnDefinitions"][3]["name"], "Nodes");
    assert_eq!(table["rows"][0]["cells"][3], "1/2");
    assert_eq!(table["rows"][0]["cells"][4], "1");
    let stock = api.raw("GET", CLASSES, &[accept], "").await.expect(200);
    assert_eq!(stock["columnDefinitions"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn gates_and_plugins_switch_what_the_documents_say() {
    // gates, plugin on; then: code for a missing class, class kept, overhead, node selector
    let all = "RuntimeClass=true";
    let cases = [
        (all, true, 403, true, true, true),
        ("PodOverhead=false", true, 403, true, false, true),
        ("RuntimeClassScheduling=false", true, 403, true, true, false),
        (
            "PodOverhead=false,RuntimeClassScheduling=false",
            true,
            403,
            true,
            false,
            false,
        ),
        ("RuntimeClass=false", true, 201, false, false, false),
        (all, false, 201, true, false, false),
    ];
    for (gates, plugin, missing, kept, overhead, selector) in cases {
        let api = Api::start_with(|config| {
            config.gates = gates.parse().unwrap();
            if !plugin {
                config
                    .disable_admission_plugins
                    .push("RuntimeClass".to_owned());
            }
        })
        .await;
        let mut full = class("full", "runsc");
        full["overhead"] = json!({"podFixed": {"cpu": "100m"}});
        full["scheduling"] = json!({"nodeSelector": {"zone": "a"}});
        api.post(CLASSES, full).await.expect(201);
        let case = format!("{gates}, plugin {plugin}");
        assert_eq!(
            api.post(PODS, classy("m", "nope")).await.code,
            missing,
            "{case}"
        );
        let spec = api.post(PODS, classy("p", "full")).await.expect(201)["spec"].clone();
        assert_eq!(spec.get("runtimeClassName").is_some(), kept, "{case}");
        assert_eq!(spec.get("overhead").is_some(), overhead, "{case}");
        assert_eq!(spec.get("nodeSelector").is_some(), selector, "{case}");
    }
}

#[tokio::test]
async fn a_namespace_can_have_a_default_class_and_a_list() {
    let api = Api::start().await;
    let mut gvisor = class("gvisor", "runsc");
    gvisor["overhead"] = json!({"podFixed": {"cpu": "100m"}});
    api.post(CLASSES, gvisor).await.expect(201);
    api.post(CLASSES, class("runc", "runc")).await.expect(201);
    let annotations = json!({"metadata": {"annotations": {
        "node.berth.dev/default-runtime-class": "gvisor",
        "node.berth.dev/allowed-runtime-classes": "gvisor"}}});
    api.merge("/api/v1/namespaces/default", annotations)
        .await
        .expect(200);
    let made = api.post(PODS, pod("plain")).await.expect(201);
    assert_eq!(made["spec"]["runtimeClassName"], "gvisor");
    assert_eq!(made["spec"]["overhead"]["cpu"], "100m");
    let refused = api.post(PODS, classy("other", "runc")).await.expect(403);
    assert!(
        refused["message"].as_str().unwrap().contains("gvisor"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_class_can_be_created_by_an_update() {
    let api = Api::start().await;
    let path = format!("{CLASSES}/by-put");
    assert_eq!(api.merge(&path, json!({})).await.code, 404);
    let created = api.put(&path, &class("by-put", "runc")).await;
    assert_eq!(created.code, 201, "{}", created.text);
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    api.merge(&path, labels).await.expect(200);
    let mut stale = class("other", "runc");
    stale["metadata"]["resourceVersion"] = json!("1");
    let refused = api.put(&format!("{CLASSES}/other"), &stale).await;
    assert_eq!(refused.code, 404, "{}", refused.text);
}
