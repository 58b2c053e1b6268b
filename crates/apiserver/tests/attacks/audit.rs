//! Attacks on the audit log: lines that nobody wrote, requests that are not in it.

use std::path::{Path, PathBuf};

use berth_apiserver::{AuditConfig, AuditMode};
use serde_json::{Value, json};

use crate::harness::{Api, CONFIG_MAPS, TOKEN};

fn policy(dir: &Path, rules: &str) -> PathBuf {
    let path = dir.join("policy.yaml");
    std::fs::write(
        &path,
        format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}\n"),
    )
    .unwrap();
    path
}

async fn start(dir: &Path, rules: &str, log: impl Into<PathBuf>, mode: AuditMode) -> Api {
    let mut audit = AuditConfig::new(policy(dir, rules), log.into());
    audit.mode = mode;
    Api::start_with(|config| config.audit = Some(audit)).await
}

fn events(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text.split('\n')
        .filter(|line| !line.is_empty())
        .map(parse)
        .collect()
}

fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn nobody_writes_a_line_of_his_own() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit.log");
    let api = start(
        dir.path(),
        "rules: [{level: RequestResponse}]",
        &log,
        AuditMode::Blocking,
    )
    .await;
    let forged = "\"}\\n{\\\"kind\\\":\\\"Event\\\",\\\"auditID\\\":\\\"forged\\\"}";
    let headers = [
        ("authorization", &*format!("Bearer {TOKEN}")),
        ("content-type", "application/json"),
        ("user-agent", forged),
        ("x-forwarded-for", "1.2.3.4\",\"x"),
        ("audit-id", "a\"b"),
    ];
    let data = json!({"k": "\n{\"kind\":\"Event\",\"auditID\":\"forged\"}\n\r\u{2028}\u{0}"});
    let body =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    api.raw_without_credentials("POST", CONFIG_MAPS, &headers, body.to_string())
        .await
        .expect(201);
    let path = "/api/v1/namespaces/default/configmaps/x%0A%7B%22auditID%22:%22forged%22%7D%0A";
    api.raw_without_credentials("GET", path, &headers, "").await;
    let all = events(&log);
    assert_eq!(all.len(), 4, "{all:?}");
    for event in &all {
        assert_eq!(event["kind"], "Event");
        assert_ne!(event["auditID"], "forged");
    }
    assert_eq!(all[1]["userAgent"], forged);
    assert_eq!(all[1]["requestObject"]["data"], data);
}

#[tokio::test]
async fn an_id_is_short_and_of_plain_characters() {
    let api = Api::start().await;
    for id in ["x".repeat(65).as_str(), "a b", "", "\u{e4}"] {
        let answer = api.raw("GET", "/healthz", &[("audit-id", id)], "").await;
        let given = answer.headers["audit-id"].to_str().unwrap().to_owned();
        assert_eq!((given.len(), given != id), (36, true), "{id}");
    }
}

#[tokio::test]
async fn a_giant_answer_is_not_in_the_log_but_its_request_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit.log");
    let api = start(
        dir.path(),
        "rules: [{level: RequestResponse}]",
        &log,
        AuditMode::Blocking,
    )
    .await;
    for n in 0..4 {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{n}")},
            "data": {"k": "x".repeat(1 << 20)}});
        api.post(CONFIG_MAPS, body).await.expect(201);
    }
    let before = events(&log);
    assert!(
        before
            .iter()
            .any(|e| e["responseObject"]["data"]["k"].is_string())
    );
    api.get(CONFIG_MAPS).await.expect(200);
    let list = loop {
        let found = events(&log)
            .into_iter()
            .find(|e| e["verb"] == "list" && e["stage"] == "ResponseComplete");
        if let Some(found) = found {
            break found;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(list["annotations"]["audit.k8s.io/truncated"], "true");
    assert_eq!(list["responseObject"], Value::Null);
    // Nor is a body that is no body.
    let headers = [("content-type", "application/json")];
    api.raw("POST", CONFIG_MAPS, &headers, "[".repeat(100_000))
        .await
        .expect(400);
    let last = events(&log).pop().unwrap();
    assert_eq!(
        (&last["responseStatus"]["code"], &last["requestObject"]),
        (&json!(400), &Value::Null)
    );
}

#[tokio::test]
async fn what_cannot_be_audited_is_refused_where_that_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let api = start(
        dir.path(),
        "rules: [{level: Metadata, verbs: [create]}]",
        "/dev/full",
        AuditMode::BlockingStrict,
    )
    .await;
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let refused = api.post(CONFIG_MAPS, body).await.expect(500);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("failed to store audit event"),
        "{refused}"
    );
    // Nothing was done.
    api.get(&format!("{CONFIG_MAPS}/a")).await.expect(404);
    let text = api.get("/metrics").await.text;
    assert_eq!(metric(&text, "apiserver_audit_requests_rejected_total"), 1);
    assert!(
        metric(&text, "apiserver_audit_error_total{plugin=\"log\"}") >= 1,
        "{text}"
    );
}

#[tokio::test]
async fn a_full_disk_is_counted_and_stops_nobody_otherwise() {
    for mode in [AuditMode::Blocking, AuditMode::Batch] {
        let dir = tempfile::tempdir().unwrap();
        let api = start(dir.path(), "rules: [{level: Metadata}]", "/dev/full", mode).await;
        api.config_map("a", json!({})).await;
        let begun = std::time::Instant::now();
        while metric(
            &api.get("/metrics").await.text,
            "apiserver_audit_error_total{plugin=\"log\"}",
        ) == 0
        {
            assert!(begun.elapsed() < crate::harness::PATIENCE, "{mode:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_in_the_log() {
    use tokio::io::AsyncWriteExt;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("audit.log");
    let api = start(
        dir.path(),
        "rules: [{level: Metadata}]",
        &log,
        AuditMode::Blocking,
    )
    .await;
    let mut stream = tokio::net::TcpStream::connect(api.address).await.unwrap();
    // It says that a body will follow, and goes.
    let head = format!(
        "POST {CONFIG_MAPS} HTTP/1.1\r\nhost: x\r\naudit-id: leaves\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let begun = std::time::Instant::now();
    let find = |stage: &str| {
        let mut all = events(&log).into_iter();
        all.find(|e| e["auditID"] == "leaves" && e["stage"] == stage)
    };
    while find("RequestReceived").is_none() {
        assert!(begun.elapsed().as_secs() < 20);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(stream);
    let last = loop {
        if let Some(last) = find("ResponseComplete") {
            break last;
        }
        assert!(begun.elapsed().as_secs() < 20);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    let code = last["responseStatus"]["code"].as_u64().unwrap();
    assert!(code == 499 || code == 400, "{last}");
}

#[tokio::test]
async fn a_log_that_cannot_be_kept_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let good = policy(dir.path(), "rules: [{level: Metadata}]");
    let bad = dir.path().join("bad.yaml");
    let log = dir.path().join("audit.log");
    let store = dir.path().join("store");
    for (text, says) in [
        (
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []",
            "0 rules",
        ),
        (
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All}]",
            "failed decoding",
        ),
        ("apiVersion: v1\nkind: Pod\n", "failed decoding"),
        ("\u{0}", "failed decoding"),
    ] {
        std::fs::write(&bad, text).unwrap();
        let why = Api::refused(&store, |c| c.audit = Some(AuditConfig::new(&bad, &log))).await;
        assert!(
            why.contains("--audit-policy-file") && why.contains(says),
            "{why}"
        );
    }
    let none = dir.path().join("none.yaml");
    let why = Api::refused(&store, |c| c.audit = Some(AuditConfig::new(none, &log))).await;
    assert!(why.contains("none.yaml"), "{why}");
    // A directory is no file.
    let why = Api::refused(&store, |c| {
        c.audit = Some(AuditConfig::new(good, dir.path()))
    })
    .await;
    assert!(why.contains("--audit-log-path"), "{why}");
}
