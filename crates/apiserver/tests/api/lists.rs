//! Lists: pages of one moment, versions, selectors.

use serde_json::json;

use crate::harness::{Api, CONFIG_MAPS, names};

#[tokio::test]
async fn pages_show_one_moment_whatever_happens_between_them() {
    let api = Api::start().await;
    for n in 1..=5 {
        api.config_map(&format!("p{n}"), json!({})).await;
    }
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2")).await.expect(200);
    assert_eq!(names(&first), ["p1", "p2"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    api.delete(&format!("{CONFIG_MAPS}/p3")).await.expect(200);
    api.config_map("p33", json!({})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = api
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"))
        .await
        .expect(200);
    assert_eq!(names(&second), ["p3", "p4"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = api
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"))
        .await
        .expect(200);
    assert_eq!(names(&third), ["p5"]);
    assert_eq!(third["metadata"].get("continue"), None);
    let now = api.get(CONFIG_MAPS).await.expect(200);
    assert_eq!(names(&now), ["p1", "p2", "p33", "p4", "p5"]);
}

#[tokio::test]
async fn an_exact_version_is_that_moment_and_no_other() {
    let api = Api::start().await;
    api.config_map("a", json!({})).await;
    let then = api.get(CONFIG_MAPS).await.expect(200)["metadata"]["resourceVersion"].clone();
    let then = then.as_str().unwrap();
    api.config_map("b", json!({})).await;
    let exact = format!("{CONFIG_MAPS}?resourceVersion={then}&resourceVersionMatch=Exact");
    let list = api.get(&exact).await.expect(200);
    assert_eq!(names(&list), ["a"]);
    assert_eq!(list["metadata"]["resourceVersion"], then);
    let newer = format!("{CONFIG_MAPS}?resourceVersion={then}&resourceVersionMatch=NotOlderThan");
    assert_eq!(names(&api.get(&newer).await.expect(200)), ["a", "b"]);
    assert_eq!(
        names(
            &api.get(&format!("{CONFIG_MAPS}?resourceVersion=0"))
                .await
                .expect(200)
        ),
        ["a", "b"]
    );
    let bad = api.get(&format!("{CONFIG_MAPS}?resourceVersion=x")).await;
    assert_eq!(bad.code, 400);
}

#[tokio::test]
async fn namespaces_that_begin_alike_are_kept_apart() {
    let api = Api::start().await;
    for name in ["team", "team-a"] {
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        api.post("/api/v1/namespaces", body).await.expect(201);
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("in-{name}")}});
        api.post(&format!("/api/v1/namespaces/{name}/configmaps"), body)
            .await
            .expect(201);
    }
    let of = |ns: &str| format!("/api/v1/namespaces/{ns}/configmaps");
    assert_eq!(names(&api.get(&of("team")).await.expect(200)), ["in-team"]);
    assert_eq!(
        names(&api.get(&of("team-a")).await.expect(200)),
        ["in-team-a"]
    );
    let all = api
        .get("/api/v1/configmaps?fieldSelector=metadata.namespace=team")
        .await
        .expect(200);
    assert_eq!(names(&all), ["in-team"]);
    let pages = api.get("/api/v1/configmaps?limit=1").await.expect(200);
    let token = pages["metadata"]["continue"].as_str().unwrap().to_owned();
    api.config_map("moved-on", json!({})).await;
    let rest = api
        .get(&format!("/api/v1/configmaps?continue={token}"))
        .await
        .expect(200);
    let mut both = names(&pages);
    both.extend(names(&rest));
    both.retain(|n| n.starts_with("in-"));
    both.sort();
    assert_eq!(both, ["in-team", "in-team-a"]);
}

#[tokio::test]
async fn field_selectors_know_their_kind() {
    let api = Api::start().await;
    let secret = |name: &str, kind: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind});
    api.post("/api/v1/namespaces/default/secrets", secret("a", "Opaque"))
        .await
        .expect(201);
    api.post(
        "/api/v1/namespaces/default/secrets",
        secret("b", "example.com/x"),
    )
    .await
    .expect(201);
    let opaque = api
        .get("/api/v1/secrets?fieldSelector=type=Opaque")
        .await
        .expect(200);
    assert_eq!(names(&opaque), ["a"]);
    let unknown = api
        .get("/api/v1/secrets?fieldSelector=spec.nodeName=x")
        .await
        .expect(400);
    assert_eq!(
        unknown["message"],
        "field label not supported: spec.nodeName"
    );
}

#[tokio::test]
async fn a_version_of_the_future_is_told_by_its_cause() {
    let api = Api::start().await;
    let answer = api
        .get("/api/v1/configmaps?resourceVersion=999999999")
        .await;
    assert_eq!(answer.headers["retry-after"], "1");
    let status = answer.expect(504);
    assert_eq!(status["reason"], "Timeout");
    assert_eq!(
        status["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
    assert_eq!(status["details"]["retryAfterSeconds"], 1);
}

#[tokio::test]
async fn events_are_found_by_who_reports_them() {
    let api = Api::start().await;
    let event = |name: &str| {
        json!({"metadata": {"name": name, "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "tester", "reportingInstance": "t", "action": "Do", "reason": "Test", "type": "Normal",
            "regarding": {"kind": "Pod", "namespace": "default", "name": "p", "apiVersion": "v1", "fieldPath": "spec"}})
    };
    let new = "/apis/events.k8s.io/v1/namespaces/default/events";
    api.post(new, event("new")).await.expect(201);
    let old = json!({"metadata": {"name": "old"}, "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        "source": {"component": "kubelet"}, "reportingComponent": "tester", "reason": "Test"});
    let core = "/api/v1/namespaces/default/events";
    api.post(core, old).await.expect(201);
    for (path, selector, want) in [
        // the source of an event that names none is its reporting controller
        (core, "source=tester", vec!["new"]),
        (core, "source=kubelet", vec!["old"]),
        (core, "reportingComponent=tester", vec!["new", "old"]),
        (new, "reportingController=tester", vec!["new", "old"]),
        (
            new,
            "regarding.fieldPath=spec,regarding.apiVersion=v1",
            vec!["new"],
        ),
    ] {
        let list = api
            .get(&format!("{path}?fieldSelector={selector}"))
            .await
            .expect(200);
        let names: Vec<&str> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, want, "{path} {selector}");
    }
}

#[tokio::test]
async fn a_list_whose_past_is_gone_goes_on_in_the_present() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let api = Api::start().await;
    for n in 1..=5 {
        api.config_map(&format!("p{n}"), json!({})).await;
    }
    // what the answer to an expired token has in its metadata
    let page = async |start: &str, limit: usize| {
        let token = json!({"v": "meta.k8s.io/v1", "rv": -1, "start": start}).to_string();
        let token = URL_SAFE_NO_PAD.encode(token);
        api.get(&format!("{CONFIG_MAPS}?limit={limit}&continue={token}"))
            .await
    };
    api.delete(&format!("{CONFIG_MAPS}/p3")).await.expect(200);
    let second = page("default/p2", 1).await.expect(200);
    assert_eq!(names(&second), ["p4"]);
    assert_eq!(second["metadata"]["remainingItemCount"], 1);
    // from there on the pages are of one moment again
    api.delete(&format!("{CONFIG_MAPS}/p5")).await.expect(200);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = api
        .get(&format!("{CONFIG_MAPS}?limit=1&continue={token}"))
        .await
        .expect(200);
    assert_eq!(names(&third), ["p5"]);
    // nobody comes to another namespace's objects by it
    page("kube-system/p2", 1).await.expect(400);
}
