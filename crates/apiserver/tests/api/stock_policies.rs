//! The policies of namespaces as `berth policy render` prints them: on a server whose own plugins are switched off they refuse the
//! same, in the same words.

use serde_json::{Value, json};

use crate::harness::{Answer, Api, CLASSES, as_user, class, grant, pod};

const NAMESPACES: &str = "/api/v1/namespaces";
const MINIMUM: &str = "node.berth.dev/minimum-isolation";

async fn start(own_plugins: bool) -> Api {
    let api = Api::start_with(|config| {
        if !own_plugins {
            let off = ["MinimumIsolation", "RuntimeClass"];
            config.disable_admission_plugins = off.map(str::to_owned).to_vec();
        }
    })
    .await;
    if !own_plugins {
        for object in berth_rules::stock_policies::render("v1") {
            let kind = object["kind"].as_str().unwrap().to_lowercase();
            let plural = match kind.strip_suffix("policy") {
                Some(stem) => format!("{stem}policies"),
                None => format!("{kind}s"),
            };
            let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
            api.post(&path, object).await.expect(201);
        }
    }
    for (name, handler, declared) in [
        ("runc", "runc", None),
        ("gvisor", "runsc", None),
        ("kata", "kata-qemu", None),
        ("odd", "odd", None),
        ("sworn", "odd", Some("vm")),
        ("modest", "kata-qemu", Some("process")),
    ] {
        let mut class = class(name, handler);
        if let Some(level) = declared {
            class["metadata"]["annotations"] = json!({"node.berth.dev/isolation": level});
        }
        api.post(CLASSES, class).await.expect(201);
    }
    let annotations = [
        ("open", json!({})),
        ("boxed", json!({MINIMUM: "sandbox"})),
        ("strict", json!({MINIMUM: "vm"})),
        ("same", json!({MINIMUM: "process"})),
        (
            "listed",
            json!({"node.berth.dev/allowed-runtime-classes": "gvisor, kata"}),
        ),
        (
            "optional",
            json!({"node.berth.dev/allowed-runtime-classes": "gvisor,"}),
        ),
        (
            "given",
            json!({"node.berth.dev/default-runtime-class": "gvisor", MINIMUM: "sandbox"}),
        ),
    ];
    for (name, annotations) in annotations {
        let body = json!({"metadata": {"name": name, "annotations": annotations}});
        api.post(NAMESPACES, body).await.expect(201);
    }
    api
}

/// What an answer says, without what stock servers put before a policy's message.
fn said(answer: &Answer) -> String {
    let message = answer.json()["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    match message.split_once(" denied request: ") {
        Some((before, message)) => {
            let subject = before.split(" is forbidden: ").next().unwrap();
            format!("{subject} is forbidden: {message}")
        }
        None => message,
    }
}

fn of_class(class: Option<&str>, own: Option<&str>) -> Value {
    let mut pod = pod("p");
    if let Some(class) = class {
        pod["spec"]["runtimeClassName"] = json!(class);
    }
    if let Some(own) = own {
        pod["metadata"]["annotations"] = json!({MINIMUM: own});
    }
    pod
}

#[tokio::test]
async fn rendered_policies_say_of_pods_what_the_server_says() {
    let (own, stock) = (start(true).await, start(false).await);
    let mut refused = 0;
    for namespace in [
        "open", "boxed", "strict", "same", "listed", "optional", "given",
    ] {
        let pods = format!("{NAMESPACES}/{namespace}/pods");
        for class in [
            None,
            Some("runc"),
            Some("gvisor"),
            Some("kata"),
            Some("odd"),
            Some("sworn"),
            Some("modest"),
        ] {
            for demand in [None, Some("process"), Some("vm"), Some("quantum")] {
                // Of two things that are wrong either may be told.
                if demand.is_some() && ["listed", "optional"].contains(&namespace) {
                    continue;
                }
                let body = of_class(class, demand);
                let a = own.post(&pods, body.clone()).await;
                let b = stock.post(&pods, body).await;
                let what = format!("{namespace} {class:?} {demand:?}: {} {}", a.text, b.text);
                assert_eq!(a.code, b.code, "{what}");
                if a.code == 403 {
                    refused += 1;
                    assert_eq!(said(&a), said(&b), "{what}");
                    continue;
                }
                assert_eq!(a.code, 201, "{what}");
                let (a, b) = (a.json(), b.json());
                for at in ["/metadata/annotations", "/spec/runtimeClassName"] {
                    assert_eq!(a.pointer(at), b.pointer(at), "{what}");
                }
                for api in [&own, &stock] {
                    api.delete(&format!("{pods}/p?gracePeriodSeconds=0"))
                        .await
                        .expect(200);
                }
            }
        }
    }
    assert!(refused > 40, "{refused}");
}

#[tokio::test]
async fn a_demand_stays_and_holds_for_ephemeral_containers() {
    let api = start(false).await;
    let pods = format!("{NAMESPACES}/boxed/pods");
    let made = api
        .post(&pods, of_class(Some("gvisor"), None))
        .await
        .expect(201);
    assert_eq!(made["metadata"]["annotations"][MINIMUM], "sandbox");
    for (subresource, value) in [
        ("", json!(null)),
        ("", json!("process")),
        ("/status", json!("process")),
    ] {
        let body = json!({"metadata": {"annotations": {MINIMUM: value}}});
        let answer = api.merge(&format!("{pods}/p{subresource}"), body).await;
        assert_eq!(answer.code, 403, "{}", answer.text);
        assert!(
            answer.text.contains("of a pod can't be changed"),
            "{}",
            answer.text
        );
    }
    api.merge(
        &format!("{pods}/p"),
        json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await
    .expect(200);
    let bind = |annotations| json!({"metadata": {"name": "p", "annotations": annotations}, "target": {"kind": "Node", "name": "n"}});
    api.post(
        &format!("{pods}/p/binding"),
        bind(json!({MINIMUM: "process"})),
    )
    .await
    .expect(403);
    api.post(&format!("{pods}/p/binding"), bind(json!({})))
        .await
        .expect(201);
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}})
        .to_string();
    let headers = [("content-type", "application/strategic-merge-patch+json")];
    let path = format!("{pods}/p/ephemeralcontainers");
    api.merge(
        &format!("{NAMESPACES}/boxed"),
        json!({"metadata": {"annotations": {MINIMUM: "vm"}}}),
    )
    .await
    .expect(200);
    let refused = api.raw("PATCH", &path, &headers, debug.clone()).await;
    assert_eq!(refused.code, 403, "{}", refused.text);
    assert!(
        said(&refused).contains("isolates by sandbox, and namespace \"boxed\" demands at least vm"),
        "{}",
        refused.text
    );
    api.merge(
        &format!("{NAMESPACES}/boxed"),
        json!({"metadata": {"annotations": {MINIMUM: "sandbox"}}}),
    )
    .await
    .expect(200);
    api.raw("PATCH", &path, &headers, debug).await.expect(200);
}

#[tokio::test]
async fn namespaces_and_classes_are_held_to_levels() {
    let api = start(false).await;
    for body in [
        json!({"metadata": {"name": "n", "annotations": {MINIMUM: "quantum"}}}),
        json!({"metadata": {"name": "n", "labels": {MINIMUM: "vm"}}}),
    ] {
        api.post(NAMESPACES, body).await.expect(403);
    }
    let mut bad = class("bad", "runc");
    bad["metadata"]["annotations"] = json!({"node.berth.dev/isolation": "VM"});
    api.post(CLASSES, bad).await.expect(403);
    let rules = json!([
        {"apiGroups": [""], "resources": ["namespaces", "namespaces/status"], "resourceNames": ["boxed"], "verbs": ["*"]}]);
    grant(&api, "owner", "mallory", rules).await;
    let path = format!("{NAMESPACES}/boxed");
    for subresource in ["", "/status"] {
        let mut whole = api.get(&path).await.expect(200);
        whole["metadata"]["annotations"] = json!({});
        let answer = as_user(
            &api,
            "mallory",
            &[],
            "PUT",
            &format!("{path}{subresource}"),
            Some(whole),
        )
        .await;
        assert_eq!(answer.code, 403, "{}", answer.text);
        assert!(
            answer
                .text
                .contains("takes the right to update runtimeclasses.node.k8s.io"),
            "{}",
            answer.text
        );
    }
    let mut whole = api.get(&path).await.expect(200);
    whole["metadata"]["annotations"] = json!({MINIMUM: "vm"});
    as_user(&api, "mallory", &[], "PUT", &path, Some(whole))
        .await
        .expect(200);
    api.merge(&path, json!({"metadata": {"annotations": {MINIMUM: null}}}))
        .await
        .expect(200);
}
