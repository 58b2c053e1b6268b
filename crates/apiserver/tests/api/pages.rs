//! Pages of a past that is gone, what a list may ask for, and how long a client waits.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_store::Store;
use berth_store::sqlite::Sqlite;
use serde_json::{Value, json};

use crate::harness::{Api, CONFIG_MAPS, names};

fn version(object: &Value) -> i64 {
    let version = object["metadata"]["resourceVersion"].as_str().unwrap();
    version.parse().unwrap()
}

fn token(of: Value) -> String {
    URL_SAFE_NO_PAD.encode(of.to_string())
}

#[tokio::test]
async fn a_list_whose_past_is_gone_can_go_on_with_the_present() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start_in(dir.path()).await;
    for n in 1..=5 {
        api.config_map(&format!("p{n}"), json!({})).await;
    }
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2")).await.expect(200);
    let begun = version(&first);
    let next = first["metadata"]["continue"].as_str().unwrap().to_owned();
    api.delete(&format!("{CONFIG_MAPS}/p3")).await.expect(200);
    let last = version(&api.config_map("p33", json!({})).await);
    // A page of the past estimates what is left.
    let second = api
        .get(&format!("{CONFIG_MAPS}?limit=1&continue={next}"))
        .await
        .expect(200);
    assert_eq!(names(&second), ["p3"]);
    assert_eq!(second["metadata"]["remainingItemCount"], 3);
    api.stop().await;
    let store = Sqlite::open(dir.path()).await.unwrap();
    store.compact(last).await.unwrap();
    drop(store);

    let api = Api::start_in(dir.path()).await;
    let path = format!("{CONFIG_MAPS}?limit=2&continue={next}");
    let expired = api.get(&path).await.expect(410);
    assert_eq!(expired["reason"], "Expired");
    assert_eq!(
        expired["message"],
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
         the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
         Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
         deleted between the time the first chunk was returned and now may show up in the list."
    );
    let mut next = expired["metadata"]["continue"].as_str().unwrap().to_owned();
    let mut rest = Vec::new();
    loop {
        let page = api
            .get(&format!("{CONFIG_MAPS}?limit=2&continue={next}"))
            .await
            .expect(200);
        assert!(version(&page) >= last);
        rest.extend(names(&page));
        match page["metadata"]["continue"].as_str() {
            Some(token) => next = token.to_owned(),
            None => break,
        }
    }
    assert_eq!(rest, ["p33", "p4", "p5"]);
    // Without a token there is nothing to go on with.
    let exact = format!("{CONFIG_MAPS}?resourceVersion={begun}&resourceVersionMatch=Exact");
    let expired = api.get(&exact).await.expect(410);
    assert_eq!(
        expired["message"],
        "The resourceVersion for the provided list is too old."
    );
    assert_eq!(expired["metadata"], json!({}));
}

#[tokio::test]
async fn tokens_and_versions_that_are_none() {
    let api = Api::start().await;
    api.config_map("a", json!({})).await;
    let of = |version: &str, revision: i64, start: &str| {
        token(json!({"v": version, "rv": revision, "start": start}))
    };
    for (query, code, part) in [
        (
            "continue=%25%25".to_owned(),
            400,
            "invalid continue token: continue key is not valid: ",
        ),
        (
            format!("continue={}", token(json!([]))),
            400,
            "invalid continue token: continue key is not valid: ",
        ),
        (
            format!("continue={}", of("v0", 1, "default/a")),
            400,
            "invalid continue token: continue key is not valid: server does not recognize this encoded version",
        ),
        (
            format!("continue={}", of("meta.k8s.io/v1", 0, "default/a")),
            400,
            "invalid continue token: continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ),
        (
            format!("continue={}", of("meta.k8s.io/v1", 1, "")),
            400,
            "invalid continue token: continue key is not valid: encoded start key empty (version meta.k8s.io/v1)",
        ),
        (
            format!("continue={}", of("meta.k8s.io/v1", -1, "kube-system/a")),
            400,
            "it is of another list",
        ),
        (
            format!(
                "continue={}&resourceVersion=5",
                of("meta.k8s.io/v1", -1, "default/a")
            ),
            400,
            "specifying resource version is not allowed when using continue",
        ),
        (
            "resourceVersion=x".to_owned(),
            400,
            "invalid resource version: resourceVersion: Invalid value: \\\"x\\\": strconv.ParseUint: parsing \\\"x\\\": invalid syntax",
        ),
        (
            "resourceVersion=-1".to_owned(),
            400,
            "invalid resource version",
        ),
        ("limit=x".to_owned(), 400, "limit"),
        (
            format!("continue={}", of("meta.k8s.io/v1", -1, "default/A")),
            200,
            "\"a\"",
        ),
        (
            format!(
                "continue={}&resourceVersion=0",
                of("meta.k8s.io/v1", -7, "default/A")
            ),
            200,
            "\"a\"",
        ),
        ("limit=-1".to_owned(), 200, "\"a\""),
        (
            "limit=1&resourceVersion=0&resourceVersionMatch=NotOlderThan".to_owned(),
            200,
            "\"a\"",
        ),
    ] {
        let answer = api.get(&format!("{CONFIG_MAPS}?{query}")).await;
        assert_eq!(answer.code, code, "{query}: {}", answer.text);
        assert!(answer.text.contains(part), "{query}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_client_says_how_long_it_waits() {
    let api = Api::start().await;
    api.config_map("a", json!({})).await;
    // A version of the future is waited for, for three seconds if the client has them.
    let begun = std::time::Instant::now();
    let late = api
        .get(&format!(
            "{CONFIG_MAPS}?resourceVersion=999999999&timeout=200ms"
        ))
        .await
        .expect(504);
    assert!(begun.elapsed() < std::time::Duration::from_secs(2));
    assert_eq!(late["reason"], "Timeout");
    for (timeout, code, part) in [
        ("5s", 200, ""),
        ("1h", 200, ""),
        ("0", 200, ""),
        ("0s", 200, ""),
        ("-3s", 200, ""),
        ("", 200, ""),
        (
            "x",
            400,
            "invalid timeout specified in the request URL - time: invalid duration \\\"x\\\"",
        ),
        (
            "30",
            400,
            "invalid timeout specified in the request URL - time: missing unit in duration \\\"30\\\"",
        ),
        ("1s&timeout=2s", 400, "given more than once"),
    ] {
        let answer = api.get(&format!("{CONFIG_MAPS}?timeout={timeout}")).await;
        assert_eq!(answer.code, code, "{timeout}: {}", answer.text);
        assert!(answer.text.contains(part), "{timeout}: {}", answer.text);
    }
    // Writes, too; a watch has its own word for it.
    let body = json!({"metadata": {"name": "b"}});
    api.post(&format!("{CONFIG_MAPS}?timeout=x"), body.clone())
        .await
        .expect(400);
    api.post(&format!("{CONFIG_MAPS}?timeout=10s"), body)
        .await
        .expect(201);
    let mut watch = api
        .watch(&format!("{CONFIG_MAPS}?watch=true&timeout=x"))
        .await;
    assert_eq!(watch.told().await.0, "ADDED");
}

#[tokio::test]
async fn a_watch_may_begin_before_its_version_is_there() {
    let api = Api::start().await;
    let now = version(&api.config_map("a", json!({})).await);
    // As of a client that has listed at another server, which is ahead of this one.
    let from = now + 5;
    let mut watch = api
        .watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={from}"))
        .await;
    let mut first = None;
    for n in 0..10 {
        let made = api.config_map(&format!("m{n}"), json!({})).await;
        if version(&made) > from && first.is_none() {
            first = made["metadata"]["name"].as_str().map(str::to_owned);
        }
    }
    assert_eq!(watch.told().await, ("ADDED".to_owned(), first.unwrap()));
    let begun = std::time::Instant::now();
    let refused = api
        .get(&format!(
            "{CONFIG_MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion={}",
            now + 1_000_000
        ))
        .await;
    assert_eq!(refused.code, 504, "{}", refused.text);
    assert!(refused.text.contains("Too large resource version"));
    assert!(begun.elapsed() >= std::time::Duration::from_secs(2));
}

#[tokio::test]
async fn initial_events_with_and_without_bookmarks() {
    let api = Api::start().await;
    api.config_map("a", json!({})).await;
    let path = |more: &str| {
        format!(
            "{CONFIG_MAPS}?watch=true&resourceVersionMatch=NotOlderThan&sendInitialEvents={more}"
        )
    };
    let mut watch = api.watch(&path("true&timeoutSeconds=1")).await;
    assert_eq!(watch.told().await, ("ADDED".to_owned(), "a".to_owned()));
    assert_eq!(
        watch.next().await,
        None,
        "no bookmark that nobody asked for"
    );
    for begins_now in ["false", "false&resourceVersion=0"] {
        let mut watch = api.watch(&path(begins_now)).await;
        let name = format!("n{}", begins_now.len());
        api.config_map(&name, json!({})).await;
        assert_eq!(watch.told().await, ("ADDED".to_owned(), name));
    }
}
