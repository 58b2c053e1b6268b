//! The audit log.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_apiserver::authn::StaticToken;
use berth_apiserver::user::User;
use berth_apiserver::{AuditConfig, Config};
use serde_json::{Value, json};

use crate::harness::{Api, CONFIG_MAPS, PODS, as_user, pod};

/// A server with a policy of these rules, and where its log is.
async fn start(dir: &Path, rules: &str) -> (Api, PathBuf) {
    start_with(dir, rules, |_| {}).await
}

async fn start_with(dir: &Path, rules: &str, change: impl FnOnce(&mut Config)) -> (Api, PathBuf) {
    let (policy, log) = (dir.join("policy.yaml"), dir.join("logs/audit.log"));
    let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}");
    std::fs::write(&policy, text).unwrap();
    let api = Api::start_with(|config| {
        config.audit = Some(AuditConfig::new(&policy, &log));
        change(config);
    })
    .await;
    (api, log)
}

fn events(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

/// The events of a request.
fn of<'a>(events: &'a [Value], id: &str) -> Vec<&'a Value> {
    events.iter().filter(|e| e["auditID"] == id).collect()
}

/// Waits for an event that nobody waits for.
async fn wait_for(log: &Path, is_it: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        if let Some(found) = events(log).into_iter().find(&is_it) {
            return found;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            events(log)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn events_say_who_asked_what_and_what_became_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (api, log) = start(dir.path(), "rules: [{level: Metadata}]").await;
    let headers = [
        ("content-type", "application/json"),
        ("user-agent", "tests/1.0"),
        ("audit-id", "my-own-id"),
        ("x-forwarded-for", "192.0.2.7"),
    ];
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let made = api
        .raw(
            "POST",
            &format!("{CONFIG_MAPS}?fieldManager=me"),
            &headers,
            body.to_string(),
        )
        .await;
    assert_eq!(made.headers["audit-id"], "my-own-id");
    made.expect(201);
    let all = events(&log);
    let mine = of(&all, "my-own-id");
    let stages: Vec<_> = mine.iter().map(|e| e["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    let last = mine[1];
    for (field, value) in [
        ("kind", json!("Event")),
        ("apiVersion", json!("audit.k8s.io/v1")),
        ("level", json!("Metadata")),
        (
            "requestURI",
            json!(format!("{CONFIG_MAPS}?fieldManager=me")),
        ),
        ("verb", json!("create")),
        (
            "user",
            json!({"username": "admin", "groups": ["system:masters", "system:authenticated"]}),
        ),
        ("sourceIPs", json!(["192.0.2.7", "127.0.0.1"])),
        ("userAgent", json!("tests/1.0")),
        (
            "objectRef",
            json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"}),
        ),
        ("responseStatus", json!({"metadata": {}, "code": 201})),
        ("requestObject", Value::Null),
        ("responseObject", Value::Null),
    ] {
        assert_eq!(last[field], value, "{field}: {last}");
    }
    assert_eq!(
        last["annotations"]["authorization.k8s.io/decision"],
        "allow"
    );
    let time = last["requestReceivedTimestamp"].as_str().unwrap();
    assert_eq!((time.len(), time.ends_with('Z')), (27, true), "{time}");
    // A request that is not allowed, as somebody else.
    let refused = as_user(&api, "jane", &["devs"], "GET", "/api/v1/nodes", None).await;
    let id = refused.headers["audit-id"].to_str().unwrap().to_owned();
    refused.expect(403);
    let all = events(&log);
    let last = of(&all, &id)[1];
    assert_eq!(last["user"]["username"], "admin");
    assert_eq!(last["impersonatedUser"]["username"], "jane");
    assert_eq!(
        last["impersonatedUser"]["groups"],
        json!(["devs", "system:authenticated"])
    );
    assert_eq!(
        last["annotations"]["authorization.k8s.io/decision"],
        "forbid"
    );
    assert_eq!(
        (
            &last["responseStatus"]["code"],
            &last["responseStatus"]["reason"]
        ),
        (&json!(403), &json!("Forbidden"))
    );
    let text = api.get("/metrics").await.text;
    assert!(text.contains("apiserver_audit_event_total"), "{text}");
    assert!(
        text.contains("apiserver_audit_level_total{level=\"Metadata\"}"),
        "{text}"
    );
}

#[tokio::test]
async fn bodies_follow_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    let rules = "omitStages: [RequestReceived]\nrules:\n\
         - {level: Metadata, resources: [{resources: [secrets]}]}\n\
         - {level: Request, verbs: [patch]}\n\
         - {level: RequestResponse, omitManagedFields: true, resources: [{resources: [configmaps]}]}\n";
    let (api, log) = start(dir.path(), rules).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"p": "hidden"}});
    api.post("/api/v1/namespaces/default/secrets", secret)
        .await
        .expect(201);
    api.config_map("a", json!({})).await;
    api.merge(&format!("{CONFIG_MAPS}/a"), json!({"data": {"x": "y"}}))
        .await
        .expect(200);
    api.delete(&format!("{CONFIG_MAPS}/a")).await.expect(200);
    api.get("/api/v1/nodes").await.expect(200);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        !text.contains("hidden") && !text.contains("aGlkZGVu"),
        "{text}"
    );
    let all = events(&log);
    let verbs: Vec<_> = all.iter().map(|e| e["verb"].as_str().unwrap()).collect();
    assert_eq!(verbs, ["create", "create", "patch", "delete"]);
    assert_eq!(all[1]["requestObject"]["metadata"]["name"], "a");
    assert_eq!(all[1]["responseObject"]["kind"], "ConfigMap");
    assert_eq!(
        all[1]["responseObject"]["metadata"]["managedFields"],
        Value::Null
    );
    assert_eq!(all[2]["requestObject"], json!({"data": {"x": "y"}}));
    assert_eq!(all[2]["responseObject"], Value::Null);
    assert_eq!(all[3]["responseStatus"]["status"], "Success", "{}", all[3]);
}

#[tokio::test]
async fn a_watch_has_a_start_and_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let (api, log) = start(dir.path(), "rules: [{level: Metadata, verbs: [watch]}]").await;
    let watch = api.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    let started = wait_for(&log, |e| e["stage"] == "ResponseStarted").await;
    assert_eq!(events(&log).len(), 2);
    drop(watch);
    let ended = wait_for(&log, |e| e["stage"] == "ResponseComplete").await;
    assert_eq!(started["auditID"], ended["auditID"]);
    assert_eq!(ended["responseStatus"]["code"], 200);
}

#[tokio::test]
async fn who_cannot_say_who_he_is_is_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (api, log) = start(dir.path(), "rules: [{level: Metadata}]").await;
    let wrong = [("authorization", "Bearer wrong")];
    let answer = api.raw_without_credentials("GET", PODS, &wrong, "").await;
    assert_eq!(answer.code, 401);
    let all = events(&log);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(
        (&all[0]["stage"], &all[0]["user"]),
        (&json!("ResponseStarted"), &json!({}))
    );
    assert_eq!(all[0]["responseStatus"]["code"], 401);
    assert_eq!(
        all[0]["responseStatus"]["message"],
        "Authentication failed, attempted: bearer"
    );
}

#[tokio::test]
async fn admission_tells_the_log_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let rules = "omitStages: [RequestReceived]\nrules: [{level: Metadata, verbs: [create], resources: [{resources: [pods]}]}]";
    let (api, log) = start(dir.path(), rules).await;
    let labels =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/audit": "restricted"}}});
    api.merge("/api/v1/namespaces/default", labels)
        .await
        .expect(200);
    api.post(PODS, pod("p")).await.expect(201);
    let all = events(&log);
    let annotations = &all[0]["annotations"];
    let violations = annotations["pod-security.kubernetes.io/audit-violations"].as_str();
    assert!(
        violations.unwrap().contains("allowPrivilegeEscalation"),
        "{annotations}"
    );
    assert_eq!(
        annotations["pod-security.kubernetes.io/enforce-policy"],
        "privileged:latest"
    );
}

#[tokio::test]
async fn a_policy_of_users_sees_who_is_authenticated() {
    let dir = tempfile::tempdir().unwrap();
    let rules = "rules: [{level: None, users: [robot]}, {level: Metadata}]";
    let (api, log) = start_with(dir.path(), rules, |config| {
        let user = User {
            name: "robot".to_owned(),
            ..User::default()
        };
        config.authn.static_tokens.push(StaticToken {
            token: "robot".to_owned(),
            user,
        });
    })
    .await;
    let robot = [("authorization", "Bearer robot")];
    api.raw_without_credentials("GET", PODS, &robot, "")
        .await
        .expect(403);
    assert!(events(&log).is_empty());
    api.get(PODS).await.expect(200);
    assert_eq!(events(&log).len(), 2);
    let path = log.clone();
    api.stop().await;
    assert_eq!(events(&path).len(), 2);
}

#[tokio::test]
async fn every_answer_has_an_id() {
    let api = Api::start().await;
    let (one, two) = (api.get(PODS).await, api.get("/healthz").await);
    let id =
        |answer: &crate::harness::Answer| answer.headers["audit-id"].to_str().unwrap().to_owned();
    assert_ne!(id(&one), id(&two));
    assert_eq!(id(&one).len(), 36);
}
