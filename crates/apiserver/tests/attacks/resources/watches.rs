//! Watches: how many, and what they keep.

use std::collections::HashMap;

use http_body_util::BodyExt;
use serde_json::json;

use super::*;
use crate::harness::{CONFIG_MAPS, RBAC, bind};

#[tokio::test]
async fn one_user_has_so_many_watches() {
    let api = Api::start_with(|config| {
        with_users(config);
        config.limits.max_watches_per_user = 300;
    })
    .await;
    for user in ["mallory", "jane"] {
        bind(&api, user, "view", user).await;
    }
    let watch = |user: &str| request("GET", &format!("{CONFIG_MAPS}?watch=true"), user, empty());
    let mut codes = HashMap::<u16, usize>::new();
    let mut senders = Vec::new();
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut sender = http2(&api).await;
        for _ in 0..200 {
            let response = answered(sender.send_request(watch("mallory"))).await;
            *codes.entry(response.status().as_u16()).or_default() += 1;
            if response.status() == 429 {
                assert_eq!(response.headers()["retry-after"], "5");
                let body = response.into_body().collect().await.unwrap().to_bytes();
                let text = String::from_utf8(body.to_vec()).unwrap();
                let why = "too many watches and connections to pods of user \\\"mallory\\\": limit is 300";
                assert!(text.contains(why), "{text}");
            } else {
                open.push(response);
            }
        }
        senders.push(sender);
    }
    assert_eq!(codes, HashMap::from([(200, 300), (429, 700)]));
    let mut jane = http2(&api).await;
    let watched = answered(jane.send_request(watch("jane"))).await;
    assert_eq!(watched.status(), 200);
    others_are_served(&api).await;
    // A watch that ends frees its place.
    open.truncate(100);
    let deadline = Instant::now() + PATIENCE;
    while answered(senders[4].send_request(watch("mallory")))
        .await
        .status()
        != 200
    {
        assert!(Instant::now() < deadline, "places become free");
    }
}

#[tokio::test]
async fn one_large_object_does_not_end_the_watches_of_others() {
    let api = Api::start().await;
    let before = api.config_map("small", json!({})).await;
    let version = before["metadata"]["resourceVersion"].as_str().unwrap();
    api.merge(&format!("{CONFIG_MAPS}/small"), json!({"data": {"x": "y"}}))
        .await
        .expect(200);
    api.config_map("large", json!({})).await;
    for n in 0..8 {
        let data = json!({"data": {"x": n.to_string().repeat(1 << 20)}});
        api.merge(&format!("{CONFIG_MAPS}/large"), data)
            .await
            .expect(200);
    }
    let path = |name: &str| {
        format!(
            "{CONFIG_MAPS}?watch=true&fieldSelector=metadata.name={name}&resourceVersion={version}"
        )
    };
    let mut small = api.watch(&path("small")).await;
    assert_eq!(
        small.told().await,
        ("MODIFIED".to_owned(), "small".to_owned())
    );
    // Who wants the large one's own past is told that it is gone.
    let mut large = api.watch(&path("large")).await;
    let mut last = large.next().await.unwrap();
    while last["type"] != "ERROR" {
        last = large.next().await.expect("the past is gone");
    }
    assert_eq!(last["object"]["code"], 410);
    assert_eq!(large.next().await, None);
}

#[tokio::test]
async fn an_object_has_a_size() {
    let api = Api::start().await;
    let roles = format!("{RBAC}/clusterroles");
    let role = |size: usize| json!({"metadata": {"name": "a"}, "rules": [rule('x', size)]});
    let refused = api.post(&roles, role(1600 << 10)).await.expect(413);
    assert_eq!(refused["reason"], "RequestEntityTooLarge");
    let text = refused["message"].as_str().unwrap();
    assert!(
        text.starts_with("etcdserver: request is too large"),
        "{text}"
    );
    api.post(&roles, role(1500 << 10)).await.expect(201);
    // Nor by growing.
    let path = format!("{roles}/a");
    let more = json!({"rules": [rule('x', 1500 << 10), rule('y', 100 << 10)]});
    api.merge(&path, more).await.expect(413);
    api.put(&path, &role(1600 << 10)).await.expect(413);
    let kept = api.get(&path).await.expect(200);
    assert_eq!(kept["rules"], json!([rule('x', 1500 << 10)]));
}

/// A rule of so many bytes.
fn rule(fill: char, size: usize) -> serde_json::Value {
    json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": [fill.to_string().repeat(size)]})
}

#[tokio::test]
async fn many_names_leave_watches_for_the_system() {
    let api = Api::start_with(|config| {
        with_users(config);
        config.limits.max_watches = 8;
        config.limits.max_watches_per_user = 4;
    })
    .await;
    for user in ["mallory", "jane"] {
        bind(&api, user, "view", user).await;
    }
    let mut sender = http2(&api).await;
    let mut open = Vec::new();
    let mut codes = Vec::new();
    for (user, path) in [("mallory", CONFIG_MAPS); 4]
        .into_iter()
        .chain([("jane", CONFIG_MAPS); 3])
        .chain([("system:node:a", crate::harness::CLASSES); 2])
    {
        let path = format!("{path}?watch=true");
        let watch = request("GET", &path, user, empty());
        let response = answered(sender.send_request(watch)).await;
        codes.push(response.status().as_u16());
        open.push(response);
    }
    assert_eq!(codes, [200, 200, 200, 200, 200, 200, 429, 200, 200]);
}
