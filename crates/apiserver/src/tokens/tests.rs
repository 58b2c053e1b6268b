use super::*;

fn verifier() -> TokenVerifier {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .unwrap()
        .serialize_pem()
        .into_bytes();
    TokenConfig {
        issuer: "https://issuer".to_owned(),
        audiences: vec!["api".to_owned()],
        key,
        max_expiration_seconds: Some(100_000),
    }
    .verifier()
    .unwrap()
}

impl TokenVerifier {
    fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
        lookup: &Lookup,
    ) -> Option<TokenUser> {
        self.user_of(token, audiences, now, lookup, &|_, _| {})
    }
}

fn world(storage: &str, namespace: &str, name: &str) -> Option<Value> {
    let spec = match (storage, namespace, name) {
        ("core/serviceaccounts", "ns", "sa" | "other") | ("core/nodes", "", "n") => json!({}),
        ("core/pods", "ns", "p") => json!({"serviceAccountName": "sa", "nodeName": "n"}),
        _ => return None,
    };
    Some(json!({"metadata": {"name": name, "uid": format!("{name}-uid")}, "spec": spec}))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn issue_for(verifier: &TokenVerifier, account: &str, spec: Value) -> Result<Value, ApiError> {
    let spec: TokenRequestSpec = serde_json::from_value(spec).unwrap();
    issue(verifier, &world, "ns", account, &spec, at(1000))
}

#[test]
fn a_token_names_its_account_until_it_expires() {
    let verifier = verifier();
    let answer = issue_for(&verifier, "sa", json!({"expirationSeconds": 600})).unwrap();
    assert_eq!(
        answer["status"]["expirationTimestamp"],
        "1970-01-01T00:26:40Z"
    );
    assert_eq!(answer["spec"]["audiences"], json!(["api"]));
    let token = answer["status"]["token"].as_str().unwrap();
    let user = verifier.verify(token, &[], at(1001), &world).unwrap().user;
    assert_eq!(user.name, "system:serviceaccount:ns:sa");
    assert_eq!(user.uid, "sa-uid");
    assert_eq!(
        user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:ns",
            "system:authenticated"
        ]
    );
    assert_eq!(verifier.verify(token, &[], at(1600), &world), None);
    assert_eq!(verifier.verify(token, &[], at(999), &world), None);
    assert_eq!(
        verifier.verify(token, &["vault".to_owned()], at(1001), &world),
        None
    );
    assert_eq!(
        verifier.verify(token, &[], at(1001), &|_: &str, _: &str, _: &str| None),
        None
    );
    let reborn = |s: &str, ns: &str, n: &str| {
        world(s, ns, n).map(|mut o| {
            o["metadata"]["uid"] = json!("new");
            o
        })
    };
    assert_eq!(verifier.verify(token, &[], at(1001), &reborn), None);
}

#[test]
fn a_token_is_good_for_those_audiences_that_it_names() {
    let verifier = verifier();
    let answer = issue_for(&verifier, "sa", json!({"audiences": ["a", "b"]})).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let good_for = |wanted: &[&str]| {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        verifier
            .verify(token, &wanted, at(1001), &world)
            .map(|t| t.audiences)
    };
    let list = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(good_for(&["b", "c"]), list(&["b"]));
    assert_eq!(good_for(&["c", "b", "a"]), list(&["a", "b"]));
    assert_eq!(good_for(&["c"]), None);
    assert_eq!(good_for(&[]), None, "it is not for this server");
}

#[test]
fn a_token_ends_a_minute_after_its_pod_or_account_is_deleted() {
    let verifier = verifier();
    let pod =
        json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "p-uid"}});
    let answer = issue_for(&verifier, "sa", pod).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    for kind in ["core/pods", "core/serviceaccounts"] {
        let going = move |s: &str, ns: &str, n: &str| {
            world(s, ns, n).map(|mut object| {
                if s == kind {
                    object["metadata"]["deletionTimestamp"] = json!(rfc3339(at(1100)));
                }
                object
            })
        };
        let good = |second| verifier.verify(token, &[], at(second), &going).is_some();
        assert!(good(1001) && good(1159), "{kind}");
        assert!(!good(1160), "{kind}");
    }
    let unreadable = |s: &str, ns: &str, n: &str| {
        world(s, ns, n).map(|mut object| {
            object["metadata"]["deletionTimestamp"] = json!("soon");
            object
        })
    };
    assert_eq!(verifier.verify(token, &[], at(1001), &unreadable), None);
}

#[test]
fn no_token_outlives_the_configured_maximum() {
    let answer = issue_for(&verifier(), "sa", json!({"expirationSeconds": 200_000})).unwrap();
    assert_eq!(answer["spec"]["expirationSeconds"], 100_000);
    assert_eq!(
        answer["status"]["expirationTimestamp"],
        rfc3339(at(101_000))
    );
}

#[test]
fn a_foreign_or_tampered_token_is_refused() {
    let verifier = self::verifier();
    let answer = issue_for(&self::verifier(), "sa", json!({})).unwrap();
    assert_eq!(
        verifier.verify(
            answer["status"]["token"].as_str().unwrap(),
            &[],
            at(1001),
            &world
        ),
        None
    );
    let answer = issue_for(&verifier, "sa", json!({})).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    parts[1] = format!("{}A", parts[1]);
    for bad in [
        parts.join("."),
        String::new(),
        "a.b".to_owned(),
        format!("{token}x"),
    ] {
        assert_eq!(verifier.verify(&bad, &[], at(1001), &world), None, "{bad}");
    }
}

#[test]
fn a_token_can_be_bound_to_a_pod() {
    let verifier = verifier();
    let pod = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "p-uid"}, "audiences": ["x"]});
    let answer = issue_for(&verifier, "sa", pod.clone()).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let user = verifier
        .verify(token, &["x".to_owned()], at(1001), &world)
        .unwrap()
        .user;
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n"]);
    let podless = |s: &str, ns: &str, n: &str| world(s, ns, n).filter(|_| s != "core/pods");
    assert_eq!(
        verifier.verify(token, &["x".to_owned()], at(1001), &podless),
        None
    );
    assert_eq!(
        issue_for(&verifier, "other", pod).map_err(|e| e.code()),
        Err(400)
    );
}

#[test]
fn bad_requests_are_refused() {
    let verifier = verifier();
    for (account, spec, code) in [
        ("nobody", json!({}), 404),
        ("sa", json!({"expirationSeconds": 1}), 422),
        ("sa", json!({"expirationSeconds": 1_i64 << 33}), 422),
        (
            "sa",
            json!({"boundObjectRef": {"kind": "Pod", "name": "gone"}}),
            404,
        ),
        (
            "sa",
            json!({"boundObjectRef": {"kind": "Pod", "name": "p", "uid": "old"}}),
            409,
        ),
        (
            "sa",
            json!({"boundObjectRef": {"kind": "ConfigMap", "name": "p"}}),
            400,
        ),
    ] {
        assert_eq!(
            issue_for(&verifier, account, spec.clone()).map_err(|e| e.code()),
            Err(code),
            "{spec}"
        );
    }
}

#[test]
fn the_public_key_is_published() {
    let key = &verifier().key_set()["keys"][0];
    assert_eq!(
        (key["kty"].as_str(), key["alg"].as_str()),
        (Some("EC"), Some("ES256"))
    );
    assert_eq!(key["x"].as_str().map(str::len), Some(43));
    assert_eq!(key["y"].as_str().map(str::len), Some(43));
    assert_eq!(SigningKey::from_pem(b"x").err(), Some(KeyError::Pem));
}

/// What a controller manager writes into a Secret for the account `sa`.
fn legacy_claims() -> Value {
    let claim = |name: &str| format!("kubernetes.io/serviceaccount/{name}");
    json!({
        "iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:ns:sa", claim("namespace"): "ns",
        claim("service-account.name"): "sa", claim("service-account.uid"): "sa-uid", claim("secret.name"): "kept",
    })
}

#[test]
fn a_token_in_a_secret_is_good_while_the_secret_holds_it() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use std::cell::RefCell;
    let verifier = verifier();
    let token = verifier.key.seal(&legacy_claims());
    let secret = json!({"metadata": {"name": "kept", "uid": "s-uid"},
        "type": "kubernetes.io/service-account-token", "data": {"token": STANDARD.encode(&token)}});
    let account = world("core/serviceaccounts", "ns", "sa").unwrap();
    let noted = RefCell::new(vec![]);
    let ask = |secret: &Value, account: &Value, token: &str, audiences: &[String]| {
        let (secret, account) = (secret.clone(), account.clone());
        let lookup = move |kind: &str, namespace: &str, name: &str| match (kind, namespace, name) {
            ("core/secrets", "ns", "kept") => Some(secret.clone()),
            ("core/serviceaccounts", "ns", "sa") => Some(account.clone()),
            _ => None,
        };
        let used =
            |namespace: &str, name: &str| noted.borrow_mut().push(format!("{namespace}/{name}"));
        verifier.user_of(token, audiences, at(9_999_999), &lookup, &used)
    };
    let found = ask(&secret, &account, &token, &[]).unwrap();
    assert_eq!(found.user.name, "system:serviceaccount:ns:sa");
    assert_eq!(found.user.uid, "sa-uid");
    assert_eq!(found.audiences, ["api"]);
    assert_eq!(noted.take(), ["ns/kept"]);
    assert_eq!(ask(&secret, &account, &token, &["vault".to_owned()]), None);

    let with = |pointer: &str, value: Value| {
        let mut secret = secret.clone();
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        secret.pointer_mut(parent).unwrap()[last] = value;
        secret
    };
    for other in [
        with("/data/token", json!("")),
        with("/data/token", json!(STANDARD.encode("another"))),
        with("/data/token", json!(token.clone())),
        with("/data", json!({})),
        with("/type", json!("Opaque")),
        with("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
    ] {
        assert_eq!(ask(&other, &account, &token, &[]), None, "{other}");
    }
    for (pointer, value) in [
        ("/metadata/uid", json!("reborn")),
        ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
    ] {
        let mut other = account.clone();
        other["metadata"][pointer.trim_start_matches("/metadata/")] = value;
        assert_eq!(ask(&secret, &other, &token, &[]), None, "{other}");
    }
    assert!(noted.take().is_empty(), "what is not good is not noted");
    // taken back by the controller that cleans up: that it was used is noted all the same
    let invalid = with(
        "/metadata/labels",
        json!({"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}),
    );
    assert_eq!(ask(&invalid, &account, &token, &[]), None);
    assert_eq!(noted.take(), ["ns/kept"]);
}

#[test]
fn claims_of_a_token_in_a_secret_must_be_whole_and_signed() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let verifier = verifier();
    let ask = |key: &TokenVerifier, claims: &Value| {
        let token = key.key.seal(claims);
        let data = STANDARD.encode(&token);
        let lookup = move |kind: &str, namespace: &str, name: &str| match kind {
            "core/secrets" => Some(
                json!({"type": "kubernetes.io/service-account-token", "data": {"token": data}}),
            ),
            _ => world(kind, namespace, name),
        };
        verifier.verify(&token, &[], at(1), &lookup)
    };
    assert!(ask(&verifier, &legacy_claims()).is_some());
    assert_eq!(
        ask(&self::verifier(), &legacy_claims()),
        None,
        "another key"
    );
    for name in legacy_claims().as_object().unwrap().keys() {
        for value in [Value::Null, json!(""), json!("other"), json!(1)] {
            // which Secret it is says nothing about whose it is
            if name.ends_with("secret.name") && value == "other" {
                continue;
            }
            let mut claims = legacy_claims();
            claims[name] = value;
            assert_eq!(ask(&verifier, &claims), None, "{claims}");
        }
    }
}
