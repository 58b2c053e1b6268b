//! Watches: resuming, selections, bookmarks, streamed lists.

use serde_json::json;

use crate::harness::{Api, CLASSES, CONFIG_MAPS, class};

#[tokio::test]
async fn a_watch_resumes_where_a_list_ended() {
    let api = Api::start().await;
    api.config_map("a", json!({})).await;
    let list = api.get(CONFIG_MAPS).await.expect(200);
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    api.config_map("b", json!({})).await;
    api.merge(&format!("{CONFIG_MAPS}/a"), json!({"data": {"x": "y"}}))
        .await
        .expect(200);
    let mut watch = api
        .watch(&format!(
            "{CONFIG_MAPS}?watch=true&resourceVersion={version}"
        ))
        .await;
    assert_eq!(watch.told().await, ("ADDED".to_owned(), "b".to_owned()));
    assert_eq!(watch.told().await, ("MODIFIED".to_owned(), "a".to_owned()));
    api.delete(&format!("{CONFIG_MAPS}/b")).await.expect(200);
    let gone = watch.next().await.unwrap();
    assert_eq!(gone["type"], "DELETED");
    let at: i64 = gone["object"]["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(at > version.parse().unwrap());
}

#[tokio::test]
async fn objects_that_enter_and_leave_a_selection_are_added_and_deleted() {
    let api = Api::start().await;
    let mut watch = api
        .watch(&format!("{CONFIG_MAPS}?watch=true&labelSelector=team=red"))
        .await;
    let path = format!("{CONFIG_MAPS}/a");
    api.config_map("other", json!({"team": "blue"})).await;
    api.config_map("a", json!({"team": "blue"})).await;
    api.merge(&path, json!({"metadata": {"labels": {"team": "red"}}}))
        .await
        .expect(200);
    assert_eq!(watch.told().await, ("ADDED".to_owned(), "a".to_owned()));
    api.merge(&path, json!({"data": {"x": "y"}}))
        .await
        .expect(200);
    assert_eq!(watch.told().await, ("MODIFIED".to_owned(), "a".to_owned()));
    let left = api
        .merge(&path, json!({"metadata": {"labels": {"team": null}}}))
        .await
        .expect(200);
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["labels"]["team"], "red");
    assert_eq!(
        event["object"]["metadata"]["resourceVersion"],
        left["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn a_streamed_list_ends_with_a_bookmark() {
    let api = Api::start().await;
    api.config_map("a", json!({})).await;
    api.config_map("b", json!({})).await;
    let mut watch = api
        .watch(&format!(
            "{CONFIG_MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
        ))
        .await;
    assert_eq!(watch.told().await, ("ADDED".to_owned(), "a".to_owned()));
    assert_eq!(watch.told().await, ("ADDED".to_owned(), "b".to_owned()));
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let version = mark["object"]["metadata"]["resourceVersion"]
        .as_str()
        .unwrap();
    api.config_map("c", json!({})).await;
    assert_eq!(watch.told().await, ("ADDED".to_owned(), "c".to_owned()));
    let mut resumed = api
        .watch(&format!(
            "{CONFIG_MAPS}?watch=true&resourceVersion={version}"
        ))
        .await;
    assert_eq!(resumed.told().await, ("ADDED".to_owned(), "c".to_owned()));
    let refused = api
        .get(&format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true"))
        .await;
    assert_eq!(refused.code, 422);
}

#[tokio::test]
async fn a_watch_ends_in_time_with_a_bookmark() {
    let api = Api::start().await;
    let path = format!(
        "{CONFIG_MAPS}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion=0"
    );
    let mut watch = api.watch(&path).await;
    let last = watch.next().await.unwrap();
    assert_eq!(last["type"], "BOOKMARK");
    assert_eq!(last["object"]["kind"], "ConfigMap");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_past_that_is_gone_is_told_as_expired() {
    let api = Api::start().await;
    let big = "x".repeat(300_000);
    let mut version = String::new();
    for n in 0..20 {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("big{n}")}, "data": {"x": big}});
        let made = api.post(CONFIG_MAPS, body).await.expect(201);
        if n == 0 {
            version = made["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .to_owned();
        }
    }
    let mut watch = api
        .watch(&format!(
            "{CONFIG_MAPS}?watch=true&resourceVersion={version}"
        ))
        .await;
    let error = watch.next().await.unwrap();
    assert_eq!(error["type"], "ERROR");
    assert_eq!(error["object"]["code"], 410);
    assert_eq!(error["object"]["reason"], "Expired");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn one_class_is_watched_in_every_version() {
    let api = Api::start().await;
    let mut alpha = api
        .watch("/apis/node.k8s.io/v1alpha1/runtimeclasses?watch=true")
        .await;
    let mut beta = api
        .watch("/apis/node.k8s.io/v1beta1/runtimeclasses?watch=true")
        .await;
    api.post(CLASSES, class("a", "runsc")).await.expect(201);
    let event = alpha.next().await.unwrap();
    assert_eq!(event["object"]["apiVersion"], "node.k8s.io/v1alpha1");
    assert_eq!(event["object"]["spec"]["runtimeHandler"], "runsc");
    let event = beta.next().await.unwrap();
    assert_eq!(event["object"]["apiVersion"], "node.k8s.io/v1beta1");
    assert_eq!(event["object"]["handler"], "runsc");
}

#[tokio::test]
async fn a_watch_that_was_open_resumes_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start_in(dir.path()).await;
    let first = api.config_map("a", json!({})).await;
    let version = first["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    api.config_map("b", json!({})).await;
    api.stop().await;
    let api = Api::start_in(dir.path()).await;
    let mut watch = api
        .watch(&format!(
            "{CONFIG_MAPS}?watch=true&resourceVersion={version}"
        ))
        .await;
    assert_eq!(watch.told().await, ("ADDED".to_owned(), "b".to_owned()));
}
