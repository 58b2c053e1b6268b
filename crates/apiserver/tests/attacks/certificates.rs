//! Somebody who wants a certificate that is not theirs to have.

use serde_json::{Value, json};

use crate::harness::{Answer, Api, as_user};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
/// For CN=ann, O=dev.
const ANN: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIVk1INENBUUF3SERFTU1Bb0dBMVVFQ2d3RFpHVjJNUXd3Q2dZRFZRUUREQU5oYm00d1dUQVRCZ2NxaGtqTwpQUUlCQmdncWhrak9QUU1CQndOQ0FBUWxIb1lLdnpIYW1wUWVJSnMyYmxNZCs1MXZJejhmNGg3cXlIREdZdlZwCmRCOFphWFp0SlZlTVdOdjBhL3EyMVk5YmppSW45NktFdjVoNjMzWXhLcDJDb0FBd0NnWUlLb1pJemowRUF3SUQKUndBd1JBSWdFMGJHc0NWeWNZME4vZnhFUEFyR2JWVjJ2K2o0R0pxa0ZsZm01OXNrVkVjQ0lBYkZvV1dON0FJZgpzN1JicGdXQmZKYnJQcHV1Ti8zOFdYTmErUC9FaEJIVAotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";
/// For CN=eve, O=system:masters.
const MASTERS: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIak1JR0pBZ0VBTUNjeEZ6QVZCZ05WQkFvTURuTjVjM1JsYlRwdFlYTjBaWEp6TVF3d0NnWURWUVFEREFObApkbVV3V1RBVEJnY3Foa2pPUFFJQkJnZ3Foa2pPUFFNQkJ3TkNBQVRzc0tpWEVPcmFnNExYRFErbEF5aG00SVJwCkErVHNTZ3dsVWFKWFk2OUVSckMvU2tSUG12dlhsSUpsenFBenVlUm5hSnUzSEk5REFxNFo3eWIzOG5oV29BQXcKQ2dZSUtvWkl6ajBFQXdJRFNRQXdSZ0loQU02a0p5eU04ekRSa1dNNHJWVzRNZUd4WG1MMndpS2hiSlhST0JxOQpXQlZrQWlFQWtrdHlNWFRPckRhaTRZbHZNQVdINE1pT2ljMDhMekVkc3BtbzRNZGl5UTA9Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";

async fn mallory(api: &Api, method: &str, path: &str, body: Option<Value>) -> Answer {
    as_user(
        api,
        "mallory",
        &["system:authenticated"],
        method,
        path,
        body,
    )
    .await
}

async fn grant(api: &Api, name: &str, rule: Value) {
    crate::harness::grant(api, name, "mallory", json!([rule])).await;
}

/// Mallory may write requests with all their subresources, and has no signer.
async fn start() -> Api {
    let api = Api::start().await;
    let resources = [
        "certificatesigningrequests",
        "certificatesigningrequests/approval",
        "certificatesigningrequests/status",
    ];
    grant(
        &api,
        "requests",
        json!({"verbs": ["*"], "apiGroups": ["certificates.k8s.io"], "resources": resources}),
    )
    .await;
    api
}

fn request(name: &str, signer: &str, csr: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"request": csr, "signerName": signer, "usages": ["client auth"],
        "username": "admin", "groups": ["system:masters"], "uid": "1", "extra": {"a": ["b"]}}})
}

#[tokio::test]
async fn a_request_is_of_who_makes_it() {
    let api = start().await;
    let body = request("r", "example.com/own", ANN);
    let made = mallory(&api, "POST", REQUESTS, Some(body))
        .await
        .expect(201);
    assert_eq!(made["spec"]["username"], "mallory");
    assert_eq!(made["spec"]["groups"], json!(["system:authenticated"]));
    assert_eq!(made["spec"]["uid"], Value::Null);
    assert_eq!(made["spec"]["extra"], Value::Null);
    // and stays so
    let one = format!("{REQUESTS}/r");
    let mut changed = made;
    changed["spec"]["username"] = json!("admin");
    changed["spec"]["request"] = json!(MASTERS);
    let changed = mallory(&api, "PUT", &one, Some(changed)).await.expect(200);
    assert_eq!(changed["spec"]["username"], "mallory");
    assert_eq!(changed["spec"]["request"], ANN);
}

#[tokio::test]
async fn nobody_asks_for_the_group_of_administrators() {
    let api = start().await;
    let body = request("r", "kubernetes.io/kube-apiserver-client", MASTERS);
    let refused = mallory(&api, "POST", REQUESTS, Some(body.clone()))
        .await
        .expect(403);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("system:masters group is not allowed"),
        "{message}"
    );
    api.post(REQUESTS, body).await.expect(403);
    let body = request("r", "kubernetes.io/kube-apiserver-client", ANN);
    mallory(&api, "POST", REQUESTS, Some(body))
        .await
        .expect(201);
}

#[tokio::test]
async fn approving_and_signing_take_rights_on_the_signer() {
    let api = start().await;
    let body = request("r", "example.com/own", ANN);
    mallory(&api, "POST", REQUESTS, Some(body))
        .await
        .expect(201);
    let (approval, status) = (
        format!("{REQUESTS}/r/approval"),
        format!("{REQUESTS}/r/status"),
    );
    let conditions = |kind: &str| json!([{"type": kind, "status": "True", "reason": "r"}]);
    let with = |object: &Value, status: Value| {
        let mut object = object.clone();
        object["status"] = status;
        object
    };
    let now = api.get(&format!("{REQUESTS}/r")).await.expect(200);
    let approved = with(&now, json!({"conditions": conditions("Approved")}));
    let refused = mallory(&api, "PUT", &approval, Some(approved.clone()))
        .await
        .expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("not permitted to approve"),
        "{refused}"
    );
    // not by the status either, nor by the object itself
    mallory(
        &api,
        "PUT",
        &status,
        Some(with(&now, json!({"conditions": conditions("Failed")}))),
    )
    .await
    .expect(403);
    for path in [&status, &format!("{REQUESTS}/r")] {
        mallory(&api, "PUT", path, Some(approved.clone())).await;
    }
    let now = api.get(&format!("{REQUESTS}/r")).await.expect(200);
    assert_eq!(now["status"]["conditions"], Value::Null, "{now}");
    let approved = with(&now, json!({"conditions": conditions("Approved")}));
    // with the right on another signer, and then on all of this domain
    let signers = |names: Value| json!({"verbs": ["approve"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": names});
    grant(&api, "other", signers(json!(["example.com/other"]))).await;
    mallory(&api, "PUT", &approval, Some(approved.clone()))
        .await
        .expect(403);
    grant(&api, "domain", signers(json!(["example.com/*"]))).await;
    let done = mallory(&api, "PUT", &approval, Some(approved))
        .await
        .expect(200);
    assert_eq!(done["status"]["conditions"][0]["type"], "Approved");
    assert!(done["status"]["conditions"][0]["lastUpdateTime"].is_string());
    // who approves does not sign
    let signed = with(
        &done,
        json!({"conditions": done["status"]["conditions"], "certificate": "eA=="}),
    );
    let code = mallory(&api, "PUT", &status, Some(signed.clone()))
        .await
        .code;
    assert!(matches!(code, 403 | 422), "{code}");
    let kept = mallory(&api, "PUT", &approval, Some(signed))
        .await
        .expect(200);
    assert_eq!(kept["status"]["certificate"], Value::Null);
}
