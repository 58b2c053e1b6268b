//! OpenAPI documents beside other requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Api, PATIENCE};

/// The whole document takes a processor for a while when a definition is published; a Lease is renewed meanwhile. All of the
/// server runs on one thread here, so a document that is made on it would hold up everybody.
#[tokio::test]
async fn a_document_that_is_made_holds_up_nobody() {
    let api = Arc::new(Api::start().await);
    let name = format!("w{}.example.com", std::process::id());
    let plural = name.split('.').next().unwrap().to_owned();
    let definition = json!({"metadata": {"name": name}, "spec": {"group": "example.com", "scope": "Cluster",
        "names": {"plural": plural, "kind": "Widget"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    api.post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        definition,
    )
    .await
    .expect(201);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while api
        .get(&format!("/apis/example.com/v1/{plural}"))
        .await
        .code
        != 200
    {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    api.post(
        leases,
        json!({"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 1}}),
    )
    .await
    .expect(201);
    let made = Arc::new(AtomicBool::new(false));
    let (asking, is_made) = (Arc::clone(&api), Arc::clone(&made));
    let documents = tokio::spawn(async move {
        let first = asking.get("/openapi/v2");
        let second = asking.get("/openapi/v2");
        let (first, second) = tokio::join!(first, second);
        is_made.store(true, Ordering::SeqCst);
        (first, second)
    });
    let mut renewed = 0;
    while !made.load(Ordering::SeqCst) {
        let renewal = json!({"spec": {"leaseDurationSeconds": renewed + 2}});
        let path = format!("{leases}/l");
        api.merge(&path, renewal).await.expect(200);
        renewed += usize::from(!made.load(Ordering::SeqCst));
    }
    let (first, second) = documents.await.unwrap();
    assert_eq!(first.headers["etag"], second.headers["etag"]);
    let kind = format!("/apis/example.com/v1/{plural}");
    assert!(first.expect(200)["paths"][&kind].is_object());
    assert!(renewed >= 3, "renewed {renewed} times while two asked");
}
