//! What Services get: addresses, node ports, and the Service of the API server itself.

use std::collections::BTreeSet;

use berth_apiserver::ServiceSettings;
use serde_json::{Value, json};

use super::harness::{Api, PATIENCE, names};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";

fn service(name: &str, mut spec: Value) -> Value {
    if spec["type"] != "ExternalName" && spec["ports"].is_null() {
        spec["ports"] = json!([{"port": 80}]);
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

async fn small() -> Api {
    Api::start_with(|config| {
        config.services = ServiceSettings::parse("10.0.0.0/28", "100-103").unwrap();
    })
    .await
}

async fn made(api: &Api, name: &str, spec: Value) -> Value {
    api.post(SERVICES, service(name, spec)).await.expect(201)
}

async fn refused(api: &Api, name: &str, spec: Value, code: u16) -> String {
    let status = api.post(SERVICES, service(name, spec)).await.expect(code);
    status["message"].as_str().unwrap().to_owned()
}

async fn addresses(api: &Api) -> BTreeSet<String> {
    let list = api.get(ADDRESSES).await.expect(200);
    names(&list).into_iter().collect()
}

#[tokio::test]
async fn an_address_is_had_by_one_service_until_it_goes() {
    let api = small().await;
    let one = made(&api, "one", json!({})).await;
    let ip = one["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert_eq!(one["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(one["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(one["spec"]["ipFamilyPolicy"], "SingleStack");
    let address = api.get(&format!("{ADDRESSES}/{ip}")).await.expect(200);
    assert_eq!(
        address["spec"]["parentRef"],
        json!({"group": "", "resource": "services", "namespace": "default", "name": "one"})
    );
    let labels = &address["metadata"]["labels"];
    assert_eq!(
        labels["ipaddress.kubernetes.io/managed-by"],
        "ipallocator.k8s.io"
    );
    assert_eq!(labels["ipaddress.kubernetes.io/ip-family"], "IPv4");

    let said = refused(&api, "two", json!({"clusterIP": ip}), 422).await;
    assert!(said.contains(&format!(
        "spec.clusterIPs: Invalid value: [\"{ip}\"]: failed to allocate IP {ip}: provided IP is already allocated"
    )), "{said}");
    for (wanted, why) in [
        (
            "10.1.0.1",
            "the provided network does not match the current range",
        ),
        (
            "10.0.0.0",
            "is not in the valid range. The range of valid IPs is 10.0.0.0/28",
        ),
        (
            "10.0.0.15",
            "is not in the valid range. The range of valid IPs is 10.0.0.0/28",
        ),
    ] {
        let said = refused(&api, "two", json!({"clusterIP": wanted}), 422).await;
        assert!(said.contains(why), "{said}");
    }
    let other = if ip == "10.0.0.9" {
        "10.0.0.8"
    } else {
        "10.0.0.9"
    };
    let moved = json!({"spec": {"clusterIP": other, "clusterIPs": [other]}});
    let said = api
        .merge(&format!("{SERVICES}/one"), moved)
        .await
        .expect(422);
    assert!(
        said["message"]
            .as_str()
            .unwrap()
            .contains("may not change once set"),
        "{said}"
    );

    api.delete(&format!("{SERVICES}/one")).await.expect(200);
    api.get(&format!("{ADDRESSES}/{ip}")).await.expect(404);
    made(&api, "two", json!({"clusterIP": ip})).await;
}

#[tokio::test]
async fn a_full_range_says_so_and_gives_again_what_comes_back() {
    let api = small().await;
    // Fourteen, of which the API server's own Service has one.
    for n in 0..13 {
        made(&api, &format!("s{n}"), json!({})).await;
    }
    assert_eq!(addresses(&api).await.len(), 14);
    let said = refused(&api, "more", json!({}), 500).await;
    assert!(
        said.contains("failed to allocate a serviceIP: range is full"),
        "{said}"
    );
    made(&api, "headless", json!({"clusterIP": "None"})).await;
    made(
        &api,
        "name",
        json!({"type": "ExternalName", "externalName": "a.example"}),
    )
    .await;
    let gone = api.delete(SERVICES).await.expect(200);
    assert_eq!(gone["items"].as_array().unwrap().len(), 16);
    // The API server's own may be back already.
    let left = addresses(&api).await;
    assert!(left.iter().all(|ip| ip == "10.0.0.1"), "{left:?}");
    for n in 0..13 {
        made(&api, &format!("t{n}"), json!({})).await;
    }
}

#[tokio::test]
async fn a_refused_or_tried_service_takes_nothing() {
    let api = small().await;
    let before = addresses(&api).await;
    let dry = format!("{SERVICES}?dryRun=All");
    let tried = api
        .post(&dry, service("dry", json!({"type": "NodePort"})))
        .await
        .expect(201);
    assert_ne!(tried["spec"]["clusterIP"], Value::Null);
    assert_eq!(
        tried["spec"]["ports"][0]["nodePort"]
            .as_i64()
            .map(|p| p / 100),
        Some(1)
    );
    refused(&api, "bad", json!({"sessionAffinity": "Odd"}), 422).await;
    made(&api, "there", json!({})).await;
    api.post(SERVICES, service("there", json!({"type": "NodePort"})))
        .await
        .expect(409);
    api.delete(&format!("{SERVICES}/there?dryRun=All"))
        .await
        .expect(200);
    assert_eq!(addresses(&api).await.len(), before.len() + 1);
    // All four ports are free.
    let four: Vec<Value> = (1..5)
        .map(|n| json!({"name": format!("p{n}"), "port": n}))
        .collect();
    made(&api, "four", json!({"type": "NodePort", "ports": four})).await;
}

#[tokio::test]
async fn a_node_port_is_had_by_one_service_until_it_goes() {
    let api = small().await;
    let named = |port: u16| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    made(&api, "one", named(101)).await;
    let said = refused(&api, "two", named(101), 422).await;
    assert!(
        said.contains(
            "spec.ports[0].nodePort: Invalid value: 101: provided port is already allocated"
        ),
        "{said}"
    );
    let said = refused(&api, "two", named(99), 422).await;
    assert!(
        said.contains(
            "provided port is not in the valid range. The range of valid ports is 100-103"
        ),
        "{said}"
    );
    let both = json!([{"name": "a", "port": 53}, {"name": "b", "port": 53, "protocol": "UDP"}]);
    let two = made(&api, "two", json!({"type": "NodePort", "ports": both})).await;
    let ports = &two["spec"]["ports"];
    assert_eq!(ports[0]["nodePort"], ports[1]["nodePort"]);
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
    let three = made(&api, "three", local).await;
    assert!(three["spec"]["healthCheckNodePort"].as_i64().unwrap() >= 100);
    let said = refused(&api, "four", json!({"type": "NodePort"}), 500).await;
    assert!(
        said.contains("failed to allocate a nodePort: range is full"),
        "{said}"
    );

    // Another policy and another type give back what only the first one has.
    let policy = json!({"spec": {"externalTrafficPolicy": "Cluster"}});
    let three = api
        .merge(&format!("{SERVICES}/three"), policy)
        .await
        .expect(200);
    assert!(
        three["spec"]["healthCheckNodePort"].as_i64().unwrap_or(0) == 0,
        "{three}"
    );
    let inner = json!({"spec": {"type": "ClusterIP"}});
    let one = api
        .merge(&format!("{SERVICES}/one"), inner)
        .await
        .expect(200);
    assert_eq!(one["spec"]["ports"][0]["nodePort"], Value::Null);
    let ports = json!([{"name": "a", "port": 1, "nodePort": 101}, {"name": "b", "port": 2}]);
    made(&api, "four", json!({"type": "NodePort", "ports": ports})).await;
    let said = refused(&api, "five", json!({"type": "NodePort"}), 500).await;
    assert!(said.contains("range is full"), "{said}");
}

#[tokio::test]
async fn a_change_of_type_takes_and_gives_back_addresses() {
    let api = small().await;
    let name = json!({"type": "ExternalName", "externalName": "a.example"});
    let made_name = made(&api, "s", name.clone()).await;
    assert_eq!(made_name["spec"]["clusterIP"], Value::Null);
    let path = format!("{SERVICES}/s");
    let inner =
        json!({"spec": {"type": "ClusterIP", "externalName": null, "ports": [{"port": 80}]}});
    let inside = api.merge(&path, inner).await.expect(200);
    let ip = inside["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(addresses(&api).await.contains(&ip));
    let dry = format!("{path}?dryRun=All");
    let outer = json!({"spec": {"type": "ExternalName", "externalName": "a.example"}});
    api.merge(&dry, outer.clone()).await.expect(200);
    assert!(addresses(&api).await.contains(&ip));
    let outside = api.merge(&path, outer).await.expect(200);
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        assert_eq!(outside["spec"][field], Value::Null, "{field}");
    }
    assert!(!addresses(&api).await.contains(&ip));
}

#[tokio::test]
async fn what_is_handed_out_is_nobodys_field_and_survives_an_apply() {
    let api = small().await;
    let one = made(&api, "one", json!({"type": "NodePort"})).await;
    let fields = one["metadata"]["managedFields"].to_string();
    assert!(fields.contains("f:type"), "{fields}");
    for field in ["f:clusterIP", "f:nodePort", "f:ipFamilies"] {
        assert!(!fields.contains(field), "{fields}");
    }
    let path = format!("{SERVICES}/one?fieldManager=me&force=true");
    let headers = [("content-type", "application/apply-patch+yaml")];
    let applied = service("one", json!({"type": "NodePort"})).to_string();
    let applied = api.raw("PATCH", &path, &headers, applied).await.expect(200);
    assert_eq!(applied["spec"]["clusterIP"], one["spec"]["clusterIP"]);
    assert_eq!(applied["spec"]["ports"], one["spec"]["ports"]);
    let whole = service("one", json!({"type": "NodePort"}));
    let put = api
        .put(&format!("{SERVICES}/one"), &whole)
        .await
        .expect(200);
    assert_eq!(put["spec"]["clusterIP"], one["spec"]["clusterIP"]);
    assert_eq!(put["spec"]["ports"], one["spec"]["ports"]);
}

#[tokio::test]
async fn both_families_where_there_are_both() {
    let api = Api::start_with(|config| {
        config.services = ServiceSettings::parse("10.0.0.0/24,fd00::/108", "100-103").unwrap();
    })
    .await;
    let one = made(&api, "one", json!({"ipFamilyPolicy": "PreferDualStack"})).await;
    assert_eq!(one["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    let ips = one["spec"]["clusterIPs"].as_array().unwrap().clone();
    assert_eq!(ips.len(), 2);
    assert!(addresses(&api).await.contains(ips[1].as_str().unwrap()));
    let single = json!({"spec": {"ipFamilyPolicy": "SingleStack"}});
    let one = api
        .merge(&format!("{SERVICES}/one"), single)
        .await
        .expect(200);
    assert_eq!(one["spec"]["clusterIPs"], json!([ips[0]]));
    assert!(!addresses(&api).await.contains(ips[1].as_str().unwrap()));
    let dual = json!({"spec": {"ipFamilyPolicy": "RequireDualStack"}});
    let one = api
        .merge(&format!("{SERVICES}/one"), dual)
        .await
        .expect(200);
    assert_eq!(one["spec"]["clusterIPs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn many_at_once_never_get_the_same() {
    let api = Api::start_with(|config| {
        config.services = ServiceSettings::parse("10.0.0.0/26", "100-140").unwrap();
    })
    .await;
    let all = (0..40).map(|n| {
        let api = &api;
        async move { made(api, &format!("s{n}"), json!({"type": "NodePort"})).await }
    });
    let all = futures::future::join_all(all).await;
    let ips: BTreeSet<&str> = all
        .iter()
        .map(|s| s["spec"]["clusterIP"].as_str().unwrap())
        .collect();
    let ports: BTreeSet<i64> = all
        .iter()
        .map(|s| s["spec"]["ports"][0]["nodePort"].as_i64().unwrap())
        .collect();
    assert_eq!((ips.len(), ports.len()), (40, 40));
}

#[tokio::test]
async fn what_was_given_stays_given_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start_in(dir.path()).await;
    let one = made(&api, "one", json!({"type": "NodePort"})).await;
    let (ip, port) = (
        &one["spec"]["clusterIP"],
        &one["spec"]["ports"][0]["nodePort"],
    );
    api.stop().await;
    let api = Api::start_in(dir.path()).await;
    refused(&api, "two", json!({"clusterIP": ip}), 422).await;
    let ports = json!([{"port": 1, "nodePort": port}]);
    refused(
        &api,
        "two",
        json!({"type": "NodePort", "ports": ports}),
        422,
    )
    .await;
}

#[tokio::test]
async fn the_service_of_the_api_server_is_there_and_comes_back() {
    let api = Api::start_with(|config| config.advertise = [10, 9, 8, 7].into()).await;
    let path = format!("{SERVICES}/kubernetes");
    let service = api.get(&path).await.expect(200);
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
    assert_eq!(
        service["metadata"]["labels"],
        json!({"component": "apiserver", "provider": "kubernetes"})
    );
    let port = api.address.port();
    assert_eq!(
        service["spec"]["ports"],
        json!([{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}])
    );
    let endpoints = api
        .get("/api/v1/namespaces/default/endpoints/kubernetes")
        .await
        .expect(200);
    assert_eq!(
        endpoints["subsets"],
        json!([{"addresses": [{"ip": "10.9.8.7"}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}])
    );
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    let slice = api.get(slice).await.expect(200);
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"kubernetes.io/service-name": "kubernetes"})
    );
    assert_eq!(
        slice["endpoints"],
        json!([{"addresses": ["10.9.8.7"], "conditions": {"ready": true}}])
    );

    let mut watch = api
        .watch(&format!(
            "{SERVICES}?watch=true&fieldSelector=metadata.name=kubernetes"
        ))
        .await;
    assert_eq!(watch.told().await.0, "ADDED");
    api.delete(&path).await.expect(200);
    assert_eq!(watch.told().await.0, "DELETED");
    // Nobody gets its address in between.
    refused(&api, "thief", json!({"clusterIP": "10.96.0.1"}), 422).await;
    assert_eq!(watch.told().await.0, "ADDED");
    let again = api.get(&path).await.expect(200);
    assert_eq!(again["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test]
async fn a_further_range_is_ready_and_goes_when_nothing_is_left_of_it() {
    let api = small().await;
    let own = api.get(&format!("{CIDRS}/kubernetes")).await.expect(200);
    assert_eq!(own["spec"]["cidrs"], json!(["10.0.0.0/28"]));
    assert_eq!(own["status"]["conditions"][0]["type"], "Ready");
    assert_eq!(own["status"]["conditions"][0]["status"], "True");
    assert_eq!(
        own["metadata"]["finalizers"],
        json!(["networking.k8s.io/service-cidr-finalizer"])
    );
    let more = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.5.0.0/28"]}});
    api.post(CIDRS, more).await.expect(201);
    let until = async |what: fn(&Value) -> bool| {
        let path = format!("{CIDRS}?watch=true&fieldSelector=metadata.name=more");
        let mut watch = api.watch(&path).await;
        let found = async {
            while let Some(event) = watch.next().await {
                if what(&event) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap();
    };
    until(|event| event["object"]["status"]["conditions"][0]["status"] == "True").await;
    made(&api, "there", json!({"clusterIP": "10.5.0.3"})).await;
    let deleted = api.delete(&format!("{CIDRS}/more")).await.expect(200);
    let ending = &deleted["metadata"]["deletionTimestamp"];
    assert!(ending.is_string(), "{deleted}");
    let said = refused(&api, "late", json!({"clusterIP": "10.5.0.4"}), 422).await;
    assert!(said.contains("does not match the current range"), "{said}");
    until(|event| event["object"]["status"]["conditions"][0]["reason"] == "Terminating").await;
    api.delete(&format!("{SERVICES}/there")).await.expect(200);
    until(|event| event["type"] == "DELETED").await;
}
