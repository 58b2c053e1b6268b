//! Tokens and Secrets: those of the node's pods.

use serde_json::{Value, json};

use super::{SECRETS, mirror, node, patch, placed, register, start};
use crate::harness::{CONFIG_MAPS, PODS, pod};

#[tokio::test]
async fn a_node_gets_tokens_that_its_pods_mount_and_no_others() {
    let api = start().await;
    register(&api, "n1").await;
    register(&api, "n2").await;
    let mine = placed(&api, "mine", "n1").await;
    let other = placed(&api, "other", "n2").await;
    let account = json!({"metadata": {"name": "strong"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    api.post(accounts, account).await.expect(201);
    let ask = async |account: &str, pod: Option<&Value>, audiences: Value, seconds: i64| {
        let bound = pod.map(|p| json!({"kind": "Pod", "apiVersion": "v1", "name": p["metadata"]["name"], "uid": p["metadata"]["uid"]}));
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": bound}});
        let path = format!("{accounts}/{account}/token");
        node(&api, "n1", "POST", &path, Some(body)).await.code
    };
    let mut reborn = mine.clone();
    reborn["metadata"]["uid"] = json!("another");
    assert_eq!(ask("default", Some(&mine), json!([]), 3600).await, 201);
    assert_eq!(ask("default", None, json!([]), 3600).await, 403);
    assert_eq!(ask("default", Some(&other), json!([]), 3600).await, 403);
    assert_eq!(ask("default", Some(&reborn), json!([]), 3600).await, 403);
    assert_eq!(ask("default", Some(&mine), json!([]), 86_400).await, 403);
    assert_eq!(
        ask("default", Some(&mine), json!(["vault"]), 3600).await,
        403
    );
    assert_eq!(
        ask("default", Some(&mine), json!(["api", "vault"]), 3600).await,
        403
    );
    assert_eq!(ask("strong", Some(&mine), json!([]), 3600).await, 403);
}

#[tokio::test]
async fn a_node_reads_secrets_one_by_one_and_only_its_pods() {
    let api = start().await;
    let n1 = register(&api, "n1").await;
    for name in ["mine", "other"] {
        api.post(SECRETS, json!({"metadata": {"name": name}}))
            .await
            .expect(201);
        api.config_map(name, json!({})).await;
    }
    let mut mounting = pod("p");
    mounting["spec"]["nodeName"] = json!("n1");
    mounting["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "mine"}}, {"name": "c", "configMap": {"name": "mine"}}]);
    api.post(PODS, mounting).await.expect(201);
    for at in [SECRETS, CONFIG_MAPS] {
        for (path, code) in [
            (format!("{at}/mine"), 200),
            (format!("{at}?fieldSelector=metadata.name=mine"), 200),
            (format!("{at}/other"), 403),
            (format!("{at}?fieldSelector=metadata.name=other"), 403),
            (at.to_owned(), 403),
            (format!("{at}?watch=true"), 403),
        ] {
            assert_eq!(
                node(&api, "n1", "GET", &path, None).await.code,
                code,
                "{path}"
            );
            assert_eq!(
                node(&api, "n2", "GET", &path, None).await.code,
                403,
                "{path}"
            );
        }
        assert_eq!(
            patch(&api, "n1", &format!("{at}/mine"), json!({"data": null})).await,
            403
        );
    }
    // a mirror pod in the store that refers to something, however it came there, gives nothing
    let mut forged = mirror(&n1);
    forged["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "other"}}]);
    let forged = api.post(PODS, forged).await;
    assert!(matches!(forged.code, 201 | 403 | 422), "{}", forged.text);
    let path = format!("{SECRETS}/other");
    assert_eq!(node(&api, "n1", "GET", &path, None).await.code, 403);
}
