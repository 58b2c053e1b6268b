//! Servers of APIServices that want what isn't theirs, and clients that say themselves who they are.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::extension_server::{EXT, SERVICES, api_service, condition, extension, front};
use crate::harness::{Api, CONFIG_MAPS};
use crate::hook_server::own_address;

#[tokio::test]
async fn a_client_does_not_say_who_it_is() {
    let ip = own_address().expect("this test needs a network interface besides loopback");
    let (clients, config) = front();
    let api = Api::start_with(|c| c.front_proxy = Some(config)).await;
    let server = extension(&api, ip, clients).await;
    api.post(SERVICES, api_service(&server)).await.expect(201);
    condition(&api, "v1.ext.example.com", "True").await;
    let path = format!("{EXT}/namespaces/default/things/a");
    let headers = [
        ("x-remote-user", "root"),
        ("x-remote-group", "system:masters"),
        ("x-remote-extra-scopes", "all"),
        ("x-remote-uid", "0"),
        ("cookie", "secret=1"),
    ];
    api.raw("GET", &path, &headers, "").await.expect(200);
    let got = server
        .got
        .lock()
        .iter()
        .rev()
        .find(|got| got.path == path)
        .unwrap()
        .headers
        .clone();
    let all: Vec<&str> = got
        .get_all("x-remote-user")
        .iter()
        .map(|v| v.to_str().unwrap())
        .collect();
    assert_eq!(all, ["admin"]);
    for name in [
        "x-remote-extra-scopes",
        "x-remote-uid",
        "authorization",
        "cookie",
    ] {
        assert!(!got.contains_key(name), "{name}");
    }
    // To this server itself such headers say nothing either.
    let review = json!({});
    let who = api
        .raw(
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            &[
                ("x-remote-user", "root"),
                ("content-type", "application/json"),
            ],
            review.to_string(),
        )
        .await
        .expect(201);
    assert_eq!(who["status"]["userInfo"]["username"], "admin");
    // A redirect leads nowhere.
    let status = api
        .get(&format!("{EXT}/namespaces/default/things/moved"))
        .await
        .expect(503);
    assert!(
        status["message"].as_str().unwrap().contains("redirect"),
        "{status}"
    );
}

#[tokio::test]
async fn no_group_of_this_server_is_answered_by_another() {
    let ip = own_address().expect("this test needs a network interface besides loopback");
    let (clients, config) = front();
    let api = Api::start_with(|c| c.front_proxy = Some(config)).await;
    let server = extension(&api, ip, clients).await;
    for (group, version) in [
        ("", "v1"),
        ("apps", "v1"),
        ("rbac.authorization.k8s.io", "v9"),
    ] {
        let name = format!("{version}.{group}");
        let mut service = api_service(&server);
        service["metadata"]["name"] = json!(name);
        service["spec"]["group"] = json!(group);
        service["spec"]["version"] = json!(version);
        let one = format!("{SERVICES}/{name}");
        if version == "v1" {
            // It is there from the start.
            condition(&api, &name, "True").await;
            let change = json!({"spec": service["spec"]});
            api.merge(&one, change).await.expect(200);
        } else {
            api.post(SERVICES, service).await.expect(201);
        }
        assert_eq!(
            condition(&api, &name, "False").await["reason"],
            "ServedLocally"
        );
    }
    api.post(CONFIG_MAPS, json!({"metadata": {"name": "x"}}))
        .await
        .expect(201);
    api.get("/apis/apps/v1/deployments").await.expect(200);
    api.get("/apis/rbac.authorization.k8s.io/v9/clusterroles")
        .await
        .expect(404);
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
    // A group that is defined here later is from then on answered here.
    api.post(SERVICES, api_service(&server)).await.expect(201);
    condition(&api, "v1.ext.example.com", "True").await;
    let definition = json!({"metadata": {"name": "things.ext.example.com"}, "spec": {"group": "ext.example.com", "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"}, "versions": [{"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    api.post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        definition,
    )
    .await
    .expect(201);
    let path = format!("{EXT}/namespaces/default/things");
    let begun = Instant::now();
    while api.get(&path).await.json()["kind"] != "ThingList" {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nobody_is_asked_who_is_not_verified_or_allowed() {
    let ip = own_address().expect("this test needs a network interface besides loopback");
    let (clients, config) = front();
    let api = Api::start_with(|c| c.front_proxy = Some(config)).await;
    let server = extension(&api, ip, clients).await;
    let mut service = api_service(&server);
    let stranger = crate::hook_server::HookServer::start(|_| json!({})).await;
    service["spec"]["caBundle"] = json!(stranger.ca_bundle());
    api.post(SERVICES, service).await.expect(201);
    let failed = condition(&api, "v1.ext.example.com", "False").await;
    let message = failed["message"].as_str().unwrap();
    assert!(
        message.contains("certificate signed by unknown authority"),
        "{message}"
    );
    api.get(&format!("{EXT}/things")).await.expect(503);
    assert!(server.got.lock().is_empty());
    // Endpoints that lead to this machine itself.
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/ext-1";
    let port = server.address.port();
    for address in ["127.0.0.1", "169.254.169.254"] {
        let change = json!({"endpoints": [{"addresses": [address]}], "ports": [{"port": port}]});
        if api.merge(slices, change).await.code != 200 {
            continue;
        }
        let before = server.connections.load(Ordering::SeqCst);
        api.get(&format!("{EXT}/things")).await.expect(503);
        assert_eq!(server.connections.load(Ordering::SeqCst), before);
    }
}
