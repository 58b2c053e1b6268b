//! Names, tokens and selectors that lead elsewhere, or cost more than they are worth.

use serde_json::{Value, json};

use crate::harness::{Api, CONFIG_MAPS, as_user, bind, names};

const EVENTS: &str = "/api/v1/namespaces/default/events";

fn event(metadata: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Event", "metadata": metadata,
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "reason": "x", "type": "Normal"})
}

#[tokio::test]
async fn every_object_has_metadata_that_could_be_asked_for() {
    let api = Api::start().await;
    bind(&api, "tenant", "edit", "mallory").await;
    let post = async |path: &str, body: Value| {
        as_user(&api, "mallory", &[], "POST", path, Some(body)).await
    };
    // Nobody could read or delete what has no name that a path can have.
    for metadata in [
        json!({"name": "a/b"}),
        json!({"name": ".."}),
        json!({"name": "a%b"}),
        json!({"name": ""}),
        json!({}),
        json!({"generateName": "a/"}),
        json!({"name": "a", "labels": {"a b": "c"}}),
        json!({"name": "a", "finalizers": ["no finalizer"]}),
        json!({"name": "a", "ownerReferences": [{"apiVersion": "", "kind": "", "name": "", "uid": ""}]}),
        json!({"name": "a", "annotations": {"a": "x".repeat(300 << 10)}}),
    ] {
        let shown = metadata.to_string();
        let answer = post(EVENTS, event(metadata)).await;
        assert_eq!(answer.code, 422, "{shown:.200}: {:.500}", answer.text);
    }
    post(EVENTS, event(json!({"name": "p.17f0"})))
        .await
        .expect(201);
    let mut changed = event(json!({"name": "p.17f0"}));
    changed["metadata"]["labels"] = json!({"a b": "c"});
    let path = format!("{EVENTS}/p.17f0");
    let answer = as_user(&api, "mallory", &[], "PUT", &path, Some(changed)).await;
    assert_eq!(answer.code, 422, "{}", answer.text);
    let list = api.get(EVENTS).await.expect(200);
    assert_eq!(names(&list), ["p.17f0"]);
}

#[tokio::test]
async fn a_token_goes_on_in_its_own_list_only() {
    let api = Api::start().await;
    api.post("/api/v1/namespaces", json!({"metadata": {"name": "a"}}))
        .await
        .expect(201);
    for path in [CONFIG_MAPS, "/api/v1/namespaces/a/configmaps"] {
        for name in ["x", "y", "z"] {
            let body = json!({"metadata": {"name": name}});
            api.post(path, body).await.expect(201);
        }
    }
    let token = async |path: &str| {
        let path = format!("{path}?limit=1");
        let list = api.get(&path).await.expect(200);
        list["metadata"]["continue"].as_str().unwrap().to_owned()
    };
    let elsewhere = token("/api/v1/namespaces/a/configmaps").await;
    // Also when the list is read from the store, as it was before something has changed.
    for change in [false, true] {
        if change {
            api.post(CONFIG_MAPS, json!({"metadata": {"name": "w"}}))
                .await
                .expect(201);
        }
        let answer = api
            .get(&format!("{CONFIG_MAPS}?continue={elsewhere}"))
            .await;
        assert_eq!(answer.code, 400, "{}", answer.text);
        assert!(answer.text.contains("continue key is not valid"));
    }
    let own = token(CONFIG_MAPS).await;
    let path = format!("{CONFIG_MAPS}?continue={own}");
    let rest = api.get(&path).await.expect(200);
    assert_eq!(names(&rest), ["x", "y", "z"]);
    // Everybody's list goes on anywhere, for who may read it.
    let path = format!("/api/v1/configmaps?continue={elsewhere}");
    let rest = api.get(&path).await.expect(200);
    assert_eq!(rest["items"][0]["metadata"]["name"], "y");
}

#[tokio::test]
async fn a_selector_has_so_many_requirements() {
    let api = Api::start().await;
    bind(&api, "tenant", "view", "mallory").await;
    let labels: Vec<String> = (0..300).map(|n| format!("a{n}!=b")).collect();
    let fields: Vec<String> = (0..300).map(|n| format!("metadata.name!=b{n}")).collect();
    let values: Vec<String> = (0..300).map(|n| format!("b{n}")).collect();
    let get = async |query: String| {
        let path = format!("{CONFIG_MAPS}?{query}");
        as_user(&api, "mallory", &[], "GET", &path, None).await
    };
    for watch in ["", "&watch=true&timeoutSeconds=1"] {
        for query in [
            format!("labelSelector={}", labels.join(",").replace('!', "%21")),
            format!("fieldSelector={}", fields.join(",").replace('!', "%21")),
        ] {
            let answer = get(format!("{query}{watch}")).await;
            assert_eq!(answer.code, 400, "{}", answer.text);
            assert!(answer.text.contains("more than 256 requirements"));
        }
    }
    get(format!("labelSelector=a in ({})", values.join(",")))
        .await
        .expect(200);
}
