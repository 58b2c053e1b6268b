//! Audit events that are sent to a webhook.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_apiserver::{AuditConfig, AuditMode, WebhookConfig};
use serde_json::{Value, json};

use crate::harness::{Api, CONFIG_MAPS, PATIENCE};
use crate::hook_server::{Got, HookServer, reply};

fn kubeconfig(dir: &Path, server: &str, ca: &str) -> PathBuf {
    let path = dir.join("webhook.kubeconfig");
    let ca = STANDARD.encode(ca);
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: '{server}', certificate-authority-data: {ca}}}}}]\n\
         users: [{{name: u, user: {{token: hush}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

async fn start(dir: &Path, file: &Path, change: impl FnOnce(&mut WebhookConfig)) -> Api {
    let policy = dir.join("policy.yaml");
    let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, resources: [{resources: [configmaps]}]}]\n";
    std::fs::write(&policy, text).unwrap();
    let mut webhook = WebhookConfig::new(file);
    webhook.batch.max_wait = Duration::from_millis(50);
    webhook.initial_backoff = Duration::from_millis(1);
    change(&mut webhook);
    Api::start_with(|config| {
        let mut audit = AuditConfig::without_log(&policy);
        audit.webhook = Some(webhook);
        config.audit = Some(audit);
    })
    .await
}

/// A webhook that answers with a code.
async fn hook(code: u16) -> HookServer {
    HookServer::start_raw(Arc::new(move |_: Got| {
        Box::pin(async move { reply(code, "{}") })
    }))
    .await
}

fn url(hook: &HookServer) -> String {
    format!("https://localhost:{}/events", hook.address.port())
}

fn events(hook: &HookServer) -> Vec<Value> {
    let got = hook.got.lock();
    let lists = got.iter().map(|got| got.body["items"].as_array().unwrap());
    lists.flatten().cloned().collect()
}

async fn wait_until(mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn lost(api: &Api, plugin: &str) -> u64 {
    let text = api.get("/metrics").await.text;
    let name = format!("apiserver_audit_error_total{{plugin=\"{plugin}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn events_come_in_batches() {
    let dir = tempfile::tempdir().unwrap();
    let hook = hook(200).await;
    let file = kubeconfig(dir.path(), &url(&hook), &hook.ca_pem);
    let api = start(dir.path(), &file, |webhook| webhook.batch.max_size = 4).await;
    for name in ["a", "b", "c"] {
        api.config_map(name, json!({})).await;
    }
    wait_until(async || events(&hook).len() >= 6).await;
    let all = events(&hook);
    assert_eq!(all.len(), 6);
    let name = |event: &Value| event["objectRef"]["name"].as_str().unwrap_or("").to_owned();
    let complete = all.iter().filter(|e| e["stage"] == "ResponseComplete");
    let mut names: Vec<String> = complete.map(name).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
    {
        let got = hook.got.lock();
        for got in got.iter() {
            assert!(got.path.ends_with("/events"), "{}", got.path);
            assert_eq!(got.headers["authorization"], "Bearer hush");
            assert_eq!(got.headers["content-type"], "application/json");
            assert_eq!(
                (&got.body["kind"], &got.body["apiVersion"]),
                (&json!("EventList"), &json!("audit.k8s.io/v1"))
            );
            assert!(got.body["items"].as_array().unwrap().len() <= 4);
        }
    }
    // What is queued is sent before the end, however long a batch may wait.
    let api = start(dir.path(), &file, |webhook| {
        webhook.batch.max_wait = Duration::from_secs(600)
    })
    .await;
    api.config_map("last", json!({})).await;
    api.stop().await;
    let all = events(&hook);
    assert!(
        all.iter().any(|e| e["objectRef"]["name"] == "last"),
        "{all:?}"
    );
}

#[tokio::test]
async fn a_webhook_that_is_not_there_stops_nobody_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let broken = hook(503).await;
    let file = kubeconfig(dir.path(), &url(&broken), &broken.ca_pem);
    let api = start(dir.path(), &file, |_| {}).await;
    api.config_map("a", json!({})).await;
    wait_until(async || lost(&api, "webhook").await >= 2).await;
    // Each was sent again before it was given up.
    let sent = events(&broken);
    let of = |stage: &str| sent.iter().filter(|e| e["stage"] == stage).count();
    assert_eq!((of("RequestReceived"), of("ResponseComplete")), (5, 5));

    // Nor is one behind which somebody else is sent anything.
    let other = hook(200).await;
    let file = kubeconfig(dir.path(), &url(&other), &broken.ca_pem);
    let api = start(dir.path(), &file, |_| {}).await;
    api.config_map("a", json!({})).await;
    wait_until(async || lost(&api, "webhook").await >= 2).await;
    assert!(events(&other).is_empty());
}

#[tokio::test]
async fn a_webhook_that_hangs_costs_a_queue() {
    let dir = tempfile::tempdir().unwrap();
    let hanging = HookServer::start_raw(Arc::new(|_: Got| Box::pin(std::future::pending()))).await;
    let file = kubeconfig(dir.path(), &url(&hanging), &hanging.ca_pem);
    let api = start(dir.path(), &file, |webhook| {
        webhook.batch.buffer_size = 3;
        webhook.batch.max_size = 1;
        webhook.batch.throttle = None;
    })
    .await;
    let begun = Instant::now();
    for n in 0..40 {
        api.config_map(&format!("c{n}"), json!({})).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    // 80 events: 32 are being sent, one waits for a turn, three in the queue.
    wait_until(async || lost(&api, "buffered").await == 44).await;
    assert!(!hanging.got.lock().is_empty());
}

#[tokio::test]
async fn what_the_webhook_must_have_is_refused_without() {
    let dir = tempfile::tempdir().unwrap();
    let broken = hook(500).await;
    let file = kubeconfig(dir.path(), &url(&broken), &broken.ca_pem);
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let strict = |webhook: &mut WebhookConfig| webhook.mode = AuditMode::BlockingStrict;
    let api = start(dir.path(), &file, strict).await;
    let refused = api.post(CONFIG_MAPS, body.clone()).await.expect(500);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("failed to store audit event"), "{message}");
    let blocking = |webhook: &mut WebhookConfig| webhook.mode = AuditMode::Blocking;
    let api = start(dir.path(), &file, blocking).await;
    api.post(CONFIG_MAPS, body.clone()).await.expect(201);
    assert!(lost(&api, "webhook").await >= 2);
    // One that takes them is waited for.
    let good = hook(200).await;
    let file = kubeconfig(dir.path(), &url(&good), &good.ca_pem);
    let api = start(dir.path(), &file, strict).await;
    api.post(CONFIG_MAPS, body).await.expect(201);
    assert_eq!(events(&good).len(), 2);
}

#[tokio::test]
async fn a_configuration_that_cannot_be_followed_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n";
    std::fs::write(&policy, text).unwrap();
    let good = kubeconfig(dir.path(), "https://a.example", "");
    let text = std::fs::read_to_string(&good).unwrap();
    let careless = dir.path().join("careless");
    let text = text.replace(
        "certificate-authority-data: ",
        "insecure-skip-tls-verify: true",
    );
    std::fs::write(&careless, text).unwrap();
    for (file, batch, part) in [
        (dir.path().join("gone"), 1, "--audit-webhook-config-file"),
        (careless, 1, "insecure-skip-tls-verify"),
        (
            good,
            0,
            "--audit-webhook-batch-buffer-size must be a positive number",
        ),
    ] {
        let mut webhook = WebhookConfig::new(&file);
        webhook.batch.buffer_size = batch;
        let store = dir.path().join("store");
        let why = Api::refused(&store, |config| {
            let mut audit = AuditConfig::without_log(&policy);
            audit.webhook = Some(webhook);
            config.audit = Some(audit);
        })
        .await;
        assert!(why.contains(part), "{why}");
    }
}
