//! Writes that reach an object by a subresource, and admission on all of them.

use serde_json::{Value, json};

use crate::harness::{Api, PODS, as_user, bind, class, pod};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn sized(name: &str, cpu: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
    pod
}

async fn resize(api: &Api, patch: Value, code: u16) -> String {
    let headers = [("content-type", STRATEGIC)];
    let path = format!("{PODS}/p/resize");
    let answer = api.raw("PATCH", &path, &headers, patch.to_string()).await;
    answer.expect(code)["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn to_size(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}}]}})
}

#[tokio::test]
async fn a_resize_changes_resources_and_nothing_else() {
    let api = Api::start().await;
    api.post(PODS, sized("p", "100m")).await.expect(201);
    for (cpu, says) in [
        ("-1", "must be greater than or equal to 0"),
        ("0", "Pod QOS Class may not change as a result of resizing"),
    ] {
        let message = resize(&api, to_size(cpu), 422).await;
        assert!(message.contains(says), "{cpu}: {message}");
    }
    let before = api.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(before["metadata"]["generation"], 1);
    let mut patch = to_size("200m");
    patch["metadata"] = json!({"labels": {"a": "b"}, "finalizers": ["example.com/mine"]});
    patch["spec"]["containers"][0]["image"] = json!("other");
    patch["spec"]["activeDeadlineSeconds"] = json!(1);
    patch["status"] = json!({"phase": "Succeeded"});
    resize(&api, patch, 200).await;
    let mut after = api.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(after["metadata"]["generation"], 2);
    assert_eq!(
        after["spec"]["containers"][0]["resources"]["limits"]["cpu"],
        "200m"
    );
    let mut before = before;
    for pod in [&mut before, &mut after] {
        pod["spec"]["containers"][0]["resources"] = Value::Null;
        for key in ["generation", "resourceVersion", "managedFields"] {
            pod["metadata"][key] = Value::Null;
        }
    }
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_resize_stays_within_quota_and_limit_range_and_needs_its_own_right() {
    let api = Api::start().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "500m", "limits.cpu": "500m"}}});
    api.post(QUOTAS, quota).await.expect(201);
    api.post(PODS, sized("p", "100m")).await.expect(201);
    let message = resize(&api, to_size("600m"), 403).await;
    assert!(message.contains("exceeded quota: q"), "{message}");
    resize(&api, to_size("300m"), 200).await;
    // What it has grown by is taken: another pod no longer fits.
    api.post(PODS, sized("second", "300m")).await.expect(403);
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "350m"}}]}});
    api.post("/api/v1/namespaces/default/limitranges", range)
        .await
        .expect(201);
    let message = resize(&api, to_size("400m"), 403).await;
    assert!(
        message.contains("maximum cpu usage per Container is 350m"),
        "{message}"
    );

    let role = json!({"metadata": {"name": "pods"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}]});
    api.post(&format!("{}/clusterroles", crate::harness::RBAC), role)
        .await
        .expect(201);
    bind(&api, "pods", "pods", "jane").await;
    let pod = api.get(&format!("{PODS}/p")).await.expect(200);
    let path = format!("{PODS}/p/resize");
    as_user(&api, "jane", &[], "PUT", &path, Some(pod))
        .await
        .expect(403);
}

#[tokio::test]
async fn ephemeral_containers_change_nothing_else() {
    let api = Api::start().await;
    let made = api.post(PODS, pod("p")).await.expect(201);
    let patch = json!({
        "metadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}, "finalizers": ["example.com/mine"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]},
        "spec": {"activeDeadlineSeconds": 1, "containers": [{"name": "c", "image": "other"}],
            "ephemeralContainers": [{"name": "debug", "image": "busybox"}]},
        "status": {"phase": "Succeeded"},
    });
    let path = format!("{PODS}/p/ephemeralcontainers");
    let changed = api
        .raw(
            "PATCH",
            &path,
            &[("content-type", STRATEGIC)],
            patch.to_string(),
        )
        .await
        .expect(200);
    assert_eq!(changed["spec"]["ephemeralContainers"][0]["name"], "debug");
    for pointer in [
        "/metadata/labels",
        "/metadata/annotations",
        "/metadata/finalizers",
        "/metadata/ownerReferences",
        "/spec/activeDeadlineSeconds",
        "/spec/containers",
        "/status",
    ] {
        assert_eq!(changed.pointer(pointer), made.pointer(pointer), "{pointer}");
    }
    assert_eq!(changed["metadata"]["generation"], 2);
}

#[tokio::test]
async fn ephemeral_containers_are_validated_whole() {
    let api = Api::start().await;
    api.post(PODS, pod("p")).await.expect(201);
    let path = format!("{PODS}/p/ephemeralcontainers");
    for container in [
        json!({"name": "Not A Name", "image": "busybox"}),
        json!({"name": "c", "image": "busybox"}),
        json!({"name": "d", "image": "busybox", "ports": [{"containerPort": 80}]}),
        json!({"name": "d", "image": "busybox", "targetContainerName": "nobody"}),
        json!({"name": "d", "image": "busybox", "volumeMounts": [{"name": "none", "mountPath": "/x"}]}),
    ] {
        let patch = json!({"spec": {"ephemeralContainers": [container]}});
        let refused = api
            .raw(
                "PATCH",
                &path,
                &[("content-type", STRATEGIC)],
                patch.to_string(),
            )
            .await;
        assert_eq!(refused.code, 422, "{container} {}", refused.text);
    }
}

#[tokio::test]
async fn ephemeral_containers_obey_the_namespace_policy() {
    let api = Api::start().await;
    api.post(
        "/apis/node.k8s.io/v1/runtimeclasses",
        class("gvisor", "runsc"),
    )
    .await
    .expect(201);
    api.post(PODS, pod("plain")).await.expect(201);
    let mut boxed = pod("boxed");
    boxed["spec"]["runtimeClassName"] = json!("gvisor");
    api.post(PODS, boxed).await.expect(201);
    // From now on, new code runs in gvisor only.
    let policy =
        json!({"metadata": {"annotations": {"node.berth.dev/allowed-runtime-classes": "gvisor"}}});
    api.merge("/api/v1/namespaces/default", policy)
        .await
        .expect(200);
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}})
        .to_string();
    let headers = [("content-type", STRATEGIC)];
    let path = |name: &str| format!("{PODS}/{name}/ephemeralcontainers");
    let refused = api
        .raw("PATCH", &path("plain"), &headers, debug.clone())
        .await
        .expect(403);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("is not allowed in namespace"), "{message}");
    api.raw("PATCH", &path("boxed"), &headers, debug)
        .await
        .expect(200);
    // What runs is left alone otherwise.
    api.merge(
        &format!("{PODS}/plain"),
        json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await
    .expect(200);
}

#[tokio::test]
async fn an_update_does_not_get_past_a_quota() {
    let api = Api::start().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}, "scopes": ["Terminating"]}});
    api.post(QUOTAS, quota).await.expect(201);
    let mut terminating = pod("t");
    terminating["spec"]["activeDeadlineSeconds"] = json!(60);
    api.post(PODS, terminating).await.expect(403);
    // The same in two steps: the deadline takes the pod into the scope of the quota.
    api.post(PODS, pod("p")).await.expect(201);
    let deadline = json!({"spec": {"activeDeadlineSeconds": 60}});
    let refused = api.merge(&format!("{PODS}/p"), deadline).await.expect(403);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("exceeded quota: q, requested: pods=1"),
        "{message}"
    );
    // What takes nothing more is not refused.
    api.merge(
        &format!("{PODS}/p"),
        json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await
    .expect(200);
}

#[tokio::test]
async fn a_namespace_that_goes_takes_nothing_new_by_any_way() {
    let api = Api::start().await;
    api.post("/api/v1/namespaces", json!({"metadata": {"name": "going"}}))
        .await
        .expect(201);
    let pods = "/api/v1/namespaces/going/pods";
    let accounts = "/api/v1/namespaces/going/serviceaccounts";
    api.post(accounts, json!({"metadata": {"name": "a"}}))
        .await
        .expect(201);
    api.post(pods, pod("p")).await.expect(201);
    api.delete("/api/v1/namespaces/going").await.expect(200);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let apply = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    for (path, body) in [
        (format!("{pods}/p/binding"), binding.clone()),
        ("/api/v1/namespaces/going/bindings".to_owned(), binding),
        (
            format!("{accounts}/a/token"),
            json!({"spec": {"audiences": []}}),
        ),
        (pods.to_owned(), pod("q")),
    ] {
        let refused = api.post(&path, body).await;
        assert_eq!(refused.code, 403, "{path} {}", refused.text);
        assert!(refused.text.contains("it is being terminated"), "{path}");
    }
    let applied = api
        .raw(
            "PATCH",
            "/api/v1/namespaces/going/configmaps/m?fieldManager=x",
            &[("content-type", "application/apply-patch+yaml")],
            apply.to_string(),
        )
        .await;
    assert_eq!(applied.code, 403, "{}", applied.text);
    let lease = json!({"metadata": {"name": "l"}, "spec": {}});
    let put = api
        .put(
            "/apis/coordination.k8s.io/v1/namespaces/going/leases/l",
            &lease,
        )
        .await;
    assert_eq!(put.code, 403, "{}", put.text);
    // What is there can still finish: its status is written, and questions are answered.
    let phase = json!({"status": {"phase": "Running"}});
    api.merge(&format!("{pods}/p/status"), phase)
        .await
        .expect(200);
    let review = json!({"spec": {"user": "eve", "resourceAttributes": {"namespace": "going", "verb": "get", "resource": "pods"}}});
    api.post(
        "/apis/authorization.k8s.io/v1/namespaces/going/localsubjectaccessreviews",
        review,
    )
    .await
    .expect(201);
}

#[tokio::test]
async fn a_binding_brings_no_labels_that_a_pod_could_not_have() {
    let api = Api::start().await;
    api.post(PODS, pod("p")).await.expect(201);
    let target = json!({"kind": "Node", "name": "n"});
    for metadata in [
        json!({"name": "p", "labels": {"not a key": "x"}}),
        json!({"name": "p", "annotations": {"a": "x".repeat(300_000)}}),
    ] {
        let binding = json!({"metadata": metadata, "target": target});
        api.post(&format!("{PODS}/p/binding"), binding)
            .await
            .expect(422);
    }
    let elsewhere =
        json!({"metadata": {"name": "p", "namespace": "kube-system"}, "target": target});
    api.post(&format!("{PODS}/p/binding"), elsewhere)
        .await
        .expect(400);
    let bound = json!({"metadata": {"name": "p"}, "target": target});
    api.post(&format!("{PODS}/p/binding"), bound)
        .await
        .expect(201);
}

#[tokio::test]
async fn the_status_of_a_service_is_not_its_spec() {
    let api = Api::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"app": "mine"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}});
    let made = api.post(services, service).await.expect(201);
    assert!(made.pointer("/status/loadBalancer/ingress").is_none());
    let patch = json!({"spec": {"selector": {"app": "theirs"}, "externalIPs": ["10.0.0.2"]}, "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.3"}]}}});
    let changed = api
        .merge(&format!("{services}/s/status"), patch.clone())
        .await
        .expect(200);
    assert_eq!(changed["spec"], made["spec"]);
    assert_eq!(
        changed["status"]["loadBalancer"]["ingress"][0]["ip"],
        "10.0.0.3"
    );
    let changed = api.merge(&format!("{services}/s"), patch).await.expect(200);
    assert_eq!(changed["spec"]["selector"]["app"], "theirs");
    assert_eq!(
        changed["status"],
        json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.3"}]}})
    );
}

#[tokio::test]
async fn finalizers_of_a_namespace_are_validated() {
    let api = Api::start().await;
    let made = api
        .post("/api/v1/namespaces", json!({"metadata": {"name": "n"}}))
        .await
        .expect(201);
    let path = "/api/v1/namespaces/n/finalize";
    let mut wrong = made.clone();
    wrong["spec"]["finalizers"] = json!(["kubernetes", "not qualified"]);
    api.put(path, &wrong).await.expect(422);
    let mut sneaky = made;
    sneaky["status"]["phase"] = json!("Terminating");
    sneaky["spec"]["finalizers"] = json!(["kubernetes", "example.com/mine"]);
    let changed = api.put(path, &sneaky).await.expect(200);
    assert_eq!(changed["status"]["phase"], "Active");
    assert_eq!(
        changed["spec"]["finalizers"],
        json!(["kubernetes", "example.com/mine"])
    );
}

#[tokio::test]
async fn a_plugin_that_is_not_built_cannot_be_enabled() {
    for name in ["EventRateLimit", "ImagePolicyWebhook", "PodNodeSelector"] {
        let dir = tempfile::tempdir().unwrap();
        let error = Api::refused(dir.path(), |config| {
            config.enable_admission_plugins.push(name.to_owned());
        })
        .await;
        assert!(
            error.contains(name) && error.contains("is not built"),
            "{error}"
        );
    }
    let api = Api::start_with(|config| {
        config
            .disable_admission_plugins
            .push("EventRateLimit".to_owned());
        config
            .enable_admission_plugins
            .push("NamespaceExists".to_owned());
    })
    .await;
    api.post(PODS, pod("p")).await.expect(201);
}

#[tokio::test]
async fn an_immortal_namespace_stays_whoever_asks() {
    let api = Api::start().await;
    let answer = as_user(
        &api,
        "root",
        &["system:masters"],
        "DELETE",
        "/api/v1/namespaces/kube-system",
        None,
    )
    .await;
    answer.expect(403);
    // One of a collection, too.
    api.post(
        "/api/v1/namespaces",
        json!({"metadata": {"name": "n", "labels": {"a": "b"}}}),
    )
    .await
    .expect(201);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    api.merge("/api/v1/namespaces/default", label)
        .await
        .expect(200);
    api.delete("/api/v1/namespaces?labelSelector=a=b")
        .await
        .expect(403);
    let left = api.get("/api/v1/namespaces/default").await.expect(200);
    assert!(left["metadata"].get("deletionTimestamp").is_none());
}

#[tokio::test]
async fn a_mirror_pod_refers_to_nothing_whoever_makes_it() {
    let api = Api::start().await;
    bind(&api, "tenant", "edit", "mallory").await;
    for (name, volumes, account) in [
        ("account", json!([]), json!("default")),
        (
            "secret",
            json!([{"name": "v", "secret": {"secretName": "s"}}]),
            Value::Null,
        ),
        (
            "map",
            json!([{"name": "v", "configMap": {"name": "m"}}]),
            Value::Null,
        ),
        ("none", json!([]), Value::Null),
    ] {
        let mut body = pod(name);
        body["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        body["spec"]["nodeName"] = json!("n");
        body["spec"]["volumes"] = volumes;
        body["spec"]["serviceAccountName"] = account;
        let answer = as_user(&api, "mallory", &[], "POST", PODS, Some(body)).await;
        let code = if name == "none" { 201 } else { 403 };
        assert_eq!(answer.code, code, "{name}: {}", answer.text);
    }
}
