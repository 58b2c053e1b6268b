//! APIServices: this server's own groups, and those of another one behind it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::HeaderMap;
use serde_json::json;

use crate::extension_server::{EXT, SERVICES, api_service, condition, extension, front};
use crate::harness::{Api, as_user};
use crate::hook_server::{HookServer, own_address};

fn last(server: &HookServer, path: &str) -> HeaderMap {
    let got = server.got.lock();
    got.iter()
        .rev()
        .find(|got| got.path == path)
        .unwrap_or_else(|| panic!("{path} was not asked for"))
        .headers
        .clone()
}

#[tokio::test]
async fn own_groups_are_always_available() {
    let api = Api::start().await;
    for name in [
        "v1.",
        "v1.apps",
        "v1.node.k8s.io",
        "v1beta1.node.k8s.io",
        "v1.apiregistration.k8s.io",
    ] {
        let condition = condition(&api, name, "True").await;
        assert_eq!(
            (&condition["reason"], &condition["message"]),
            (
                &json!("Local"),
                &json!("Local APIServices are always available")
            )
        );
    }
    let core = api.get(&format!("{SERVICES}/v1.")).await.expect(200);
    assert_eq!(
        core["spec"],
        json!({"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1})
    );
    assert_eq!(
        core["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"],
        "onstart"
    );
    // One that is taken away comes back.
    api.delete(&format!("{SERVICES}/v1.apps")).await.expect(200);
    condition(&api, "v1.apps", "True").await;
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"}, "versions": [{"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    api.post(definitions, definition).await.expect(201);
    condition(&api, "v1.example.com", "True").await;
    api.delete(&format!("{definitions}/widgets.example.com"))
        .await
        .expect(200);
    let begun = Instant::now();
    while api.get(&format!("{SERVICES}/v1.example.com")).await.code != 404 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn requests_for_its_group_go_to_the_other_server() {
    let ip = own_address().expect("this test needs a network interface besides loopback");
    let (clients, config) = front();
    let api = Api::start_with(|c| c.front_proxy = Some(config)).await;
    let server = extension(&api, ip, clients).await;
    api.post(SERVICES, api_service(&server)).await.expect(201);
    let passed = condition(&api, "v1.ext.example.com", "True").await;
    assert_eq!(passed["reason"], "Passed");
    let groups = api.get("/apis").await.expect(200);
    let group = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .find(|g| g["name"] == "ext.example.com")
        .unwrap()
        .clone();
    assert_eq!(
        group["preferredVersion"]["groupVersion"],
        "ext.example.com/v1"
    );
    assert_eq!(
        api.get("/apis/ext.example.com").await.expect(200)["kind"],
        "APIGroup"
    );
    assert_eq!(
        api.get(EXT).await.expect(200)["resources"][0]["name"],
        "things"
    );
    let accept = [(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    )];
    let all = api.raw("GET", "/apis", &accept, "").await.expect(200);
    let group = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|g| g["metadata"]["name"] == "ext.example.com")
        .unwrap()
        .clone();
    let version = &group["versions"][0];
    assert_eq!(version["freshness"], "Current");
    assert_eq!(version["resources"][0]["resource"], "things");
    assert_eq!(
        version["resources"][0]["subresources"][0]["subresource"],
        "status"
    );
    let path = format!("{EXT}/namespaces/default/things/a?x=1&y=%2F");
    // Its document is among those of this server, and no other that it may name.
    let begun = Instant::now();
    let url = loop {
        let index = api.get("/openapi/v3").await.expect(200);
        let core = index["paths"]["api/v1"]["serverRelativeURL"].as_str();
        assert!(!core.unwrap().contains("forged"));
        if let Some(url) = index["paths"]["apis/ext.example.com/v1"]["serverRelativeURL"].as_str() {
            break url.to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{index}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(url.starts_with("/openapi/v3/apis/ext.example.com/v1?hash="));
    let document = api.get(&url).await;
    assert!(
        document.headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    assert_eq!(document.expect(200)["info"]["title"], "ext");
    // The same of the document of everything, and of its types those that its paths lead to.
    let begun = Instant::now();
    let whole = loop {
        let whole = api.get("/openapi/v2").await.expect(200);
        if whole["paths"]["/apis/ext.example.com/v1/things"].is_object() {
            break whole;
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let types = &whole["definitions"];
    assert_eq!(types["com.example.Thing"]["description"], "a thing");
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    assert_eq!(
        types["com.example.Thing"]["properties"]["metadata"]["$ref"],
        format!("#/definitions/{meta}_v2")
    );
    assert_eq!(types[format!("{meta}_v2")]["description"], "forged");
    assert_ne!(types[meta]["description"], "forged");
    assert_ne!(types["io.k8s.api.core.v1.Pod"]["description"], "forged");
    assert_ne!(
        whole["paths"]["/api/v1/pods"]["get"]["operationId"],
        "forged"
    );
    let accept = [(
        "accept",
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    )];
    let binary = api.raw("GET", "/openapi/v2", &accept, "").await;
    assert!(binary.text.contains("com.example.Thing"));
    // One connection is enough for requests that come one after the other; the server is looked at on another.
    let begun = server.connections.load(Ordering::SeqCst);
    for _ in 0..20 {
        api.get(&path).await.expect(200);
    }
    let made = server.connections.load(Ordering::SeqCst) - begun;
    assert!(made < 5, "{made} connections for 20 requests");
    // Whose request it is is said with each.
    as_user(&api, "jane", &["system:masters"], "GET", &path, None)
        .await
        .expect(200);
    assert_eq!(last(&server, &path)["x-remote-user"], "jane");
    let got = api.get(&path).await.expect(200);
    assert_eq!(got["path"], format!("{EXT}/namespaces/default/things/a"));
    let headers = last(&server, &path);
    assert_eq!(headers["x-remote-user"], "admin");
    let groups: Vec<&str> = headers
        .get_all("x-remote-group")
        .iter()
        .map(|v| v.to_str().unwrap())
        .collect();
    assert!(groups.contains(&"system:masters"), "{groups:?}");
    assert!(!headers.contains_key("authorization"));
    // Who may not is refused here, and the other server does not hear of it.
    let before = server.got.lock().len();
    let path = format!("{EXT}/namespaces/default/things");
    as_user(&api, "jane", &[], "GET", &path, None)
        .await
        .expect(403);
    assert_eq!(server.got.lock().len(), before);
    let role = json!({"metadata": {"name": "things"}, "rules": [{"apiGroups": ["ext.example.com"], "resources": ["things"], "verbs": ["list"]}]});
    api.post(&format!("{}/clusterroles", crate::harness::RBAC), role)
        .await
        .expect(201);
    crate::harness::bind(&api, "things", "things", "jane").await;
    as_user(&api, "jane", &["devs"], "GET", &path, None)
        .await
        .expect(200);
    let headers = last(&server, &path);
    assert_eq!(headers["x-remote-user"], "jane");
    assert!(
        !headers
            .keys()
            .any(|name| name.as_str().starts_with("impersonate-")),
        "{headers:?}"
    );
    let columns = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = api
        .raw(
            "GET",
            &format!("{SERVICES}/v1.ext.example.com"),
            &columns,
            "",
        )
        .await
        .expect(200);
    assert_eq!(table["rows"][0]["cells"][1], "default/ext");
    assert_eq!(table["rows"][0]["cells"][2], "True");
    api.delete(&format!("{SERVICES}/v1.ext.example.com"))
        .await
        .expect(200);
    let begun = Instant::now();
    while api.get(&path).await.code != 404 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let api = Api::start().await;
    let service = json!({"metadata": {"name": "v1.ext.example.com"}, "spec": {"group": "ext.example.com", "version": "v1", "insecureSkipTLSVerify": true,
        "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"namespace": "default", "name": "nothing"}}});
    api.post(SERVICES, service).await.expect(201);
    let failed = condition(&api, "v1.ext.example.com", "False").await;
    assert_eq!(failed["reason"], "FailedDiscoveryCheck");
    assert!(
        failed["message"]
            .as_str()
            .unwrap()
            .ends_with("service \"nothing\" not found"),
        "{failed}"
    );
    let status = api.get(&format!("{EXT}/things")).await.expect(503);
    assert_eq!(status["message"], "service unavailable");
}

#[tokio::test]
async fn other_servers_are_told_how_to_know_this_one() {
    let (_, config) = front();
    let ca = String::from_utf8(config.ca.clone()).unwrap();
    let api = Api::start_with(|c| c.front_proxy = Some(config)).await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let begun = Instant::now();
    while api.get(path).await.code != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let data = api.get(path).await.expect(200)["data"].clone();
    assert_eq!(data["requestheader-client-ca-file"], ca);
    assert_eq!(
        data["requestheader-allowed-names"],
        "[\"front-proxy-client\"]"
    );
    assert_eq!(
        data["requestheader-username-headers"],
        "[\"X-Remote-User\"]"
    );
    api.get("/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles/extension-apiserver-authentication-reader").await.expect(200);
}

#[tokio::test]
async fn a_wrong_api_service_is_refused() {
    let api = Api::start().await;
    let good = json!({"metadata": {"name": "v1.ext.example.com"}, "spec": {"group": "ext.example.com", "version": "v1",
        "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"namespace": "default", "name": "ext"}}});
    for (pointer, value, field) in [
        (
            "/metadata/name",
            json!("v2.ext.example.com"),
            "metadata.name",
        ),
        (
            "/spec/groupPriorityMinimum",
            json!(0),
            "spec.groupPriorityMinimum",
        ),
        ("/spec/versionPriority", json!(1001), "spec.versionPriority"),
        ("/spec/service/name", json!(""), "spec.service.name"),
        (
            "/spec/service",
            json!({"namespace": "a", "name": "b", "port": 70000}),
            "spec.service.port",
        ),
    ] {
        let mut broken = good.clone();
        *broken.pointer_mut(pointer).unwrap() = value;
        let status = api.post(SERVICES, broken).await.expect(422);
        assert_eq!(status["details"]["causes"][0]["field"], field, "{status}");
    }
    let mut local = good.clone();
    local["spec"].as_object_mut().unwrap().remove("service");
    local["spec"]["insecureSkipTLSVerify"] = json!(true);
    api.post(SERVICES, local).await.expect(422);
}
