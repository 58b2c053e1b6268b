//! Writes: concurrency, deletion, dry runs, what is refused.

use serde_json::json;

use crate::harness::{Api, CLASSES, CONFIG_MAPS, PODS, class, names, pod};

#[tokio::test]
async fn many_clients_patch_one_object_and_nothing_is_lost() {
    let api = std::sync::Arc::new(Api::start().await);
    api.config_map("shared", json!({})).await;
    let mut clients = Vec::new();
    for client in 0..6 {
        let api = std::sync::Arc::clone(&api);
        clients.push(tokio::spawn(async move {
            for n in 0..10 {
                let data = json!({"data": {format!("k{client}-{n}"): "v"}});
                api.merge(&format!("{CONFIG_MAPS}/shared"), data)
                    .await
                    .expect(200);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let object = api.get(&format!("{CONFIG_MAPS}/shared")).await.expect(200);
    assert_eq!(object["data"].as_object().unwrap().len(), 60);
}

#[tokio::test]
async fn a_put_without_change_keeps_the_version() {
    let api = Api::start().await;
    let made = api.config_map("a", json!({"x": "y"})).await;
    let again = api
        .put(&format!("{CONFIG_MAPS}/a"), &made)
        .await
        .expect(200);
    assert_eq!(
        again["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    let mut stale = made.clone();
    stale["data"] = json!({"a": "1"});
    let newer = api
        .put(&format!("{CONFIG_MAPS}/a"), &stale)
        .await
        .expect(200);
    assert_ne!(
        newer["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    stale["data"] = json!({"a": "2"});
    let refused = api
        .put(&format!("{CONFIG_MAPS}/a"), &stale)
        .await
        .expect(409);
    assert_eq!(refused["reason"], "Conflict");
}

#[tokio::test]
async fn names_are_generated_and_distinct() {
    let api = Api::start().await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let body =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "gen-"}});
        let made = api.post(CONFIG_MAPS, body).await.expect(201);
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("gen-") && name.len() == 9, "{name}");
        assert!(!seen.contains(&name));
        seen.push(name);
    }
}

#[tokio::test]
async fn a_pod_on_a_node_goes_in_two_steps() {
    let api = Api::start().await;
    let mut bound = pod("bound");
    bound["spec"]["nodeName"] = json!("n1");
    api.post(PODS, bound).await.expect(201);
    let path = format!("{PODS}/bound");
    let marked = api.delete(&path).await.expect(200);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let again = api.delete(&path).await.expect(200);
    assert_eq!(
        again["metadata"]["resourceVersion"],
        marked["metadata"]["resourceVersion"]
    );
    let sooner = api
        .delete(&format!("{path}?gracePeriodSeconds=5"))
        .await
        .expect(200);
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    api.delete(&format!("{path}?gracePeriodSeconds=0"))
        .await
        .expect(200);
    assert_eq!(api.get(&path).await.code, 404);
    api.post(PODS, pod("free")).await.expect(201);
    api.delete(&format!("{PODS}/free")).await.expect(200);
    assert_eq!(api.get(&format!("{PODS}/free")).await.code, 404);
}

#[tokio::test]
async fn a_class_that_is_not_there_rejects_its_pods() {
    let api = Api::start().await;
    let mut classy = pod("classy");
    classy["spec"]["runtimeClassName"] = json!("gvisor");
    let refused = api.post(PODS, classy.clone()).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"classy\" is forbidden: pod rejected: RuntimeClass \"gvisor\" not found"
    );
    let mut gvisor = class("gvisor", "runsc");
    gvisor["overhead"] = json!({"podFixed": {"cpu": "1000m"}});
    api.post(CLASSES, gvisor).await.expect(201);
    let made = api.post(PODS, classy).await.expect(201);
    assert_eq!(made["spec"]["overhead"]["cpu"], "1");
}

#[tokio::test]
async fn nothing_new_in_a_namespace_that_goes() {
    let api = Api::start().await;
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"}});
    api.post("/api/v1/namespaces", body).await.expect(201);
    let marked = api.delete("/api/v1/namespaces/going").await.expect(200);
    assert_eq!(marked["status"]["phase"], "Terminating");
    let maps = "/api/v1/namespaces/going/configmaps";
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}});
    let refused = api.post(maps, body.clone()).await.expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("being terminated"),
        "{refused}"
    );
    // what tells a controller to leave it
    assert_eq!(
        refused["details"]["causes"],
        json!([{"reason": "NamespaceTerminating", "message": "namespace going is being terminated", "field": "metadata.namespace"}])
    );
    let mut finalized = api.get("/api/v1/namespaces/going").await.expect(200);
    finalized["spec"]["finalizers"] = json!([]);
    api.put("/api/v1/namespaces/going/finalize", &finalized)
        .await
        .expect(200);
    assert_eq!(api.get("/api/v1/namespaces/going").await.code, 404);
    assert_eq!(api.post(maps, body).await.code, 404);
    assert_eq!(api.delete("/api/v1/namespaces/default").await.code, 403);
}

#[tokio::test]
async fn finalizers_hold_what_is_deleted() {
    let api = Api::start().await;
    let mut held = class("held", "runc");
    held["metadata"]["finalizers"] = json!(["example.com/a"]);
    api.post(CLASSES, held).await.expect(201);
    let path = format!("{CLASSES}/held");
    let marked = api.delete(&path).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    api.merge(&path, json!({"metadata": {"finalizers": null}}))
        .await
        .expect(200);
    assert_eq!(api.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_dry_run_leaves_no_trace() {
    let api = Api::start().await;
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dry"}});
    let before = api.get(CONFIG_MAPS).await.expect(200);
    api.post(&format!("{CONFIG_MAPS}?dryRun=All"), body.clone())
        .await
        .expect(201);
    api.post(CONFIG_MAPS, body).await.expect(201);
    api.merge(
        &format!("{CONFIG_MAPS}/dry?dryRun=All"),
        json!({"data": {"a": "b"}}),
    )
    .await
    .expect(200);
    api.delete(&format!("{CONFIG_MAPS}/dry?dryRun=All"))
        .await
        .expect(200);
    let after = api.get(CONFIG_MAPS).await.expect(200);
    assert_eq!(names(&before), Vec::<String>::new());
    assert_eq!(names(&after), ["dry"]);
    assert_eq!(after["items"][0].get("data"), None);
}

#[tokio::test]
async fn everything_answered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start_in(dir.path()).await;
    let made = api.config_map("kept", json!({"a": "b"})).await;
    api.stop().await;
    let api = Api::start_in(dir.path()).await;
    assert_eq!(
        api.get(&format!("{CONFIG_MAPS}/kept")).await.expect(200),
        made
    );
}

/// Whoever replaces a pod's tolerations need not repeat the two that admission has added: they are added again. Without that
/// it would take them away, which no update of a pod may.
#[tokio::test]
async fn default_tolerations_are_added_on_update_too() {
    let api = Api::start().await;
    let made = api.post(PODS, pod("tolerant")).await.expect(201);
    let keys = |pod: &serde_json::Value| -> Vec<String> {
        let all = pod["spec"]["tolerations"].as_array().unwrap().iter();
        let keys = all.filter_map(|one| Some(one["key"].as_str()?.to_owned()));
        keys.collect()
    };
    let added = [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ];
    assert_eq!(keys(&made), added);
    let mut replaced = made.clone();
    replaced["spec"]["tolerations"] = json!([{"key": "own", "operator": "Exists"}]);
    let after = api
        .put(&format!("{PODS}/tolerant"), &replaced)
        .await
        .expect(200);
    let mut found = keys(&after);
    found.sort();
    assert_eq!(found, [added[0], added[1], "own"]);
}
