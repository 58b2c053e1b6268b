//! Large objects that are asked for, or changed, by small requests.

use serde_json::{Value, json};

use super::*;
use crate::harness::{CONFIG_MAPS, PODS, bind, pod};

/// A ConfigMap of more than a megabyte, with who manages its fields, that has very many parts.
fn crowded(name: &str) -> Value {
    let data: serde_json::Map<String, Value> = (0..35_000)
        .map(|n| (format!("key-{n:08}"), json!("")))
        .collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// A server with a tenant `mallory`.
async fn with_tenant() -> Api {
    let api = Api::start_with(with_users).await;
    bind(&api, "tenant", "edit", "mallory").await;
    api
}

/// A request of `mallory` under way, whose answer nobody waits for.
async fn under_way(api: &Api, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
    let head = head(method, path, "mallory");
    let length = body.len();
    sent(
        api,
        format!("{head}{headers}Content-Length: {length}\r\n\r\n{body}"),
    )
    .await
}

#[tokio::test]
async fn small_patches_of_a_large_object_keep_nobody_waiting() {
    let api = with_tenant().await;
    api.post(CONFIG_MAPS, crowded("a")).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let patch = "Content-Type: application/merge-patch+json\r\n";
    let mut all = Vec::new();
    for n in 0..4 {
        let body = json!({"metadata": {"labels": {"n": n.to_string()}}}).to_string();
        all.push(under_way(&api, "PATCH", &path, patch, &body).await);
    }
    // So are those who only look, in another form.
    for accept in [
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        "application/yaml",
    ] {
        let accept = format!("Accept: {accept}\r\n");
        all.push(under_way(&api, "GET", &path, &accept, "").await);
    }
    others_are_served(&api).await;
}

#[tokio::test]
async fn watches_of_the_metadata_of_large_objects_keep_nobody_waiting() {
    let api = with_tenant().await;
    api.post(CONFIG_MAPS, crowded("a")).await.expect(201);
    let mut watches = Vec::new();
    for shape in ["PartialObjectMetadata", "Table"] {
        for _ in 0..4 {
            let accept = format!("Accept: application/json;as={shape};g=meta.k8s.io;v=v1\r\n");
            let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion=1");
            let mut watch = under_way(&api, "GET", &path, &accept, "").await;
            let mut first = [0; 12];
            watch.read_exact(&mut first).await.unwrap();
            watches.push(watch);
        }
    }
    others_are_served(&api).await;
    let change = json!({"metadata": {"labels": {"a": "b"}}});
    api.merge(&format!("{CONFIG_MAPS}/a"), change)
        .await
        .expect(200);
    others_are_served(&api).await;
}

#[tokio::test]
async fn pods_that_a_quota_counts_keep_nobody_waiting() {
    let api = with_tenant().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "100"}}});
    api.post("/api/v1/namespaces/default/resourcequotas", quota)
        .await
        .expect(201);
    let env: Vec<Value> = (0..14_000)
        .map(|n| json!({"name": format!("V{n:08}"), "value": ""}))
        .collect();
    for n in 0..4 {
        let mut large = pod(&format!("large{n}"));
        large["spec"]["containers"][0]["env"] = json!(env);
        api.post(PODS, large).await.expect(201);
    }
    let mut all = Vec::new();
    let json = "Content-Type: application/json\r\n";
    for n in 0..3 {
        let body = pod(&format!("small{n}")).to_string();
        all.push(under_way(&api, "POST", PODS, json, &body).await);
    }
    others_are_served(&api).await;
    for answer in &mut all {
        let mut first = [0; 12];
        answer.read_exact(&mut first).await.unwrap();
        assert_eq!(&first[9..], b"201");
    }
}

#[tokio::test]
async fn indentation_does_not_multiply_an_answer() {
    let api = with_tenant().await;
    // A field that only the server reads, and that nests as deep as somebody likes.
    let members: serde_json::Map<String, Value> =
        (0..20_000).map(|n| (format!("f:{n}"), json!({}))).collect();
    let fields = (0..95).fold(Value::Object(members), |inner, _| json!({"f:x": inner}));
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": [
        {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields}]}});
    api.post(CONFIG_MAPS, body).await.expect(201);
    let plain = api.get(&format!("{CONFIG_MAPS}/a")).await;
    let pretty = api.get(&format!("{CONFIG_MAPS}/a?pretty=true")).await;
    assert!(
        pretty.text.len() < 3 * plain.text.len(),
        "{} of {}",
        pretty.text.len(),
        plain.text.len()
    );
    assert_eq!(plain.expect(200), pretty.expect(200));
    // What people look at is indented.
    let small = api.get("/api/v1/namespaces/default?pretty=true").await.text;
    assert!(
        small.starts_with("{\n  \"apiVersion\": \"v1\",\n"),
        "{small}"
    );
}

/// Managers that write once, under a name that they choose, do not fill an object that others have to write.
#[tokio::test]
async fn who_wrote_an_object_does_not_fill_it() {
    let api = with_tenant().await;
    api.post(
        CONFIG_MAPS,
        json!({"metadata": {"name": "a"}, "data": {"first": "v"}}),
    )
    .await
    .expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    for n in 0..30 {
        let agent = format!("{n}{}", "x".repeat(20_000));
        let headers = [
            ("user-agent", agent.as_str()),
            ("content-type", "application/merge-patch+json"),
        ];
        let change = json!({"data": {format!("k{n}"): "v"}}).to_string();
        api.raw("PATCH", &path, &headers, change).await.expect(200);
    }
    let object = api.get(&path).await.expect(200);
    let managers: Vec<&str> = object["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["manager"].as_str().unwrap())
        .collect();
    assert!(managers.len() <= 10, "{}", managers.len());
    assert!(managers.iter().all(|name| name.len() <= 128));
    assert!(managers.contains(&"ancient-changes"), "{managers:?}");
    // Nothing of what they own is lost.
    let owned: usize = object["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["fieldsV1"]["f:data"].as_object())
        .map(|data| data.keys().filter(|key| key.starts_with("f:k")).count())
        .sum();
    assert_eq!(owned, 30);
}
