//! Pods that the namespace's Pod Security level forbids.

use serde_json::{Value, json};

use crate::harness::{Api, PODS, as_user, bind, pod};

const NAMESPACES: &str = "/api/v1/namespaces";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// A namespace with labels of Pod Security.
async fn namespace(api: &Api, name: &str, labels: &[(&str, &str)]) -> String {
    let labels: serde_json::Map<String, Value> = labels
        .iter()
        .map(|(mode, value)| (format!("pod-security.kubernetes.io/{mode}"), json!(value)))
        .collect();
    let body = json!({"metadata": {"name": name, "labels": labels}});
    api.post(NAMESPACES, body).await.expect(201);
    format!("{NAMESPACES}/{name}/pods")
}

fn with(name: &str, at: &str, value: Value) -> Value {
    let mut body = pod(name);
    let (parent, field) = at.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap()[field] = value;
    body
}

fn privileged(name: &str) -> Value {
    with(
        name,
        "/spec/containers/0/securityContext",
        json!({"privileged": true}),
    )
}

fn hardened(name: &str) -> Value {
    let mut body = with(
        name,
        "/spec/containers/0/securityContext",
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}),
    );
    body["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    body
}

/// Somebody who may do in one namespace what its admin may.
const USER: &str = "mallory";

async fn create(api: &Api, pods: &str, body: Value) -> crate::harness::Answer {
    as_user(api, USER, &[], "POST", pods, Some(body)).await
}

#[tokio::test]
async fn levels_hold_for_who_may_create_pods() {
    let api = Api::start().await;
    bind(&api, "mallory", "edit", USER).await;
    let restricted = namespace(&api, "r", &[("enforce", "restricted")]).await;
    let baseline = namespace(
        &api,
        "b",
        &[("enforce", "baseline"), ("warn", "restricted")],
    )
    .await;
    let open = namespace(&api, "o", &[]).await;

    let refused = create(&api, &restricted, pod("p")).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": \
         allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    create(&api, &restricted, hardened("h")).await.expect(201);
    for (at, value) in [
        ("/spec/hostNetwork", json!(true)),
        ("/spec/hostPID", json!(true)),
        (
            "/spec/volumes",
            json!([{"name": "v", "hostPath": {"path": "/"}}]),
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"privileged": true}),
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 1, "hostPort": 1}]),
        ),
        (
            "/spec/initContainers",
            json!([{"name": "i", "image": "x", "securityContext": {"privileged": true}}]),
        ),
    ] {
        for pods in [&restricted, &baseline] {
            create(&api, pods, with("p", at, value.clone()))
                .await
                .expect(403);
        }
        create(&api, &open, with("p", at, value)).await.expect(201);
        api.delete(&format!("{open}/p")).await.expect(200);
    }
    let warned = create(&api, &baseline, pod("p")).await;
    assert!(
        warned
            .warnings()
            .iter()
            .any(|w| w.contains("would violate PodSecurity \\\"restricted:latest\\\"")),
        "{:?}",
        warned.warnings()
    );
    warned.expect(201);
}

#[tokio::test]
async fn no_other_way_leads_around_a_level() {
    let api = Api::start().await;
    let restricted = namespace(&api, "r", &[("enforce", "restricted")]).await;
    let path = format!("{restricted}/h");
    let made = api.post(&restricted, hardened("h")).await.expect(201);
    // By PUT and by apply of what is not there.
    api.put(&format!("{restricted}/p"), &privileged("p"))
        .await
        .expect(404);
    let apply = [("content-type", "application/apply-patch+yaml")];
    let mut body = privileged("p");
    body["metadata"]["namespace"] = json!("r");
    let refused = api
        .raw(
            "PATCH",
            &format!("{restricted}/p?fieldManager=m"),
            &apply,
            body.to_string(),
        )
        .await;
    assert_ne!(refused.code, 201, "{}", refused.text);
    assert_eq!(api.get(&format!("{restricted}/p")).await.code, 404);
    // By an ephemeral container.
    let debug = json!({"spec": {"ephemeralContainers": [
        {"name": "d", "image": "x", "securityContext": {"privileged": true}}]}});
    let headers = [("content-type", STRATEGIC)];
    let refused = api
        .raw(
            "PATCH",
            &format!("{path}/ephemeralcontainers"),
            &headers,
            debug.to_string(),
        )
        .await
        .expect(403);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("privileged (container \"d\" must not set"),
        "{message}"
    );
    assert_eq!(api.get(&path).await.expect(200)["spec"], made["spec"]);
    // By a dry run, which says the same.
    api.post(&format!("{restricted}?dryRun=All"), privileged("p"))
        .await
        .expect(403);
}

#[tokio::test]
async fn a_level_that_is_misspelt_is_refused_and_if_it_is_there_nothing_passes() {
    let api = Api::start().await;
    for (mode, value) in [
        ("enforce", "restrictd"),
        ("enforce-version", "1.30"),
        ("warn", "x"),
    ] {
        let label = format!("pod-security.kubernetes.io/{mode}");
        let body = json!({"metadata": {"name": "n", "labels": {label.clone(): value}}});
        let refused = api.post(NAMESPACES, body).await.expect(422);
        assert_eq!(
            refused["details"]["causes"][0]["field"],
            format!("metadata.labels[{label}]")
        );
    }
    let pods = namespace(&api, "n", &[("enforce", "baseline")]).await;
    let path = format!("{NAMESPACES}/n");
    let broken = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "none"}}});
    api.merge(&path, broken).await.expect(422);
    api.post(&pods, privileged("p")).await.expect(403);
}

#[tokio::test]
async fn who_raises_a_level_hears_which_pods_do_not_meet_it() {
    let api = Api::start().await;
    let pods = namespace(&api, "n", &[]).await;
    api.post(&pods, privileged("b")).await.expect(201);
    api.post(&pods, privileged("a")).await.expect(201);
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let raised = api.merge(&format!("{NAMESPACES}/n"), label).await;
    let warnings = raised.warnings().join("\n");
    assert!(
        warnings.contains("existing pods in namespace"),
        "{warnings}"
    );
    assert!(
        warnings.contains("a (and 1 other pod): privileged"),
        "{warnings}"
    );
    raised.expect(200);
    // What runs already goes on, and its labels may still change.
    let touched = json!({"metadata": {"labels": {"x": "y"}}});
    api.merge(&format!("{pods}/a"), touched).await.expect(200);
}

#[tokio::test]
async fn defaults_and_exemptions_of_the_configuration_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("admission.yaml");
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n";
    let own = "  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n";
    let text = format!(
        "{head}- name: PodSecurity\n{own}    defaults: {{enforce: baseline}}\n    exemptions: {{namespaces: [free]}}\n"
    );
    std::fs::write(&file, text).unwrap();
    let configured = file.clone();
    let api =
        Api::start_with(|config| config.admission_control_config_file = Some(configured)).await;
    api.post(PODS, privileged("p")).await.expect(403);
    api.post(PODS, pod("p")).await.expect(201);
    let free = namespace(&api, "free", &[]).await;
    api.post(&free, privileged("p")).await.expect(201);
    // An open namespace stays one where a label says so.
    let open = namespace(&api, "open", &[("enforce", "privileged")]).await;
    api.post(&open, privileged("p")).await.expect(201);

    for (text, want) in [
        (
            format!("{head}- name: PodSecurity\n{own}    defaults: {{enforce: high}}\n"),
            "defaults.enforce: Invalid value",
        ),
        (
            format!("{head}- name: EventRateLimit\n  path: x\n"),
            "takes no configuration here",
        ),
        (
            format!("{head}- name: PodSecurity\n  path: nope.yaml\n"),
            "nope.yaml cannot be read",
        ),
        (
            "kind: x".to_owned(),
            "cannot be read as AdmissionConfiguration",
        ),
    ] {
        std::fs::write(&file, &text).unwrap();
        let other = tempfile::tempdir().unwrap();
        let configured = file.clone();
        let error = Api::refused(other.path(), |c| {
            c.admission_control_config_file = Some(configured)
        })
        .await;
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[tokio::test]
async fn images_that_a_node_has_are_pulled_by_who_runs_them() {
    let api = Api::start_with(|config| {
        config
            .enable_admission_plugins
            .push("AlwaysPullImages".into());
    })
    .await;
    let made = api
        .post(
            PODS,
            with("p", "/spec/containers/0/imagePullPolicy", json!("Never")),
        )
        .await
        .expect(201);
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
    let debug = json!({"spec": {"ephemeralContainers": [
        {"name": "d", "image": "x", "imagePullPolicy": "Never"}]}});
    let changed = api
        .raw(
            "PATCH",
            &format!("{PODS}/p/ephemeralcontainers"),
            &[("content-type", STRATEGIC)],
            debug.to_string(),
        )
        .await
        .expect(200);
    assert_eq!(
        changed["spec"]["ephemeralContainers"][0]["imagePullPolicy"],
        "Always"
    );
}
