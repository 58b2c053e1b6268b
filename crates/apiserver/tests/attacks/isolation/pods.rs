//! Pods that try to get below the floor of their namespace, when they are made and later.

use serde_json::{Value, json};

use super::{
    LEVELS, MERGE, MINIMUM, NAMESPACES, NODES, STRATEGIC, as_owner, declaring, message, namespace,
    node, owner_of,
};
use crate::harness::{Api, CLASSES, as_user, class, pod, pod_of_class};

#[tokio::test]
async fn no_pod_gets_below_the_floor() {
    let api = Api::start().await;
    for made in [
        class("runc", "runc"),
        class("gvisor", "runsc"),
        class("kata", "kata-qemu"),
        class("odd", "odd"),
        declaring("declared", "odd", "vm"),
        declaring("modest", "kata-qemu", "process"),
    ] {
        api.post(CLASSES, made).await.expect(201);
    }
    let pods = namespace(&api, "boxed", Some("sandbox")).await;
    assert_eq!(
        message(api.post(&pods, pod_of_class("a", "runc")).await, 403),
        "pods \"a\" is forbidden: pod rejected: RuntimeClass \"runc\" isolates by process, and namespace \"boxed\" demands at least \
         sandbox (annotation node.berth.dev/minimum-isolation)"
    );
    assert_eq!(
        message(api.post(&pods, pod("a")).await, 403),
        "pods \"a\" is forbidden: pod rejected: a pod without RuntimeClass isolates by process, and namespace \"boxed\" demands at \
         least sandbox (annotation node.berth.dev/minimum-isolation)"
    );
    let unknown = message(api.post(&pods, pod_of_class("a", "odd")).await, 403);
    assert!(
        unknown.contains("nobody knows how RuntimeClass \"odd\""),
        "{unknown}"
    );
    api.post(&pods, pod_of_class("a", "modest"))
        .await
        .expect(403);
    for good in ["gvisor", "kata", "declared"] {
        let made = api.post(&pods, pod_of_class(good, good)).await.expect(201);
        assert_eq!(made["metadata"]["annotations"][MINIMUM], "sandbox");
    }
    let strict = namespace(&api, "strict", Some("vm")).await;
    api.post(&strict, pod_of_class("a", "gvisor"))
        .await
        .expect(403);
    api.post(&strict, pod_of_class("a", "kata"))
        .await
        .expect(201);
    // A namespace without one, or with the weakest, admits as before.
    for (name, floor) in [("open", None), ("same", Some("process"))] {
        let pods = namespace(&api, name, floor).await;
        api.post(&pods, pod("a")).await.expect(201);
        api.post(&pods, pod_of_class("b", "odd")).await.expect(201);
    }
}

#[tokio::test]
async fn the_default_class_counts() {
    let api = Api::start().await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    let annotations = json!({MINIMUM: "sandbox", "node.berth.dev/default-runtime-class": "gvisor"});
    let body = json!({"metadata": {"name": "n", "annotations": annotations}});
    api.post(NAMESPACES, body).await.expect(201);
    let made = api
        .post(&format!("{NAMESPACES}/n/pods"), pod("a"))
        .await
        .expect(201);
    assert_eq!(made["spec"]["runtimeClassName"], "gvisor");
}

#[tokio::test]
async fn what_nodes_say_counts_for_each_of_them_alone() {
    let api = Api::start().await;
    api.post(CLASSES, class("kata", "kata")).await.expect(201);
    api.post(CLASSES, declaring("sworn", "kata", "vm"))
        .await
        .expect(201);
    api.post(CLASSES, class("runc", "runc")).await.expect(201);
    let pods = namespace(&api, "n", Some("vm")).await;
    // The only node with the handler has another runtime behind it.
    node(
        &api,
        "fake",
        json!({"": "process", "kata": "process", "runc": "process"}),
    )
    .await;
    for name in ["kata", "sworn"] {
        let said = message(api.post(&pods, pod_of_class("a", name)).await, 403);
        assert!(said.contains("isolates by process"), "{said}");
    }
    // Another node has it: the first can't take the class away from all others.
    node(
        &api,
        "real",
        json!({"": "process", "kata": "vm", "runc": "process"}),
    )
    .await;
    api.post(&pods, pod_of_class("a", "kata")).await.expect(201);
    // But who names the first gets no further.
    let mut there = pod_of_class("b", "kata");
    there["spec"]["nodeName"] = json!("fake");
    api.post(&pods, there).await.expect(403);
    let bind = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "fake"}});
    let said = message(api.post(&format!("{pods}/a/binding"), bind).await, 403);
    assert!(said.contains("isolates by process"), "{said}");
    let bind = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "real"}});
    api.post(&format!("{pods}/a/binding"), bind)
        .await
        .expect(201);
    // A report that can't be read makes nothing of it strong.
    api.delete(&format!("{NODES}/real")).await.expect(200);
    let broken = json!({"metadata": {"name": "broken", "annotations": {LEVELS: "{"}}, "status": {"runtimeHandlers": [{"name": "kata"}]}});
    api.post(NODES, broken).await.expect(201);
    api.post(&pods, pod_of_class("c", "sworn"))
        .await
        .expect(403);
}

#[tokio::test]
async fn a_pod_keeps_the_demand_that_it_was_made_with() {
    let api = Api::start().await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    api.post(CLASSES, class("kata", "kata")).await.expect(201);
    let pods = namespace(&api, "n", Some("sandbox")).await;
    // It can't bring less, but more; what is none is refused.
    for (own, want) in [("process", "sandbox"), ("vm", "vm")] {
        let mut body = pod_of_class(own, "kata");
        body["metadata"]["annotations"] = json!({MINIMUM: own});
        let made = api.post(&pods, body).await.expect(201);
        assert_eq!(made["metadata"]["annotations"][MINIMUM], want);
    }
    let mut stronger = pod_of_class("a", "gvisor");
    stronger["metadata"]["annotations"] = json!({MINIMUM: "vm"});
    api.post(&pods, stronger).await.expect(403);
    let mut none = pod_of_class("a", "gvisor");
    none["metadata"]["annotations"] = json!({MINIMUM: "quantum"});
    api.post(&pods, none).await.expect(403);

    api.post(&pods, pod_of_class("p", "gvisor"))
        .await
        .expect(201);
    owner_of(&api, "n").await;
    let path = format!("{pods}/p");
    for (subresource, content, annotations) in [
        ("", MERGE, json!({MINIMUM: null})),
        ("", MERGE, json!({MINIMUM: "process"})),
        ("", STRATEGIC, json!({MINIMUM: "process"})),
        ("/status", MERGE, json!({MINIMUM: "process"})),
        ("/status", STRATEGIC, json!({MINIMUM: null})),
    ] {
        let body = json!({"metadata": {"annotations": annotations}});
        let got = as_owner(
            &api,
            "PATCH",
            &format!("{path}{subresource}"),
            content,
            &body,
        )
        .await
        .expect(200);
        assert_eq!(
            got["metadata"]["annotations"][MINIMUM], "sandbox",
            "{subresource} {body}"
        );
    }
    for subresource in ["", "/status"] {
        let mut whole = api.get(&path).await.expect(200);
        whole["metadata"]["annotations"] = json!({"other": "kept"});
        let got = as_owner(
            &api,
            "PUT",
            &format!("{path}{subresource}"),
            "application/json",
            &whole,
        )
        .await
        .expect(200);
        assert_eq!(
            got["metadata"]["annotations"],
            json!({"other": "kept", MINIMUM: "sandbox"})
        );
    }
    let mut bind = json!({"metadata": {"name": "p", "annotations": {MINIMUM: "process"}}, "target": {"kind": "Node", "name": "x"}});
    for path in [
        format!("{pods}/p/binding"),
        format!("{NAMESPACES}/n/bindings"),
    ] {
        let refused = message(api.post(&path, bind.clone()).await, 403);
        assert!(refused.contains("can't be changed"), "{refused}");
    }
    bind["metadata"]["annotations"] = json!({});
    api.post(&format!("{pods}/p/binding"), bind)
        .await
        .expect(201);
    let bound = api.get(&path).await.expect(200);
    assert_eq!(bound["metadata"]["annotations"][MINIMUM], "sandbox");
}

#[tokio::test]
async fn no_new_code_in_a_pod_that_is_too_weak_by_now() {
    let api = Api::start().await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    let pods = namespace(&api, "n", None).await;
    api.post(&pods, pod("plain")).await.expect(201);
    api.post(&pods, pod_of_class("boxed", "gvisor"))
        .await
        .expect(201);
    let mut gated = pod("gated");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    api.post(&pods, gated).await.expect(201);
    let raised = api
        .merge(
            &format!("{NAMESPACES}/n"),
            json!({"metadata": {"annotations": {MINIMUM: "sandbox"}}}),
        )
        .await;
    let warnings = raised.warnings().join("\n");
    assert!(
        warnings.contains("2 existing pod(s)")
            && warnings.contains("plain")
            && !warnings.contains("boxed"),
        "{warnings}"
    );
    raised.expect(200);
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}})
        .to_string();
    let headers = [("content-type", STRATEGIC)];
    let at = |name: &str| format!("{pods}/{name}/ephemeralcontainers");
    let refused = api
        .raw("PATCH", &at("plain"), &headers, debug.clone())
        .await;
    assert!(message(refused, 403).contains("isolates by process"));
    api.raw("PATCH", &at("boxed"), &headers, debug)
        .await
        .expect(200);
    // Nor by another image, nor where a gate has kept it from running, nor in one that has run nowhere yet.
    let image = json!({"spec": {"containers": [{"name": "c", "image": "other"}]}}).to_string();
    let (plain, boxed) = (format!("{pods}/plain"), format!("{pods}/boxed"));
    let refused = api.raw("PATCH", &plain, &headers, image.clone());
    assert!(message(refused.await, 403).contains("isolates by process"));
    let image = api.raw("PATCH", &boxed, &headers, image);
    image.await.expect(200);
    let open = json!({"spec": {"schedulingGates": null}});
    let refused = api.merge(&format!("{pods}/gated"), open).await;
    assert!(message(refused, 403).contains("isolates by process"));
    let to = json!({"metadata": {"name": "plain"}, "target": {"kind": "Node", "name": "n1"}});
    let refused = api.post(&format!("{pods}/plain/binding"), to).await;
    assert!(message(refused, 403).contains("isolates by process"));
    // A label would count as a demand that nobody can read.
    let label = json!({"metadata": {"labels": {MINIMUM: "x"}}});
    api.merge(&format!("{pods}/plain"), label).await.expect(403);
    // It goes on otherwise.
    api.merge(
        &format!("{pods}/plain"),
        json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await
    .expect(200);
}

#[tokio::test]
async fn the_audit_log_says_what_was_demanded_and_what_ran() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    std::fs::write(
        &policy,
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n",
    )
    .unwrap();
    let api = Api::start_with(|config| {
        config.audit = Some(berth_apiserver::AuditConfig::new(&policy, &log));
    })
    .await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    let pods = namespace(&api, "n", Some("sandbox")).await;
    let send = async |method: &str, path: &str, id: &str, content: &str, body: Value| {
        let headers = [("content-type", content), ("audit-id", id)];
        api.raw(method, path, &headers, body.to_string()).await
    };
    send(
        "POST",
        &pods,
        "made",
        "application/json",
        pod_of_class("p", "gvisor"),
    )
    .await
    .expect(201);
    let ran = json!({"metadata": {"annotations": {"berth.dev/runtime": "runsc (/usr/bin/runsc, 2026)", "berth.dev/isolation": "sandbox"}}});
    send("PATCH", &format!("{pods}/p/status"), "ran", STRATEGIC, ran)
        .await
        .expect(200);
    let text = std::fs::read_to_string(&log).unwrap();
    let find = |id: &str| -> Value {
        let mut events = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let event = events.find(|e| e["auditID"] == id && e["stage"] == "ResponseComplete");
        event.unwrap_or_else(|| panic!("{text}"))["annotations"].clone()
    };
    assert_eq!(find("made")[MINIMUM], "sandbox");
    let ran = find("ran");
    assert_eq!(ran["berth.dev/runtime"], "runsc (/usr/bin/runsc, 2026)");
    assert_eq!(ran["berth.dev/isolation"], "sandbox");
}

#[tokio::test]
async fn a_node_makes_no_mirror_pod_below_the_floor() {
    let api = Api::start().await;
    let pods = namespace(&api, "n", Some("sandbox")).await;
    let groups = ["system:nodes", "system:authenticated"];
    let node = json!({"metadata": {"name": "w"}});
    let node = as_user(&api, "system:node:w", &groups, "POST", NODES, Some(node))
        .await
        .expect(201);
    let mut mirror = pod("static-w");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    mirror["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": "w", "uid": node["metadata"]["uid"], "controller": true}]);
    mirror["spec"]["nodeName"] = json!("w");
    let answer = as_user(&api, "system:node:w", &groups, "POST", &pods, Some(mirror)).await;
    assert!(message(answer, 403).contains("isolates by process"));
}
