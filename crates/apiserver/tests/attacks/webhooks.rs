//! Webhooks that hang, lie, redirect or answer megabytes, and Services that lead the server where it must not go.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use berth_apiserver::authn::StaticToken;
use berth_apiserver::user::User;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::harness::{Api, CONFIG_MAPS, PODS, bind, pod};
use crate::hook_server::{
    Got, HookServer, MUTATING, VALIDATING, configuration, own_address, patched, reply, reviewed,
    rule,
};

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

async fn hanging() -> HookServer {
    HookServer::start_raw(Arc::new(|_| Box::pin(std::future::pending()))).await
}

/// A server with few seats, on which `jane` may edit.
async fn small() -> Api {
    let api = Api::start_with(|config| {
        config.limits.max_requests_inflight = 40;
        config.limits.max_mutating_requests_inflight = 20;
        config.authn.static_tokens.push(StaticToken {
            token: "jane".to_owned(),
            user: User {
                name: "jane".to_owned(),
                groups: vec!["system:authenticated".to_owned()],
                ..User::default()
            },
        });
    })
    .await;
    bind(&api, "jane", "edit", "jane").await;
    api
}

async fn as_jane(api: &Api, method: &str, path: &str, body: Value) -> crate::harness::Answer {
    let headers = [
        ("authorization", "Bearer jane"),
        ("content-type", "application/json"),
    ];
    api.raw_without_credentials(method, path, &headers, body.to_string())
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_hanging_webhook_has_no_seat() {
    let api = small().await;
    let hook = hanging().await;
    let mut slow = hook.hook("hang.example.com", rule("configmaps"));
    slow["timeoutSeconds"] = json!(30);
    api.post(VALIDATING, configuration("v", &[slow]))
        .await
        .expect(201);
    // More than jane, or all users together, have seats.
    let api = Arc::new(api);
    let waiting: Vec<_> = (0..60)
        .map(|n| {
            let api = Arc::clone(&api);
            tokio::spawn(async move {
                as_jane(&api, "POST", CONFIG_MAPS, config_map(&format!("c{n}"))).await
            })
        })
        .collect();
    let begun = Instant::now();
    while hook.got.lock().len() < 60 {
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{}",
            hook.got.lock().len()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The same user writes something else, and reads.
    let begun = Instant::now();
    as_jane(&api, "POST", PODS, pod("p")).await.expect(201);
    as_jane(&api, "GET", PODS, json!({})).await.expect(200);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    for one in waiting {
        one.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_has_so_many_places_and_others_have_theirs() {
    let api = Arc::new(Api::start().await);
    let hook = hanging().await;
    let mut slow = hook.hook("hang.example.com", rule("configmaps"));
    slow["timeoutSeconds"] = json!(30);
    let good = HookServer::start(|_| json!({"allowed": true})).await;
    let fast = good.hook("good.example.com", rule("secrets"));
    api.post(MUTATING, configuration("m", &[slow, fast]))
        .await
        .expect(201);
    // Large ones have threads of their own, of which there must be some left.
    let large = "x".repeat(100 << 10);
    let (refused, mut told) = tokio::sync::mpsc::unbounded_channel();
    let waiting: Vec<_> = (0..40)
        .map(|n| {
            let (api, refused) = (Arc::clone(&api), refused.clone());
            let body = json!({"metadata": {"name": format!("c{n}")}, "data": {"x": large}});
            tokio::spawn(async move {
                let answer = api.post(CONFIG_MAPS, body).await;
                let _ = refused.send((answer.code, answer.text));
            })
        })
        .collect();
    for _ in 0..24 {
        let (code, text) = tokio::time::timeout(Duration::from_secs(20), told.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(code, 429, "{text}");
        assert!(
            text.contains("too many requests wait for admission webhook \\\"hang.example.com\\\""),
            "{text}"
        );
    }
    let begun = Instant::now();
    while hook.got.lock().len() < 16 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(hook.got.lock().len(), 16);
    // The rest of the server goes on, with large objects and other webhooks too.
    let begun = Instant::now();
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"x": large}});
    api.post("/api/v1/namespaces/default/secrets", secret)
        .await
        .expect(201);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    for one in waiting {
        one.abort();
    }
}

#[tokio::test]
async fn a_hanging_webhook_does_not_hold_up_the_quota_of_a_namespace() {
    let api = Arc::new(Api::start().await);
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "10", "count/configmaps": "10"}}});
    api.post("/api/v1/namespaces/default/resourcequotas", quota)
        .await
        .expect(201);
    let hook = hanging().await;
    let mut slow = hook.hook("hang.example.com", rule("configmaps"));
    slow["timeoutSeconds"] = json!(30);
    api.post(VALIDATING, configuration("v", &[slow]))
        .await
        .expect(201);
    let waiting = {
        let api = Arc::clone(&api);
        tokio::spawn(async move { api.post(CONFIG_MAPS, config_map("x")).await })
    };
    let begun = Instant::now();
    while hook.got.lock().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    let answer = api.post(PODS, pod("p")).await;
    assert!(matches!(answer.code, 201 | 403), "{}", answer.text);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    waiting.abort();
}

#[tokio::test]
async fn answers_are_bounded_and_redirects_lead_nowhere() {
    let api = Api::start().await;
    let target = HookServer::start(|_| json!({"allowed": true})).await;
    let elsewhere = format!("https://localhost:{}/", target.address.port());
    let hook = HookServer::start_raw(Arc::new(move |got: Got| {
        let elsewhere = elsewhere.clone();
        Box::pin(async move {
            let name = got.body["request"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            match name.as_str() {
                "moved" | "temporarily" => {
                    let mut response = reply(if name == "moved" { 301 } else { 307 }, "");
                    response
                        .headers_mut()
                        .insert("location", elsewhere.parse().unwrap());
                    response
                }
                "huge" => reply(200, vec![b' '; 64 << 20]),
                "warnings" => {
                    let warnings: Vec<String> = (0..5000)
                        .map(|n| format!("{n} {}", "w".repeat(500)))
                        .collect();
                    reviewed(&got, json!({"allowed": true, "warnings": warnings}))
                }
                _ => reviewed(&got, json!({"allowed": true})),
            }
        })
    }))
    .await;
    let hooks = configuration("v", &[hook.hook("v.example.com", rule("configmaps"))]);
    api.post(VALIDATING, hooks).await.expect(201);
    for (name, said) in [
        ("moved", "redirect"),
        ("temporarily", "redirect"),
        ("huge", "the answer has more than 6291456 bytes"),
    ] {
        let status = api.post(CONFIG_MAPS, config_map(name)).await.expect(500);
        let message = status["message"].as_str().unwrap();
        assert!(message.contains(said), "{message}");
    }
    assert_eq!(target.connections.load(Ordering::SeqCst), 0);
    let answer = api.post(CONFIG_MAPS, config_map("warnings")).await;
    let length: usize = answer.warnings().iter().map(String::len).sum();
    assert!(length < 8192, "{length}");
    answer.expect(201);
}

#[tokio::test]
async fn nothing_is_sent_to_who_is_not_verified() {
    let api = Api::start().await;
    let (hook, other) = (
        HookServer::start(|_| json!({"allowed": true})).await,
        HookServer::start(|_| json!({"allowed": true})).await,
    );
    let mut stranger = hook.hook("ca.example.com", rule("configmaps"));
    stranger["clientConfig"]["caBundle"] = json!(other.ca_bundle());
    let mut none = hook.hook("system.example.com", rule("secrets"));
    none["clientConfig"]
        .as_object_mut()
        .unwrap()
        .remove("caBundle");
    let mut name = hook.hook("name.example.com", rule("limitranges"));
    name["clientConfig"]["url"] = json!(format!("https://127.0.0.1:{}/", hook.address.port()));
    api.post(VALIDATING, configuration("v", &[stranger, none, name]))
        .await
        .expect(201);
    for (path, body) in [
        ("configmaps", config_map("x")),
        ("secrets", config_map("x")),
        (
            "limitranges",
            json!({"metadata": {"name": "x"}, "spec": {"limits": []}}),
        ),
    ] {
        let status = api
            .post(&format!("/api/v1/namespaces/default/{path}"), body)
            .await
            .expect(500);
        let message = status["message"].as_str().unwrap();
        assert!(
            message.contains("tls: failed to verify certificate")
                || message.contains("no CA certificates"),
            "{message}"
        );
    }
    assert!(hook.got.lock().is_empty());
}

#[tokio::test]
async fn a_patch_changes_nothing_that_is_the_servers() {
    let api = Api::start().await;
    let hook = HookServer::start(|request| {
        let name = request["object"]["metadata"]["name"].as_str().unwrap_or_default();
        let replace = |path: &str, value: Value| json!({"op": "add", "path": path, "value": value});
        match name {
            "name" => patched(&json!([replace("/metadata/name", json!("other"))])),
            "namespace" => patched(&json!([replace("/metadata/namespace", json!("kube-system"))])),
            "kind" => patched(&json!([replace("/spec", json!("text"))])),
            "bomb" => {
                let mut operations = vec![replace("/metadata/annotations", json!({"a": "x".repeat(1024)}))];
                for n in 0..40 {
                    operations.push(json!({"op": "copy", "from": "/metadata/annotations", "path": format!("/metadata/annotations/a{n}")}));
                }
                patched(&json!(operations))
            }
            "deep" => {
                let mut value = json!("x");
                for _ in 0..110 {
                    value = json!([value]);
                }
                patched(&json!([replace("/spec/deep", value)]))
            }
            _ => patched(&json!([
                replace("/metadata/uid", json!("forged")),
                replace("/metadata/creationTimestamp", json!("2001-01-01T00:00:00Z")),
                replace("/metadata/deletionTimestamp", json!("2001-01-01T00:00:00Z")),
                replace("/metadata/generation", json!(77)),
                replace("/metadata/managedFields", json!([{"manager": "forged", "operation": "Apply", "apiVersion": "v1"}])),
                replace("/metadata/labels", json!({"seen": "yes"})),
                replace("/status", json!({"phase": "Succeeded", "podIP": "127.0.0.1"})),
            ])),
        }
    })
    .await;
    api.post(
        MUTATING,
        configuration("m", &[hook.hook("m.example.com", rule("pods"))]),
    )
    .await
    .expect(201);
    let check = |made: &Value| {
        let metadata = &made["metadata"];
        assert_eq!(metadata["labels"]["seen"], "yes");
        assert_ne!(metadata["uid"], "forged");
        assert_ne!(metadata["creationTimestamp"], "2001-01-01T00:00:00Z");
        assert_eq!(metadata["deletionTimestamp"], Value::Null);
        assert_ne!(metadata["generation"], 77);
        assert_ne!(made["status"]["phase"], "Succeeded");
        assert_eq!(made["status"]["podIP"], Value::Null);
        let managers = metadata["managedFields"].to_string();
        assert!(!managers.contains("forged"), "{managers}");
    };
    check(&api.post(PODS, pod("good")).await.expect(201));
    let annotated = json!({"metadata": {"annotations": {"a": "b"}}});
    check(
        &api.merge(&format!("{PODS}/good"), annotated)
            .await
            .expect(200),
    );
    for (name, said) in [
        ("name", "metadata.name: it cannot be changed"),
        ("namespace", "metadata.namespace: it cannot be changed"),
        ("kind", "cannot be used"),
        ("bomb", "the accumulated size increase of copy"),
        ("deep", "exceeded max depth"),
    ] {
        let status = api.post(PODS, pod(name)).await.expect(500);
        let message = status["message"].as_str().unwrap();
        assert!(message.contains(said), "{name}: {message}");
        api.get(&format!("{PODS}/{name}")).await.expect(404);
    }
}

/// Something that no request of the server's must reach; tells whether one did.
async fn forbidden(at: std::net::IpAddr) -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind((at, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let reached = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 64]).await;
        }
    });
    (port, reached)
}

#[tokio::test]
async fn endpoints_do_not_lead_the_server_to_itself_or_its_link() {
    let api = Api::start().await;
    let hook = HookServer::start(|_| json!({"allowed": true})).await;
    let mut by_service = hook.hook("s.example.com", rule("configmaps"));
    by_service["clientConfig"] =
        json!({"caBundle": hook.ca_bundle(), "service": {"namespace": "default", "name": "hook"}});
    api.post(VALIDATING, configuration("v", &[by_service]))
        .await
        .expect(201);
    let (port, reached) = forbidden(Ipv4Addr::UNSPECIFIED.into()).await;
    let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 443}]}});
    api.post("/api/v1/namespaces/default/services", service)
        .await
        .expect(201);
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let endpoints = "/api/v1/namespaces/default/endpoints";
    let mut addresses = vec![
        "127.0.0.1".to_owned(),
        "169.254.169.254".to_owned(),
        "0.0.0.0".to_owned(),
        "::1".to_owned(),
        "::ffff:127.0.0.1".to_owned(),
    ];
    addresses.extend(own_address().map(|ip| ip.to_string()));
    for (n, address) in addresses.iter().enumerate() {
        let family = if address.contains(':') {
            "IPv6"
        } else {
            "IPv4"
        };
        let name = format!("hook-{n}");
        let slice = json!({"metadata": {"name": name, "labels": {"kubernetes.io/service-name": "hook"}}, "addressType": family,
            "ports": [{"port": port}], "endpoints": [{"addresses": [address]}]});
        let made = api.post(slices, slice).await;
        if made.code == 422 {
            // Not even an endpoint of a slice.
            continue;
        }
        made.expect(201);
        let status = api.post(CONFIG_MAPS, config_map("x")).await.expect(500);
        let message = status["message"].as_str().unwrap();
        assert!(
            message.contains("address not allowed"),
            "{address}: {message}"
        );
        api.delete(&format!("{slices}/{name}")).await.expect(200);
        // The old kind leads nowhere else.
        let old = json!({"metadata": {"name": "hook"}, "subsets": [{"addresses": [{"ip": address}], "ports": [{"port": port}]}]});
        if api.post(endpoints, old).await.code == 201 {
            let status = api.post(CONFIG_MAPS, config_map("x")).await.expect(500);
            let message = status["message"].as_str().unwrap();
            assert!(
                message.contains("address not allowed"),
                "{address}: {message}"
            );
            api.delete(&format!("{endpoints}/hook")).await.expect(200);
        }
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
    // A name of somebody else's is not looked up.
    let one = "/api/v1/namespaces/default/services/hook";
    api.delete(one).await.expect(200);
    let named = json!({"metadata": {"name": "hook"}, "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": 443}]}});
    api.post("/api/v1/namespaces/default/services", named)
        .await
        .expect(201);
    let status = api.post(CONFIG_MAPS, config_map("x")).await.expect(500);
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains("unsupported service type \"ExternalName\""),
        "{message}"
    );
}

#[tokio::test]
async fn who_writes_objects_does_not_configure_webhooks() {
    let api = small().await;
    let hook = HookServer::start(|_| json!({"allowed": true})).await;
    let hooks = configuration("v", &[hook.hook("v.example.com", rule("secrets"))]);
    for path in [MUTATING, VALIDATING] {
        as_jane(&api, "POST", path, hooks.clone()).await.expect(403);
    }
}
