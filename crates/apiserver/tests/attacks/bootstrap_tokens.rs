//! Somebody with a bootstrap token, or something like one, who wants more than to ask for a node's certificate.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, PODS, TOKEN, pod};

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const GOOD: &str = "abcdef.0123456789abcdef";
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// A Secret that vouches for [`GOOD`].
fn secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"}})
}

async fn start() -> Api {
    let api = Api::start().await;
    api.post(SECRETS, secret()).await.expect(201);
    api
}

async fn with(api: &Api, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    let body = body.map(|b| b.to_string()).unwrap_or_default();
    api.raw_without_credentials(method, path, &headers, body)
        .await
}

/// User and groups of a token, or the status of the refusal.
async fn who(api: &Api, token: &str) -> Result<Value, u16> {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = with(api, token, "POST", WHO, Some(body)).await;
    match answer.code {
        201 => Ok(answer.json()["status"]["userInfo"].clone()),
        code => Err(code),
    }
}

#[tokio::test]
async fn a_token_is_its_secrets_user_and_nobody_else() {
    let api = start().await;
    let known = who(&api, GOOD).await.unwrap();
    assert_eq!(known["username"], "system:bootstrap:abcdef");
    assert_eq!(
        known["groups"],
        json!(["system:bootstrappers", "system:authenticated"])
    );
    for wrong in [
        "abcdef.0123456789abcdeg",
        "abcdef.0123456789abcde",
        "abcdeg.0123456789abcdef",
        "abcdef.",
        ".0123456789abcdef",
        "abcdef",
        "ABCDEF.0123456789ABCDEF",
        "abcdef.0123456789abcdef.x",
    ] {
        assert_eq!(who(&api, wrong).await, Err(401), "{wrong}");
    }
}

#[tokio::test]
async fn a_token_ends_with_its_secret() {
    let api = start().await;
    let one = format!("{SECRETS}/bootstrap-token-abcdef");
    let data = |key: &str, value: &str| json!({"data": {key: STANDARD.encode(value)}});
    let ends: [(&str, &str, &str); 6] = [
        ("expiration", "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"),
        ("expiration", "soon", "2999-01-01T00:00:00Z"),
        ("usage-bootstrap-authentication", "false", "true"),
        ("token-id", "abcdeg", "abcdef"),
        ("token-secret", "fedcba9876543210", "0123456789abcdef"),
        (
            "auth-extra-groups",
            "system:masters",
            "system:bootstrappers:a",
        ),
    ];
    for (key, bad, good) in ends {
        api.merge(&one, data(key, bad)).await.expect(200);
        assert_eq!(who(&api, GOOD).await, Err(401), "{key}={bad}");
        api.merge(&one, data(key, good)).await.expect(200);
        who(&api, GOOD).await.unwrap();
    }
    // one that waits for its finalizers is deleted all the same
    api.merge(&one, json!({"metadata": {"finalizers": ["example.com/x"]}}))
        .await
        .expect(200);
    api.delete(&one).await.expect(200);
    api.get(&one).await.expect(200);
    assert_eq!(who(&api, GOOD).await, Err(401), "being deleted");
    api.merge(&one, json!({"metadata": {"finalizers": null}}))
        .await
        .expect(200);
    assert_eq!(who(&api, GOOD).await, Err(401), "deleted");
}

/// Who may write Secrets of a namespace makes no tokens, and no type but the right one counts.
#[tokio::test]
async fn other_namespaces_names_and_types_vouch_for_nothing() {
    let api = Api::start().await;
    let mut elsewhere = secret();
    elsewhere["metadata"]["namespace"] = json!("default");
    api.post("/api/v1/namespaces/default/secrets", elsewhere)
        .await
        .expect(201);
    assert_eq!(who(&api, GOOD).await, Err(401), "another namespace");
    let mut named = secret();
    named["metadata"]["name"] = json!("abcdef");
    api.post(SECRETS, named).await.expect(201);
    assert_eq!(who(&api, GOOD).await, Err(401), "another name");
    let mut opaque = secret();
    opaque["type"] = json!("Opaque");
    api.post(SECRETS, opaque).await.expect(201);
    assert_eq!(who(&api, GOOD).await, Err(401), "another type");
}

#[tokio::test]
async fn a_server_that_takes_none_takes_none() {
    let api = Api::start_with(|config| config.authn.bootstrap_tokens = false).await;
    api.post(SECRETS, secret()).await.expect(201);
    assert_eq!(who(&api, GOOD).await, Err(401));
}

#[tokio::test]
async fn a_bootstrapper_asks_for_certificates_and_nothing_else() {
    let api = start().await;
    api.post(PODS, pod("p")).await.expect(201);
    for (method, path) in [
        ("GET", PODS),
        ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/namespaces/kube-system/secrets"),
        (
            "GET",
            "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef",
        ),
        (
            "DELETE",
            "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef",
        ),
        ("GET", "/api/v1/namespaces/kube-public/configmaps"),
        (
            "DELETE",
            "/apis/certificates.k8s.io/v1/certificatesigningrequests",
        ),
        (
            "GET",
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
        ),
    ] {
        let answer = with(&api, GOOD, method, path, None).await;
        assert_eq!(answer.code, 403, "{method} {path}: {}", answer.text);
    }
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    let refused = with(&api, GOOD, "POST", "/api/v1/nodes", Some(node)).await;
    refused.expect(403);
    // neither as somebody else
    let authorization = format!("Bearer {GOOD}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("impersonate-user", "system:node:n1"),
        ("impersonate-group", "system:nodes"),
    ];
    let answer = api.raw_without_credentials("GET", PODS, &headers, "").await;
    assert_eq!(answer.code, 403, "{}", answer.text);
    // what it is for
    with(&api, GOOD, "GET", REQUESTS, None).await.expect(200);
}

/// A request of a bootstrapper's says that it is one, and can't be approved, signed or for administrators.
#[tokio::test]
async fn a_bootstrapper_approves_nothing() {
    let api = start().await;
    let params = |organization: &str| {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(rcgen::DnType::OrganizationName, organization);
        name.push(rcgen::DnType::CommonName, "system:node:n1");
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        STANDARD.encode(pem)
    };
    let asks = |name: &str, signer: &str, organization: &str| {
        json!({"metadata": {"name": name}, "spec": {"request": params(organization), "signerName": signer,
            "usages": ["digital signature", "client auth"], "username": "admin", "groups": ["system:masters"]}})
    };
    let kubelet = "kubernetes.io/kube-apiserver-client-kubelet";
    let body = asks("r", kubelet, "system:nodes");
    let mut made = with(&api, GOOD, "POST", REQUESTS, Some(body))
        .await
        .expect(201);
    assert_eq!(made["spec"]["username"], "system:bootstrap:abcdef");
    assert_eq!(
        made["spec"]["groups"],
        json!(["system:bootstrappers", "system:authenticated"])
    );
    made["status"] =
        json!({"conditions": [{"type": "Approved", "status": "True", "reason": "mine"}]});
    for path in ["r/approval", "r/status", "r"] {
        let path = format!("{REQUESTS}/{path}");
        let refused = with(&api, GOOD, "PUT", &path, Some(made.clone())).await;
        assert_eq!(refused.code, 403, "{path}: {}", refused.text);
    }
    let masters = asks("m", "kubernetes.io/kube-apiserver-client", "system:masters");
    with(&api, GOOD, "POST", REQUESTS, Some(masters))
        .await
        .expect(403);
}

/// TokenReviews say who a bootstrap token is to who may ask, for this server's audience only.
#[tokio::test]
async fn a_review_knows_the_token_for_this_server() {
    let api = start().await;
    let review = |audiences: Value| json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": GOOD, "audiences": audiences}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let known = api.post(reviews, review(Value::Null)).await.expect(201);
    assert_eq!(known["status"]["authenticated"], true);
    let other = api
        .post(reviews, review(json!(["vault"])))
        .await
        .expect(201);
    assert_eq!(other["status"]["authenticated"], Value::Null, "{other}");
}

/// Anybody may read `cluster-info`, and with it no other ConfigMap, and nobody who may not write it.
#[tokio::test]
async fn cluster_info_is_public_and_nothing_beside_it() {
    const INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
    let ca = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let api = Api::start_with(|config| config.cluster_ca = Some(ca.to_owned())).await;
    let read = |path: &'static str| api.raw_without_credentials("GET", path, &[], "");
    let info = read(INFO).await.expect(200);
    let text = info["data"]["kubeconfig"].as_str().unwrap();
    assert!(text.contains(&STANDARD.encode(ca)), "{text}");
    assert!(!text.contains(TOKEN));
    for path in [
        "/api/v1/namespaces/kube-public/configmaps",
        "/api/v1/namespaces/kube-public/configmaps?watch=1",
        "/api/v1/namespaces/kube-public/configmaps/kube-root-ca.crt",
        "/api/v1/namespaces/default/configmaps/cluster-info",
    ] {
        assert_eq!(read(path).await.code, 403, "{path}");
    }
    for method in ["PUT", "PATCH", "DELETE"] {
        let headers = [("content-type", "application/json")];
        let answer = api
            .raw_without_credentials(method, INFO, &headers, "{}")
            .await;
        assert!(
            matches!(answer.code, 403 | 415),
            "{method}: {}",
            answer.code
        );
    }
}
