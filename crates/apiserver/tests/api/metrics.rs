//! `/metrics`, under the names that dashboards of the stock server ask for.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Api, CONFIG_MAPS, as_user};
use crate::hook_server::HookServer;

/// Whether there is a number with these labels that is not zero.
fn has(text: &str, name: &str, labels: &[&str]) -> bool {
    text.lines().any(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap_or_default();
        let of_name = series == name || series.starts_with(&format!("{name}{{"));
        of_name && labels.iter().all(|label| series.contains(label)) && value.parse() != Ok(0.0)
    })
}

#[tokio::test]
async fn dashboards_find_the_names_that_they_ask_for() {
    let api = Api::start().await;
    let hook = HookServer::start(|_| json!({"allowed": false})).await;
    let webhook = |name: &str, port: u16, policy: &str, resource: &str| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name}, "webhooks": [{"name": format!("{name}.example.com"), "sideEffects": "None",
            "failurePolicy": policy, "admissionReviewVersions": ["v1"], "clientConfig": {"url": format!("https://localhost:{port}/"),
            "caBundle": base64(&hook.ca_pem)}, "rules": [{"apiGroups": [""], "apiVersions": ["v1"],
            "operations": ["CREATE"], "resources": [resource]}]}]})
    };
    let hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    api.post(
        hooks,
        webhook("refuses", hook.address.port(), "Fail", "secrets"),
    )
    .await
    .expect(201);
    api.post(hooks, webhook("gone", 1, "Ignore", "configmaps"))
        .await
        .expect(201);
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    api.config_map("a", json!({})).await;
    watch.next().await.unwrap();
    api.get(CONFIG_MAPS).await.expect(200);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    api.post("/api/v1/namespaces/default/secrets", secret)
        .await
        .expect(400);
    as_user(&api, "jane", &[], "GET", CONFIG_MAPS, None)
        .await
        .expect(403);
    let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.ext.example.com"}, "spec": {"group": "ext.example.com", "version": "v1",
        "insecureSkipTLSVerify": true, "groupPriorityMinimum": 100, "versionPriority": 100,
        "service": {"name": "none", "namespace": "default"}}});
    api.post("/apis/apiregistration.k8s.io/v1/apiservices", service)
        .await
        .expect(201);
    let of_maps = [
        "resource=\"configmaps\"",
        "version=\"v1\"",
        "component=\"apiserver\"",
    ];
    let with = |more: &[&'static str]| [of_maps.as_slice(), more].concat();
    let wanted: Vec<(&str, Vec<&str>)> = vec![
        (
            "apiserver_request_total",
            with(&[
                "verb=\"POST\"",
                "code=\"201\"",
                "scope=\"resource\"",
                "dry_run=\"\"",
                "group=\"\"",
            ]),
        ),
        (
            "apiserver_request_total",
            with(&["verb=\"LIST\"", "code=\"403\"", "scope=\"namespace\""]),
        ),
        (
            "apiserver_request_duration_seconds_bucket",
            with(&["verb=\"POST\"", "le=\"60.0\""]),
        ),
        (
            "apiserver_request_sli_duration_seconds_bucket",
            with(&["verb=\"LIST\"", "le=\"60.0\""]),
        ),
        (
            "apiserver_request_sli_duration_seconds_count",
            with(&["verb=\"LIST\""]),
        ),
        (
            "apiserver_response_sizes_bucket",
            with(&["verb=\"LIST\"", "le=\"1000.0\""]),
        ),
        ("apiserver_longrunning_requests", with(&["verb=\"WATCH\""])),
        ("apiserver_current_inflight_requests", vec!["request_kind="]),
        (
            "apiserver_watch_events_total",
            vec!["resource=\"configmaps\"", "version=\"v1\"", "group=\"\""],
        ),
        ("apiserver_storage_objects", vec!["resource=\"configmaps\""]),
        (
            "apiserver_resource_objects",
            vec!["resource=\"configmaps\"", "group=\"\""],
        ),
        (
            "etcd_request_duration_seconds_count",
            vec![
                "operation=\"create\"",
                "resource=\"configmaps\"",
                "group=\"\"",
            ],
        ),
        (
            "etcd_requests_total",
            vec!["operation=\"create\"", "resource=\"configmaps\""],
        ),
        (
            "apiserver_admission_step_admission_duration_seconds_count",
            vec![
                "operation=\"CREATE\"",
                "type=\"validate\"",
                "rejected=\"true\"",
            ],
        ),
        (
            "apiserver_admission_controller_admission_duration_seconds_count",
            vec![
                "name=\"NamespaceLifecycle\"",
                "operation=\"CREATE\"",
                "type=",
            ],
        ),
        (
            "apiserver_admission_webhook_admission_duration_seconds_count",
            vec!["name=\"refuses.example.com\"", "rejected=\"true\""],
        ),
        (
            "apiserver_admission_webhook_request_total",
            vec!["name=\"refuses.example.com\"", "code=\"200\""],
        ),
        (
            "apiserver_admission_webhook_rejection_count",
            vec![
                "name=\"refuses.example.com\"",
                "error_type=\"no_error\"",
                "rejection_code=\"400\"",
            ],
        ),
        (
            "apiserver_admission_webhook_fail_open_count",
            vec!["name=\"gone.example.com\"", "type=\"validating\""],
        ),
        (
            "aggregator_unavailable_apiservice",
            vec!["name=\"v1.ext.example.com\""],
        ),
        (
            "kubernetes_build_info",
            vec!["major=\"1\"", "minor=\"36\"", "git_version=\"v1.36.0"],
        ),
        ("process_cpu_seconds_total", vec![]),
        ("process_resident_memory_bytes", vec![]),
        ("process_open_fds", vec![]),
        ("process_start_time_seconds", vec![]),
    ];
    // The APIService is followed by a task.
    let begun = Instant::now();
    loop {
        let text = api.get("/metrics").await.text;
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(name, labels)| !has(&text, name, labels))
            .collect();
        if missing.is_empty() {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{missing:?}\n{text}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}
