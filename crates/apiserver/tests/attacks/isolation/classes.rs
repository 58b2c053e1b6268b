//! RuntimeClasses that would get weaker below the pods and namespaces that rely on them.

use serde_json::{Value, json};

use super::{DECLARED, MINIMUM, NAMESPACES, declaring, message, namespace};
use crate::harness::{Api, CLASSES, class, pod_of_class};

#[tokio::test]
async fn a_class_gets_no_weaker_below_what_runs() {
    let api = Api::start().await;
    api.post(CLASSES, declaring("c", "odd", "vm"))
        .await
        .expect(201);
    let pods = namespace(&api, "n", Some("sandbox")).await;
    api.post(&pods, pod_of_class("p", "c")).await.expect(201);
    let path = format!("{CLASSES}/c");
    let declare = |value: Value| json!({"metadata": {"annotations": {DECLARED: value}}});
    for weaker in [json!("process"), json!(null)] {
        let said = message(api.merge(&path, declare(weaker)).await, 403);
        assert!(
            said.contains("\"n\" (at least sandbox, 1 pod(s))"),
            "{said}"
        );
    }
    // What is still enough goes, and everything else of the class.
    api.merge(&path, declare(json!("sandbox")))
        .await
        .expect(200);
    api.merge(&path, json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .expect(200);
    // Deleted and made again, with another handler, by any way.
    api.delete(&path).await.expect(200);
    for weaker in [
        class("c", "runc"),
        class("c", "other"),
        declaring("c", "kata", "process"),
    ] {
        let said = message(api.post(CLASSES, weaker.clone()).await, 403);
        assert!(
            said.contains("weaker than what namespaces that use it demand"),
            "{said}"
        );
        let put = api.put(&path, &weaker).await;
        assert_eq!(put.code, 403, "{}", put.text);
    }
    api.post(CLASSES, class("c", "kata")).await.expect(201);
    api.delete(&path).await.expect(200);
    // Without the pod nothing relies on it.
    api.delete(&format!("{pods}/p?gracePeriodSeconds=0"))
        .await
        .expect(200);
    api.post(CLASSES, class("c", "runc")).await.expect(201);
}

#[tokio::test]
async fn a_namespace_whose_policy_names_a_class_relies_on_it() {
    let api = Api::start().await;
    let annotations = json!({MINIMUM: "sandbox", "node.berth.dev/allowed-runtime-classes": "a, c"});
    api.post(
        NAMESPACES,
        json!({"metadata": {"name": "n", "annotations": annotations}}),
    )
    .await
    .expect(201);
    let made = api.post(CLASSES, class("c", "runc")).await;
    assert!(
        made.warnings()
            .iter()
            .any(|w| w.contains("which will reject its pods")),
        "{:?}",
        made.warnings()
    );
    made.expect(201);
    api.post(CLASSES, declaring("a", "odd", "vm"))
        .await
        .expect(201);
    let weaker = json!({"metadata": {"annotations": {DECLARED: "process"}}});
    let said = message(api.merge(&format!("{CLASSES}/a"), weaker).await, 403);
    assert!(said.contains("its policy names the class"), "{said}");
}
