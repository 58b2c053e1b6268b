//! Forms of requests and answers: media types, tables, metadata, sizes, events' two views.

use serde_json::json;

use crate::harness::{Api, CLASSES, CONFIG_MAPS, PODS, class, pod};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

#[tokio::test]
async fn answers_take_the_form_that_is_asked_for() {
    let api = Api::start().await;
    api.post(CLASSES, class("a", "runc")).await.expect(201);
    let table = api
        .raw("GET", CLASSES, &[("accept", TABLE)], "")
        .await
        .expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][1], "runc");
    let metadata = api
        .raw("GET", CLASSES, &[("accept", METADATA)], "")
        .await
        .expect(200);
    assert_eq!(metadata["kind"], "PartialObjectMetadataList");
    assert_eq!(metadata["items"][0]["kind"], "PartialObjectMetadata");
    assert_eq!(metadata["items"][0].get("handler"), None);
    let yaml = api
        .raw(
            "GET",
            &format!("{CLASSES}/a"),
            &[("accept", "application/yaml")],
            "",
        )
        .await;
    assert_eq!(yaml.code, 200);
    assert!(yaml.text.contains("handler: runc"), "{}", yaml.text);
    let unknown = [("accept", "application/cbor")];
    assert_eq!(api.raw("GET", CLASSES, &unknown, "").await.code, 406);
    let head = api.raw("HEAD", &format!("{CLASSES}/a"), &[], "").await;
    assert_eq!((head.code, head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn requests_are_read_as_what_they_say_they_are() {
    let api = Api::start().await;
    let yaml =
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: why\nhandler: runc\n";
    let made = api
        .raw(
            "POST",
            CLASSES,
            &[("content-type", "application/yaml")],
            yaml,
        )
        .await;
    assert_eq!(made.expect(201)["handler"], "runc");
    let text = api
        .raw("POST", CLASSES, &[("content-type", "text/plain")], yaml)
        .await;
    assert_eq!(text.code, 415);
    let broken = api
        .raw(
            "POST",
            CLASSES,
            &[("content-type", "application/json")],
            "{",
        )
        .await;
    assert_eq!(broken.expect(400)["reason"], "BadRequest");
    let big = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"x": "x".repeat(3 << 20)}});
    let refused = api.post(CONFIG_MAPS, big).await;
    assert_eq!(refused.expect(413)["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn unknown_fields_are_told_per_version() {
    let api = Api::start().await;
    let alpha = "/apis/node.k8s.io/v1alpha1/runtimeclasses";
    let body = json!({"apiVersion": "node.k8s.io/v1alpha1", "kind": "RuntimeClass", "metadata": {"name": "a"},
        "handler": "no", "spec": {"runtimeHandler": "runsc"}});
    let made = api.post(alpha, body).await;
    assert_eq!(made.warnings(), ["299 - \"unknown field \\\"handler\\\"\""]);
    assert_eq!(made.expect(201)["spec"]["runtimeHandler"], "runsc");
    let v1 = api.get(&format!("{CLASSES}/a")).await.expect(200);
    assert_eq!(v1["handler"], "runsc");
    assert_eq!(v1.get("spec"), None);
}

#[tokio::test]
async fn events_have_two_views() {
    let api = Api::start().await;
    let body = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "Started", "message": "m",
        "type": "Normal", "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "source": {"component": "node"}, "count": 2, "lastTimestamp": "2026-01-01T00:00:00Z"});
    api.post("/api/v1/namespaces/default/events", body)
        .await
        .expect(201);
    let view = api
        .get("/apis/events.k8s.io/v1/namespaces/default/events/e")
        .await
        .expect(200);
    assert_eq!(view["apiVersion"], "events.k8s.io/v1");
    assert_eq!(view["regarding"]["name"], "p");
    assert_eq!(view["note"], "m");
    assert_eq!(view["deprecatedCount"], 2);
    let mine = api
        .get("/api/v1/events?fieldSelector=involvedObject.name=p,involvedObject.kind=Pod")
        .await
        .expect(200);
    assert_eq!(mine["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn requests_are_counted_under_the_labels_of_the_stock_server() {
    let api = Api::start().await;
    api.post(PODS, pod("a")).await.expect(201);
    api.get(&format!("{PODS}/a")).await.expect(200);
    api.get(&format!("{PODS}/absent")).await.expect(404);
    api.get(PODS).await.expect(200);
    let apply = [("content-type", "application/apply-patch+yaml")];
    let path = format!("{PODS}/a?fieldManager=m&dryRun=All");
    api.raw("PATCH", &path, &apply, pod("a").to_string())
        .await
        .expect(200);
    let watch = api.watch(&format!("{PODS}?watch=true")).await;
    let open = "apiserver_longrunning_requests{verb=\"WATCH\",dry_run=\"\",group=\"\",version=\"v1\",\
                resource=\"pods\",subresource=\"\",scope=\"namespace\",component=\"apiserver\"}";
    let metrics = api.get("/metrics").await.text;
    for (verb, dry_run, scope, code) in [
        ("POST", "", "resource", 201),
        ("GET", "", "resource", 200),
        ("GET", "", "resource", 404),
        ("LIST", "", "namespace", 200),
        ("APPLY", "All", "resource", 200),
    ] {
        let line = format!(
            "apiserver_request_total{{verb=\"{verb}\",dry_run=\"{dry_run}\",group=\"\",version=\"v1\",resource=\"pods\",\
             subresource=\"\",scope=\"{scope}\",component=\"apiserver\",code=\"{code}\"}} 1"
        );
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }
    assert!(metrics.contains(&format!("{open} 1")), "{metrics}");
    assert!(metrics.contains("apiserver_storage_objects{resource=\"pods\"} 1"));
    assert!(metrics.contains("apiserver_resource_objects{group=\"\",resource=\"pods\"} 1"));
    drop(watch);
    let ended = async {
        while !api
            .get("/metrics")
            .await
            .text
            .contains(&format!("{open} 0"))
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, ended)
        .await
        .expect("a watch that has ended is not counted");
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn binary(api: &Api, path: &str, accept: &str) -> (String, Vec<u8>) {
    let answer = api.raw("GET", path, &[("accept", accept)], "").await;
    let media = answer.headers["content-type"].to_str().unwrap().to_owned();
    (media, answer.bytes.to_vec())
}

#[tokio::test]
async fn built_in_kinds_come_in_protobuf_to_who_asks_for_it() {
    let api = Api::start().await;
    let created = api.post(PODS, pod("a")).await.expect(201);
    let both = format!("{PROTOBUF},application/json");
    let (media, body) = binary(&api, &format!("{PODS}/a"), &both).await;
    assert_eq!(media, PROTOBUF);
    // What is sent back is what was read: nothing is lost on the way.
    let put = api
        .raw(
            "PUT",
            &format!("{PODS}/a"),
            &[("content-type", PROTOBUF)],
            body,
        )
        .await
        .expect(200);
    assert_eq!(put, created);
    let (media, body) = binary(&api, PODS, &both).await;
    assert_eq!(media, PROTOBUF);
    assert!(body.starts_with(b"k8s\0"));
    // Tables have no message, nor have custom resources, nor what is no object.
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1,{TABLE}");
    let (media, _) = binary(&api, PODS, &table).await;
    assert_eq!(media, "application/json");
    let (media, _) = binary(&api, &format!("{PODS}/absent"), &both).await;
    assert_eq!(media, "application/json");
}

#[tokio::test]
async fn a_long_list_in_protobuf_has_the_length_that_it_says() {
    let api = Api::start().await;
    for n in 0..40 {
        let name = format!("c{n}");
        let data = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"text": "x".repeat(60_000)}});
        api.post(CONFIG_MAPS, data).await.expect(201);
    }
    let (media, body) = binary(&api, CONFIG_MAPS, PROTOBUF).await;
    assert_eq!(media, PROTOBUF);
    let mut rest = body.strip_prefix(b"k8s\0").unwrap();
    // Field 1 names the kind; field 2 has all the rest, of the length that stands before it.
    let names = fields(&mut rest, 1);
    assert!(String::from_utf8_lossy(names).contains("ConfigMapList"));
    let mut message = fields(&mut rest, 2);
    assert!(rest.is_empty());
    fields(&mut message, 1);
    let mut items = 0;
    while !message.is_empty() {
        fields(&mut message, 2);
        items += 1;
    }
    assert_eq!(items, 40);
}

/// The content of the next field of a message, which has this number and is of bytes.
fn fields<'a>(rest: &mut &'a [u8], number: u8) -> &'a [u8] {
    assert_eq!(rest[0], number << 3 | 2);
    let (mut length, mut at) = (0_usize, 1);
    loop {
        let byte = usize::from(rest[at]);
        length |= (byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (content, left) = rest[at..].split_at(length);
    *rest = left;
    content
}

#[tokio::test]
async fn a_watch_in_protobuf_has_frames() {
    let api = Api::start().await;
    api.post(PODS, pod("a")).await.expect(201);
    let path = format!("{PODS}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true");
    let (media, body) = binary(&api, &path, PROTOBUF).await;
    assert_eq!(media, format!("{PROTOBUF};stream=watch"));
    let mut rest = body.as_slice();
    let mut kinds = Vec::new();
    while let Some((length, left)) = rest.split_first_chunk::<4>() {
        let (mut event, left) =
            left.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
        rest = left;
        kinds.push(String::from_utf8(fields(&mut event, 1).to_vec()).unwrap());
        let mut raw = fields(&mut event, 2);
        assert!(fields(&mut raw, 1).starts_with(b"k8s\0"));
    }
    assert_eq!(kinds, ["ADDED", "BOOKMARK"]);
}

#[tokio::test]
async fn a_status_is_written_as_the_stock_server_writes_it() {
    let api = Api::start().await;
    let missing = api.get(&format!("{CLASSES}/none")).await;
    assert_eq!(
        missing.text,
        concat!(
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
            r#""message":"runtimeclasses.node.k8s.io \"none\" not found","reason":"NotFound","#,
            r#""details":{"name":"none","group":"node.k8s.io","kind":"runtimeclasses"},"code":404}"#,
            "\n"
        )
    );
    api.post(CLASSES, class("a", "runc")).await.expect(201);
    let deleted = api.delete(&format!("{CLASSES}/a")).await.text;
    let begin = concat!(
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","#,
        r#""details":{"name":"a","group":"node.k8s.io","kind":"runtimeclasses","uid":""#
    );
    assert!(deleted.starts_with(begin), "{deleted}");
}
