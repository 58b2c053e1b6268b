//! RuntimeClasses in a cluster: what is told early, how far classes are in use, gates, plugins.

use serde_json::{Value, json};

use crate::harness::{Answer, Api, CLASSES, PODS, class, pod, pod_of_class};

fn node(name: &str, handlers: &[&str]) -> Value {
    let handlers: Vec<Value> = handlers.iter().map(|h| json!({"name": h})).collect();
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"runtimeHandlers": handlers}})
}

#[tokio::test]
async fn what_no_node_can_run_is_told_when_it_is_created() {
    let api = Api::start().await;
    api.post("/api/v1/nodes", node("n1", &["", "runc"]))
        .await
        .expect(201);
    let fine = api.post(CLASSES, class("runc", "runc")).await;
    assert_eq!(fine.warnings(), Vec::<String>::new());
    let odd = api.post(CLASSES, class("gvisor", "runsc")).await;
    assert_eq!(odd.code, 201);
    assert!(
        odd.warnings()[0].contains("no node reports its handler"),
        "{:?}",
        odd.warnings()
    );
    assert_eq!(
        api.post(PODS, pod_of_class("a", "runc")).await.warnings(),
        Vec::<String>::new()
    );
    let pod = api.post(PODS, pod_of_class("b", "gvisor")).await;
    assert_eq!(pod.code, 201);
    assert!(
        pod.warnings()[0].contains("1 node(s) lack runtime handler"),
        "{:?}",
        pod.warnings()
    );
}

#[tokio::test]
async fn kubectl_sees_how_far_a_class_is_in_use() {
    let api = Api::start().await;
    api.post("/api/v1/nodes", node("n1", &["", "runc"]))
        .await
        .expect(201);
    api.post("/api/v1/nodes", node("n2", &["", "runc", "runsc"]))
        .await
        .expect(201);
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    api.post(PODS, pod_of_class("a", "gvisor"))
        .await
        .expect(201);
    let accept = (
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    );
    let table = api
        .raw(
            "GET",
            CLASSES,
            &[accept, ("user-agent", "kubectl/v1.36.0 (linux/amd64)")],
            "",
        )
        .await
        .expect(200);
    assert_eq!(table["columnDefinitions"][3]["name"], "Nodes");
    assert_eq!(table["rows"][0]["cells"][3], "1/2");
    assert_eq!(table["rows"][0]["cells"][4], "1");
    let stock = api.raw("GET", CLASSES, &[accept], "").await.expect(200);
    assert_eq!(stock["columnDefinitions"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn gates_and_plugins_switch_what_the_documents_say() {
    // gates, plugin on; then: code for a missing class, class kept, overhead, node selector
    let all = "RuntimeClass=true";
    let cases = [
        (all, true, 403, true, true, true),
        ("PodOverhead=false", true, 403, true, false, true),
        ("RuntimeClassScheduling=false", true, 403, true, true, false),
        (
            "PodOverhead=false,RuntimeClassScheduling=false",
            true,
            403,
            true,
            false,
            false,
        ),
        ("RuntimeClass=false", true, 201, false, false, false),
        (all, false, 201, true, false, false),
    ];
    for (gates, plugin, missing, kept, overhead, selector) in cases {
        let api = Api::start_with(|config| {
            config.gates = gates.parse().unwrap();
            if !plugin {
                config
                    .disable_admission_plugins
                    .push("RuntimeClass".to_owned());
            }
        })
        .await;
        let mut full = class("full", "runsc");
        full["overhead"] = json!({"podFixed": {"cpu": "100m"}});
        full["scheduling"] = json!({"nodeSelector": {"zone": "a"}});
        api.post(CLASSES, full).await.expect(201);
        let case = format!("{gates}, plugin {plugin}");
        assert_eq!(
            api.post(PODS, pod_of_class("m", "nope")).await.code,
            missing,
            "{case}"
        );
        let spec = api.post(PODS, pod_of_class("p", "full")).await.expect(201)["spec"].clone();
        assert_eq!(spec.get("runtimeClassName").is_some(), kept, "{case}");
        assert_eq!(spec.get("overhead").is_some(), overhead, "{case}");
        assert_eq!(spec.get("nodeSelector").is_some(), selector, "{case}");
    }
}

#[tokio::test]
async fn a_namespace_can_have_a_default_class_and_a_list() {
    let api = Api::start().await;
    let mut gvisor = class("gvisor", "runsc");
    gvisor["overhead"] = json!({"podFixed": {"cpu": "100m"}});
    api.post(CLASSES, gvisor).await.expect(201);
    api.post(CLASSES, class("runc", "runc")).await.expect(201);
    let annotations = json!({"metadata": {"annotations": {
        "node.berth.dev/default-runtime-class": "gvisor",
        "node.berth.dev/allowed-runtime-classes": "gvisor"}}});
    api.merge("/api/v1/namespaces/default", annotations)
        .await
        .expect(200);
    let made = api.post(PODS, pod("plain")).await.expect(201);
    assert_eq!(made["spec"]["runtimeClassName"], "gvisor");
    assert_eq!(made["spec"]["overhead"]["cpu"], "100m");
    let refused = api
        .post(PODS, pod_of_class("other", "runc"))
        .await
        .expect(403);
    assert!(
        refused["message"].as_str().unwrap().contains("gvisor"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_class_can_be_created_by_an_update() {
    let api = Api::start().await;
    let path = format!("{CLASSES}/by-put");
    assert_eq!(api.merge(&path, json!({})).await.code, 404);
    let created = api.put(&path, &class("by-put", "runc")).await;
    assert_eq!(created.code, 201, "{}", created.text);
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    api.merge(&path, labels).await.expect(200);
    let mut stale = class("other", "runc");
    stale["metadata"]["resourceVersion"] = json!("1");
    let refused = api.put(&format!("{CLASSES}/other"), &stale).await;
    assert_eq!(refused.code, 404, "{}", refused.text);
}

/// The texts of an answer's warnings.
fn told_by(answer: &Answer) -> Vec<String> {
    let text = |header: String| {
        let quoted = header
            .strip_prefix("299 - \"")
            .and_then(|h| h.strip_suffix('"'));
        let plain = quoted.unwrap_or(&header).replace("\\\"", "\"");
        plain.replace("\\\\", "\\")
    };
    answer.warnings().into_iter().map(text).collect()
}

fn reporting(name: &str, handlers: &[&str], annotations: Value, allocatable: Value) -> Value {
    let mut node = node(name, handlers);
    node["metadata"]["annotations"] = annotations;
    node["status"]["allocatable"] = allocatable;
    node
}

#[tokio::test]
async fn the_known_reason_is_told_with_every_warning() {
    let api = Api::start().await;
    let reason = "a trial sandbox does not run: unknown platform: systrap";
    let broken = json!({"berth.dev/broken-handlers": json!({"runsc": reason}).to_string()});
    api.post(
        "/api/v1/nodes",
        reporting("n1", &["", "runc"], broken, json!({})),
    )
    .await
    .expect(201);
    let sentence = format!("handler \"runsc\" cannot run: {reason}");
    let made = api.post(CLASSES, class("gvisor", "runsc")).await;
    assert_eq!(
        told_by(&made),
        [format!(
            "RuntimeClass \"gvisor\": {sentence} (on 1 of 1 node(s))"
        )]
    );
    let pod = api.post(PODS, pod_of_class("p", "gvisor")).await;
    assert!(told_by(&pod)[0].contains(&sentence), "{:?}", told_by(&pod));
    // One that merely isn't there.
    let made = api.post(CLASSES, class("kata", "kata")).await;
    assert!(told_by(&made)[0].contains("no node reports its handler"));
}

#[tokio::test]
async fn what_a_sandbox_makes_of_a_pod_is_told() {
    let api = Api::start().await;
    let kinds = json!({"berth.dev/handler-isolation": json!({"": "process", "runc": "process", "runsc": "sandbox"}).to_string()});
    let size = json!({"cpu": "2", "memory": "2Gi"});
    api.post(
        "/api/v1/nodes",
        reporting("n1", &["", "runc", "runsc"], kinds, size),
    )
    .await
    .expect(201);
    for (name, handler) in [("gvisor", "runsc"), ("plain", "runc")] {
        let made = api.post(CLASSES, class(name, handler)).await;
        assert_eq!(told_by(&made), Vec::<String>::new());
    }
    let privileged = |name: &str, class: &str| {
        let mut pod = pod_of_class(name, class);
        pod["spec"]["hostPID"] = json!(true);
        pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
        pod
    };
    let told = api.post(PODS, privileged("a", "gvisor")).await;
    assert_eq!(told.code, 201, "nothing is refused: {}", told.text);
    assert_eq!(
        told_by(&told),
        [
            "spec.hostPID shows the sandbox's own processes, not the node's (handler \"runsc\" runs sandboxes)",
            "spec.containers[0].securityContext.privileged gives every right inside the sandbox's own kernel, and neither the \
             node's devices nor rights on the node (handler \"runsc\" runs sandboxes)"
        ]
    );
    let told = api.post(PODS, privileged("b", "plain")).await;
    assert_eq!(told_by(&told), Vec::<String>::new());

    let mut big = class("big", "runsc");
    big["overhead"] = json!({"podFixed": {"memory": "3Gi"}});
    let told = api.post(CLASSES, big).await;
    assert_eq!(
        told_by(&told),
        [
            "RuntimeClass \"big\": its overhead alone asks for memory=3Gi, and no node that could run it has more than 2Gi for pods"
        ]
    );
    let mut greedy = pod_of_class("greedy", "gvisor");
    greedy["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "3"}});
    let told = api.post(PODS, greedy).await;
    assert_eq!(
        told_by(&told),
        ["it asks for cpu=3, and no node that could run it has more than 2 for pods"]
    );
    let mut lost = pod("lost");
    lost["spec"]["nodeName"] = json!("n2");
    let told = api.post(PODS, lost).await;
    assert_eq!(
        told_by(&told),
        [
            "spec.nodeName: there is no node \"n2\": nobody runs the pod until a node of that name joins"
        ]
    );
}

#[tokio::test]
async fn templates_are_judged_as_their_pods_will_be() {
    let api = Api::start().await;
    api.post("/api/v1/nodes", node("n1", &["", "runc"]))
        .await
        .expect(201);
    api.post(CLASSES, class("runc", "runc")).await.expect(201);
    let deployment = |class: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                "runtimeClassName": class, "containers": [{"name": "c", "image": "i"}]}}}})
    };
    let about_classes = |warnings: Vec<String>| -> Vec<String> {
        warnings
            .into_iter()
            .filter(|w| !w.contains("no controller"))
            .collect()
    };
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let made = api.post(path, deployment("rnuc")).await;
    assert_eq!(
        about_classes(told_by(&made)),
        [
            "spec.template.spec.runtimeClassName: RuntimeClass \"rnuc\" not found: pods are refused until it exists; did you mean \"runc\"?"
        ]
    );
    // Changed for the better, and for the worse; what isn't changed is not told again.
    let path = format!("{path}/d");
    let patch = |class: &str| json!({"spec": {"template": {"spec": {"runtimeClassName": class}}}});
    let none = Vec::<String>::new();
    assert_eq!(
        about_classes(told_by(&api.merge(&path, patch("runc")).await)),
        none
    );
    let worse = api.merge(&path, patch("nope")).await;
    assert_eq!(
        about_classes(told_by(&worse)).len(),
        1,
        "{:?}",
        told_by(&worse)
    );
    let scaled = api.merge(&path, json!({"spec": {"replicas": 2}})).await;
    assert_eq!(about_classes(told_by(&scaled)), none);
    // The policy of the namespace.
    let annotations =
        json!({"metadata": {"annotations": {"node.berth.dev/allowed-runtime-classes": ""}}});
    api.merge("/api/v1/namespaces/default", annotations)
        .await
        .expect(200);
    let told = about_classes(told_by(&api.merge(&path, patch("runc")).await));
    assert!(
        told[0].starts_with("spec.template: pod rejected: RuntimeClass \"runc\" is not allowed"),
        "{told:?}"
    );
}

/// Charts bring resources of their own whose controllers make the pods. `jobs` of another group are no Jobs.
#[tokio::test]
async fn templates_of_custom_resources_are_judged_where_the_server_knows_them() {
    let api = Api::start_with(|config| {
        let paths = [
            "runnersets.example.com=.spec.template",
            "jobs.example.com=.spec.template",
        ];
        config.pod_template_paths = paths.map(|path| path.parse().unwrap()).into();
    })
    .await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    for plural in ["runnersets", "jobs", "others"] {
        let crd = json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {"group": "example.com",
            "scope": "Namespaced", "names": {"plural": plural, "kind": format!("Kind{plural}")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
        let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        api.post(crds, crd).await.expect(201);
        let path = format!("/apis/example.com/v1/namespaces/default/{plural}");
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while api.get(&path).await.code != 200 {
            assert!(std::time::Instant::now() < end, "{plural} are not served");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let named = |name: &str, template: Value| {
            json!({"apiVersion": "example.com/v1", "kind": format!("Kind{plural}"),
                "metadata": {"name": name}, "spec": {"template": template}})
        };
        let of = |class: &str| json!({"spec": {"runtimeClassName": class, "containers": [{"name": "c", "image": "i"}]}});
        let missing = "spec.template.spec.runtimeClassName: RuntimeClass \"gvsor\" not found: pods are refused until it exists; \
             did you mean \"gvisor\"?";
        let known = plural != "others";
        let wanted = |text: &str| {
            if known {
                vec![text.to_owned()]
            } else {
                Vec::new()
            }
        };
        let made = api.post(&path, named("a", of("gvsor"))).await;
        assert_eq!(made.code, 201, "nothing is refused: {}", made.text);
        assert_eq!(told_by(&made), wanted(missing));
        // Only a template that has changed is warned about.
        let one = format!("{path}/a");
        let told = api.merge(&one, json!({"spec": {"replicas": 2}})).await;
        assert_eq!(told.warnings(), Vec::<String>::new());
        let told = api
            .merge(&one, json!({"spec": {"template": of("gviso")}}))
            .await;
        assert_eq!(told_by(&told), wanted(&missing.replace("gvsor", "gviso")));
        // One without a class, none at all, one that is none.
        let plain = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
        for (name, template) in [
            ("plain", plain),
            ("none", json!(null)),
            ("text", json!("x")),
        ] {
            let told = api.post(&path, named(name, template)).await;
            assert_eq!((told.code, told.warnings()), (201, Vec::new()), "{name}");
        }
        let odd = api
            .post(&path, named("odd", json!({"spec": {"containers": 7}})))
            .await;
        assert_eq!(odd.code, 201);
        let said = odd.warnings().join("\n");
        assert_eq!(
            said.contains("it can't be read as a pod template"),
            known,
            "{said}"
        );
    }
}

#[tokio::test]
async fn the_policy_of_a_namespace_is_judged_when_it_is_written() {
    let api = Api::start().await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    let namespace = |key: &str, value: &str| {
        let annotations = json!({key: value});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "annotations": annotations}})
    };
    let default = "node.berth.dev/default-runtime-class";
    for (key, value, want) in [
        (default, "gvisor", None),
        (
            default,
            "gvsor",
            Some(
                "annotation node.berth.dev/default-runtime-class names RuntimeClass \"gvsor\", which is not there; did you mean \"gvisor\"?",
            ),
        ),
        (
            "node.berth.dev/default-runtimeclass",
            "gvisor",
            Some(
                "annotation node.berth.dev/default-runtimeclass is none of berth's and has no effect; did you mean \"node.berth.dev/default-runtime-class\"?",
            ),
        ),
        ("example.com/default-runtime-class", "x", None),
    ] {
        let told = api
            .post("/api/v1/namespaces?dryRun=All", namespace(key, value))
            .await;
        assert_eq!(told.code, 201, "{}", told.text);
        let want: Vec<String> = want.into_iter().map(str::to_owned).collect();
        assert_eq!(told_by(&told), want, "{key}");
    }
    let both = json!({"metadata": {"annotations": {default: "gvisor", "node.berth.dev/allowed-runtime-classes": "kata"}}});
    let told = api.merge("/api/v1/namespaces/default", both).await;
    let warnings = told_by(&told);
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("does not allow (allowed are \"kata\")")),
        "{warnings:?}"
    );
    let other = json!({"metadata": {"labels": {"a": "b"}}});
    let told = api.merge("/api/v1/namespaces/default", other).await;
    assert_eq!(told_by(&told), Vec::<String>::new(), "told once");
}

#[tokio::test]
async fn a_class_that_is_still_named_says_so_when_it_goes() {
    let api = Api::start().await;
    for name in ["used", "unused"] {
        api.post(CLASSES, class(name, "runc")).await.expect(201);
    }
    api.post(PODS, pod_of_class("a", "used")).await.expect(201);
    api.post(PODS, pod_of_class("b", "used")).await.expect(201);
    let policy =
        json!({"metadata": {"annotations": {"node.berth.dev/allowed-runtime-classes": "used,"}}});
    api.merge("/api/v1/namespaces/default", policy)
        .await
        .expect(200);
    let gone = api.delete(&format!("{CLASSES}/unused")).await;
    assert_eq!((gone.code, told_by(&gone)), (200, vec![]));
    let gone = api.delete(&format!("{CLASSES}/used")).await;
    assert_eq!(gone.code, 200);
    assert_eq!(
        told_by(&gone),
        [
            "RuntimeClass \"used\" is still named by 2 pod(s), 1 namespace(s): what runs goes on, and new pods are refused"
        ]
    );
}
