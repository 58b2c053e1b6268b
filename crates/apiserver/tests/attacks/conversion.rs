//! Conversion webhooks that lie, hang or lose objects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Api, CONFIG_MAPS};
use crate::hook_server::{Got, HookServer, reply};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/example.com/v1/namespaces/default/widgets";
const V2: &str = "/apis/example.com/v2/namespaces/default/widgets";

async fn defined(hook: &HookServer) -> Api {
    let api = Api::start().await;
    let version = |name: &str| {
        json!({"name": name, "served": true, "storage": name == "v2",
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
    };
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {
            "url": format!("https://localhost:{}/", hook.address.port()), "caBundle": hook.ca_bundle()}}},
        "versions": [version("v1"), version("v2")]}});
    api.post(DEFINITIONS, definition).await.expect(201);
    let begun = Instant::now();
    while api.get(V2).await.code != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    api
}

fn widget(name: &str) -> Value {
    json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": name, "labels": {"a": "b"}}})
}

#[tokio::test]
async fn a_lying_converter_changes_no_identity() {
    let hook = HookServer::start_raw(Arc::new(|got: Got| {
        Box::pin(async move {
            let request = &got.body["request"];
            let mut objects = request["objects"].as_array().unwrap().clone();
            let lie = objects[0]["metadata"]["name"].as_str().unwrap().to_owned();
            for object in &mut objects {
                object["apiVersion"] = request["desiredAPIVersion"].clone();
            }
            match lie.as_str() {
                "name" => objects[0]["metadata"]["name"] = json!("other"),
                "uid" => objects[0]["metadata"]["uid"] = json!("other"),
                "kind" => objects[0]["kind"] = json!("Secret"),
                "version" => objects[0]["apiVersion"] = json!("v1"),
                "lost" => objects.clear(),
                "text" => objects[0] = json!("text"),
                "deep" => {
                    let mut deep = json!(1);
                    for _ in 0..110 {
                        deep = json!([deep]);
                    }
                    objects[0]["spec"] = deep;
                }
                _ => {
                    objects[0]["metadata"]["finalizers"] = json!(["forged"]);
                    objects[0]["metadata"]["ownerReferences"] = json!([{"uid": "forged"}]);
                    objects[0]["metadata"]["deletionTimestamp"] = json!("2001-01-01T00:00:00Z");
                    objects[0]["metadata"]["labels"] = json!({"c": "d"});
                }
            }
            reply(200, json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
                "response": {"uid": request["uid"], "convertedObjects": objects, "result": {"status": "Success"}}}).to_string())
        })
    }))
    .await;
    let api = defined(&hook).await;
    for (name, said) in [
        ("name", "must have the same name: name != other"),
        ("uid", "must have the same uid"),
        ("kind", "invalid kind (expected Widget, received Secret)"),
        (
            "version",
            "invalid groupVersion (expected example.com/v1, received v1)",
        ),
        ("lost", "returned 0 objects, expected 1"),
        ("text", "invalid groupVersion"),
        ("deep", "exceeded max depth"),
    ] {
        api.post(V2, widget(name)).await.expect(201);
        let status = api.get(&format!("{V1}/{name}")).await.expect(500);
        let message = status["message"].as_str().unwrap();
        assert!(
            message.starts_with("conversion webhook for example.com/v2, Kind=Widget ")
                && message.contains(said),
            "{name}: {message}"
        );
        // The version that is stored needs nobody.
        api.get(&format!("{V2}/{name}")).await.expect(200);
    }
    api.post(V2, widget("good")).await.expect(201);
    let got = api.get(&format!("{V1}/good")).await.expect(200);
    let metadata = &got["metadata"];
    assert_eq!(metadata["labels"], json!({"c": "d"}));
    for field in ["finalizers", "ownerReferences", "deletionTimestamp"] {
        assert_eq!(metadata[field], Value::Null, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_converter_holds_up_its_own_kind_alone() {
    let hook = HookServer::start_raw(Arc::new(|_| Box::pin(std::future::pending()))).await;
    let api = Arc::new(defined(&hook).await);
    api.post(V2, widget("a")).await.expect(201);
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let api = Arc::clone(&api);
            tokio::spawn(async move { api.get(V1).await.code })
        })
        .collect();
    let begun = Instant::now();
    while hook.got.lock().len() < 50 {
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{}",
            hook.got.lock().len()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begun = Instant::now();
    api.get(V2).await.expect(200);
    api.post(CONFIG_MAPS, json!({"metadata": {"name": "x"}}))
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
