//! Several servers on one etcd, and what becomes of them when it is away.

use std::time::Duration;

use berth_apiserver::authn::StaticToken;
use berth_apiserver::user::User;
use berth_apiserver::{Config, StoreConfig};
use berth_store::etcd::EtcdConfig;
use berth_testkit::{EtcdServer, wait_for_async};
use serde_json::json;

use crate::harness::{Api, CONFIG_MAPS, RBAC};

const LIMIT: Duration = Duration::from_secs(40);

fn on(etcd: &EtcdServer) -> impl FnOnce(&mut Config) {
    let etcd = EtcdConfig::new(std::slice::from_ref(&etcd.url), "/registry");
    |config: &mut Config| {
        config.store = StoreConfig::Etcd(etcd);
        config.authn.static_tokens.push(StaticToken {
            token: "guest".to_owned(),
            user: User {
                name: "guest".to_owned(),
                ..User::default()
            },
        });
    }
}

async fn three(etcd: &EtcdServer) -> [Api; 3] {
    let (one, two, three) = futures::join!(
        Api::start_with(on(etcd)),
        Api::start_with(on(etcd)),
        Api::start_with(on(etcd))
    );
    [one, two, three]
}

async fn as_guest(api: &Api, path: &str) -> u16 {
    let headers = [("authorization", "Bearer guest")];
    api.raw_without_credentials("GET", path, &headers, "")
        .await
        .code
}

#[tokio::test]
async fn what_one_has_written_all_others_read() {
    let etcd = EtcdServer::start();
    let servers = three(&etcd).await;
    for round in 0..20 {
        let name = format!("m{round}");
        let writer = &servers[round % 3];
        let created = writer
            .config_map(&name, json!({"round": round.to_string()}))
            .await;
        for reader in &servers {
            let path = format!("{CONFIG_MAPS}/{name}");
            let found = reader.get(&path).await.expect(200);
            assert_eq!(found, created);
            let list = reader
                .get(&format!("{CONFIG_MAPS}?labelSelector=round={round}"))
                .await;
            let list = list.expect(200);
            assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
        }
        // The revision of one is one of all: a write with it holds, a second one doesn't.
        let other = &servers[(round + 1) % 3];
        let mut changed = created.clone();
        changed["data"] = json!({"by": "other"});
        let path = format!("{CONFIG_MAPS}/{name}");
        other.put(&path, &changed).await.expect(200);
        writer.put(&path, &changed).await.expect(409);
    }
    // Pages go on at another server.
    let first = servers[0]
        .get(&format!("{CONFIG_MAPS}?limit=7"))
        .await
        .expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    servers[2].config_map("later", json!({})).await;
    let rest = servers[1]
        .get(&format!("{CONFIG_MAPS}?continue={token}"))
        .await
        .expect(200);
    let rest = rest["items"].as_array().unwrap();
    assert!(rest.iter().all(|item| item["metadata"]["name"] != "later"));
}

/// What one of them issued, the other would refuse.
#[tokio::test]
async fn a_server_with_another_authority_does_not_start_while_others_work() {
    let etcd = EtcdServer::start();
    let authority = || {
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    };
    let with = |address: [u8; 4], ca: &str| {
        let (on, ca) = (on(&etcd), ca.to_owned());
        move |config: &mut Config| {
            on(config);
            config.advertise = address.into();
            config.cluster_ca = Some(ca);
        }
    };
    let (own, other) = (authority(), authority());
    let first = Api::start_with(with([10, 0, 0, 1], &own)).await;
    let dir = tempfile::tempdir().unwrap();
    let error = Api::refused(dir.path(), with([10, 0, 0, 2], &other)).await;
    assert!(error.contains("--cert-dir"), "{error}");
    let second = Api::start_with(with([10, 0, 0, 2], &own)).await;
    // The authority may be replaced when nobody works.
    first.stop().await;
    second.stop().await;
    let third = Api::start_with(with([10, 0, 0, 3], &other)).await;
    let info = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
    let info = third.get(info).await.expect(200);
    let text = info["data"]["kubeconfig"].as_str().unwrap();
    assert!(text.contains("10.0.0.3"), "{text}");
}

#[tokio::test]
async fn a_quota_holds_whoever_is_asked() {
    let etcd = EtcdServer::start();
    let servers = three(&etcd).await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"count/secrets": "10"}}});
    let quota = servers[0].post(quotas, quota).await.expect(201);
    // It holds on a server that has seen it.
    let version = &quota["metadata"]["resourceVersion"].as_str().unwrap();
    for server in &servers {
        server
            .get(&format!("{quotas}?resourceVersion={version}"))
            .await
            .expect(200);
    }
    let secrets = "/api/v1/namespaces/default/secrets";
    let creating = (0..60).map(|n| {
        let server = &servers[n % 3];
        let secret = json!({"metadata": {"name": format!("s{n}")}});
        async move { server.post(secrets, secret).await.code }
    });
    let codes = futures::future::join_all(creating).await;
    let count = |code| codes.iter().filter(|c| **c == code).count();
    assert_eq!((count(201), count(403)), (10, 50), "{codes:?}");
    let list = servers[1].get(secrets).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 10);
    // One that goes makes room for one.
    let name = list["items"][0]["metadata"]["name"].as_str().unwrap();
    servers[2]
        .delete(&format!("{secrets}/{name}"))
        .await
        .expect(200);
    let more = (0..6).map(|n| {
        let secret = json!({"metadata": {"name": format!("more{n}")}});
        servers[n % 3].post(secrets, secret)
    });
    let codes = futures::future::join_all(more).await;
    let created = codes.iter().filter(|answer| answer.code == 201).count();
    // A server that has not seen the deletion refuses, and never the other way round.
    assert!(created <= 1, "{created}");
}

#[tokio::test]
async fn rights_end_everywhere_and_nobody_is_judged_by_old_ones() {
    let mut etcd = EtcdServer::start();
    let [one, two, three] = three(&etcd).await;
    let role = json!({"metadata": {"name": "reader"},
        "rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["configmaps"]}]});
    one.post(&format!("{RBAC}/clusterroles"), role)
        .await
        .expect(201);
    let binding = json!({"metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "guest"}]});
    let bindings = format!("{RBAC}/clusterrolebindings");
    one.post(&bindings, binding.clone()).await.expect(201);
    for server in [&two, &three] {
        wait_for_async("the right to arrive", LIMIT, || async {
            match as_guest(server, CONFIG_MAPS).await {
                200 => Ok(()),
                code => Err(code),
            }
        })
        .await;
    }
    one.delete(&format!("{bindings}/reader")).await.expect(200);
    for server in [&two, &three] {
        wait_for_async("the right to end", Duration::from_secs(5), || async {
            match as_guest(server, CONFIG_MAPS).await {
                403 => Ok(()),
                code => Err(code),
            }
        })
        .await;
    }

    // An etcd that is away: reads that promise nothing go on for a while, then nothing does but what is about the server.
    one.post(&bindings, binding).await.expect(201);
    let cached = format!("{CONFIG_MAPS}?resourceVersion=0");
    wait_for_async("the right to arrive", LIMIT, || async {
        match as_guest(&two, &cached).await {
            200 => Ok(()),
            code => Err(code),
        }
    })
    .await;
    etcd.kill();
    wait_for_async("an answer that nothing is certain", LIMIT, || async {
        match as_guest(&two, &cached).await {
            503 => Ok(()),
            code => Err(code),
        }
    })
    .await;
    let refused = two.get(&cached).await.expect(503);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("whether it is up to date with etcd"),
        "{message}"
    );
    assert_eq!(two.get("/readyz/etcd").await.code, 500);
    assert_eq!(two.get("/readyz").await.code, 500);
    assert_eq!(two.get("/livez").await.code, 200);
    etcd.start_again();
    for server in [&one, &two, &three] {
        wait_for_async("it to serve again", LIMIT, || async {
            match (
                server.get("/readyz").await.code,
                as_guest(server, CONFIG_MAPS).await,
            ) {
                (200, 200) => Ok(()),
                codes => Err(format!("{codes:?}")),
            }
        })
        .await;
    }
    two.config_map("after", json!({})).await;
    three.get(&format!("{CONFIG_MAPS}/after")).await.expect(200);
}

#[tokio::test]
async fn a_full_etcd_is_told_and_survived() {
    let etcd = EtcdServer::start_with(&["--quota-backend-bytes=2097152"]);
    let api = Api::start_with(on(&etcd)).await;
    let large = "x".repeat(200_000);
    let mut there = 0;
    let refused = loop {
        let map = json!({"metadata": {"name": format!("m{there}")}, "data": {"x": large}});
        let answer = api.post(CONFIG_MAPS, map).await;
        if answer.code != 201 {
            break answer.expect(507);
        }
        there += 1;
        assert!(there < 100, "it has a quota");
    };
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("alarm NOSPACE"), "{message}");
    api.get(&format!("{CONFIG_MAPS}/m0")).await.expect(200);
    assert_eq!(api.get("/readyz").await.code, 200, "it goes on to answer");
}

#[tokio::test]
async fn a_server_lives_on_when_etcd_is_put_back_or_loses_all() {
    let mut etcd = EtcdServer::start();
    let api = Api::start_with(on(&etcd)).await;
    let code = async |name: &str| api.get(&format!("{CONFIG_MAPS}/{name}")).await.code;
    let until = async |name: &str, wanted: u16| {
        wait_for_async("an answer", LIMIT, || async {
            match code(name).await {
                code if code == wanted => Ok(()),
                code => Err(format!("{name}: {code}")),
            }
        })
        .await;
    };
    let kept = api.config_map("kept", json!({})).await;
    etcd.kill();
    let saved = tempfile::tempdir().unwrap();
    etcd.save(&saved.path().join("data"));
    etcd.start_again();
    until("kept", 200).await;
    let lost = api.config_map("lost", json!({})).await;
    let version = |object: &serde_json::Value| -> i64 {
        let version = object["metadata"]["resourceVersion"].as_str();
        version.unwrap().parse().unwrap()
    };
    let path = format!(
        "{CONFIG_MAPS}?watch=true&resourceVersion={}",
        version(&lost)
    );
    let mut watch = api.watch(&path).await;
    etcd.put_back(&saved.path().join("data"));
    etcd.start_again();
    until("lost", 404).await;
    let found = api.get(&format!("{CONFIG_MAPS}/kept")).await.expect(200);
    assert_eq!(found["metadata"]["uid"], kept["metadata"]["uid"]);
    let ended = watch.next().await.expect("a reason");
    assert_eq!(ended["object"]["code"], 410, "{ended}");
    let again = api.config_map("lost", json!({})).await;
    assert!(version(&again) > version(&lost), "no version comes twice");

    etcd.lose_data();
    etcd.start_again();
    wait_for_async("it to be told", LIMIT, || async {
        let answer = api.get(&format!("{CONFIG_MAPS}/kept")).await;
        let told = answer.text.contains("no longer holds this cluster's data");
        if answer.code == 503 && told {
            Ok(())
        } else {
            Err(answer.text)
        }
    })
    .await;
    let map = json!({"metadata": {"name": "x"}});
    assert_eq!(api.post(CONFIG_MAPS, map).await.code, 503);
    etcd.put_back(&saved.path().join("data"));
    etcd.start_again();
    until("kept", 200).await;
    until("lost", 404).await;
    let after = api.config_map("lost", json!({})).await;
    assert!(version(&after) > version(&again), "nor now");
}

#[tokio::test]
async fn a_server_lives_on_when_etcd_stands_still_or_has_no_leader() {
    let mut members = EtcdServer::start_members(3);
    let urls: Vec<String> = members.iter().map(|member| member.url.clone()).collect();
    let api = Api::start_with(|config| {
        config.store = StoreConfig::Etcd(EtcdConfig::new(&urls, "/registry"));
    })
    .await;
    api.config_map("before", json!({})).await;
    let name = |name: &str| format!("{CONFIG_MAPS}/{name}");
    let serves = async || {
        wait_for_async("it to serve again", LIMIT, || async {
            match api.get(&name("before")).await.code {
                200 if api.get("/readyz").await.code == 200 => Ok(()),
                code => Err(code),
            }
        })
        .await;
    };
    for member in &members {
        member.stop(true);
    }
    // A client has an answer in the time that it gives, and the server its life.
    let body = json!({"metadata": {"name": "during"}});
    let begun = std::time::Instant::now();
    let path = format!("{CONFIG_MAPS}?timeout=2s");
    let answer = api.post(&path, body.clone()).await;
    assert_eq!(answer.code, 504, "{}", answer.text);
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert_eq!(api.get("/livez").await.code, 200);
    let cached = api
        .get(&format!("{}?resourceVersion=0", name("before")))
        .await;
    assert!(matches!(cached.code, 200 | 503), "{}", cached.text);
    for member in &members {
        member.stop(false);
    }
    serves().await;
    // It was made or it wasn't, and everybody is told the same.
    match api.get(&name("during")).await.code {
        200 => api.post(CONFIG_MAPS, body).await.expect(409),
        404 => api.post(CONFIG_MAPS, body).await.expect(201),
        code => panic!("{code}"),
    };

    members[0].kill();
    members[1].kill();
    let body = json!({"metadata": {"name": "leaderless"}});
    wait_for_async("a refusal", LIMIT, || async {
        let answer = api.post(CONFIG_MAPS, body.clone()).await;
        match answer.code {
            503 => Ok(()),
            _ => Err(answer.text),
        }
    })
    .await;
    assert_eq!(api.get("/livez").await.code, 200);
    for member in &mut members[..2] {
        member.start_again();
    }
    serves().await;
    api.config_map("after", json!({})).await;
    for there in ["before", "during"] {
        api.get(&name(there)).await.expect(200);
    }
}
