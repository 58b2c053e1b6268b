use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

/// A storage of the test's own that runs.
async fn storage(dir: &std::path::Path) -> Arc<Storage> {
    let store = berth_store::sqlite::Sqlite::open(dir).await.unwrap();
    let storage = Arc::new(Storage::new(Arc::new(store)));
    storage.load().await.unwrap();
    tokio::spawn(Arc::clone(&storage).run());
    storage
}

async fn put(storage: &Storage, kind: &str, namespace: &str, name: &str, object: Value) {
    let put = storage.put(kind, namespace, name, Expect::Any, object);
    put.await.unwrap();
}

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")}, "spec": spec})
}

fn address(name: &str, service: &str, created: &str, by: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": name, "creationTimestamp": created, "labels": {MANAGED_BY: by}},
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": service}}})
}

fn addresses(storage: &Storage) -> Vec<String> {
    let list = storage.list(ADDRESSES, None);
    let mut names: Vec<String> = list.iter().map(|s| s.name.to_string()).collect();
    names.sort();
    names
}

fn ports(storage: &Storage) -> Vec<u16> {
    let mut ports: Vec<u16> = in_use(storage)
        .unwrap()
        .iter()
        .map(|(port, _)| *port)
        .collect();
    ports.sort_unstable();
    ports
}

#[tokio::test]
async fn what_services_have_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let storage = storage(dir.path()).await;
    let settings = ServiceSettings::default();
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.7.7",
        "ports": [{"port": 1, "nodePort": 30001}, {"port": 2, "nodePort": 32000}]});
    put(&storage, SERVICES, "default", "old", service("old", spec)).await;
    let spec = json!({"type": "ExternalName", "clusterIP": "10.96.7.8", "ports": [{"port": 1, "nodePort": 30002}]});
    put(&storage, SERVICES, "default", "name", service("name", spec)).await;
    let mut repair = Repair::default();
    repair.run(&storage, &settings).await.unwrap();
    assert_eq!(addresses(&storage), ["10.96.7.7"]);
    assert_eq!(ports(&storage), [30_001, 32_000]);
    let before = storage.applied();
    repair.run(&storage, &settings).await.unwrap();
    assert_eq!(storage.applied(), before, "nothing is written twice");
}

#[tokio::test]
async fn what_is_left_over_is_given_back_when_nobody_can_be_about_to_use_it() {
    let dir = tempfile::tempdir().unwrap();
    let storage = storage(dir.path()).await;
    let settings = ServiceSettings::default();
    let (past, now) = ("2026-01-01T00:00:00Z", jiff::Timestamp::now().to_string());
    for (name, created, by) in [
        ("10.96.1.1", past, MANAGER),
        ("10.96.1.2", &*now, MANAGER),
        ("10.96.1.3", past, "somebody-else"),
    ] {
        put(
            &storage,
            ADDRESSES,
            "",
            name,
            address(name, "gone", created, by),
        )
        .await;
    }
    let gone: Service = serde_json::from_value(service("gone", json!({}))).unwrap();
    let mut ledger = Ledger::new(&storage, settings.node_ports(), Owner::default());
    ledger.record(30_005, Owner::of(Some(&gone)));
    for write in ledger.into_writes().unwrap() {
        storage.commit(write, Vec::new()).await.unwrap();
    }
    let mut repair = Repair::default();
    repair.run(&storage, &settings).await.unwrap();
    assert_eq!(addresses(&storage), ["10.96.1.2", "10.96.1.3"]);
    assert_eq!(
        ports(&storage),
        [30_005],
        "its Service may be about to be seen"
    );
    repair.run(&storage, &settings).await.unwrap();
    assert!(ports(&storage).is_empty());
}

#[tokio::test]
async fn while_a_service_cannot_be_read_nothing_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let storage = storage(dir.path()).await;
    let settings = ServiceSettings::default();
    put(
        &storage,
        SERVICES,
        "default",
        "odd",
        service("odd", json!("no spec")),
    )
    .await;
    let past = "2026-01-01T00:00:00Z";
    put(
        &storage,
        ADDRESSES,
        "",
        "10.96.1.1",
        address("10.96.1.1", "odd", past, MANAGER),
    )
    .await;
    let mut repair = Repair::default();
    for _ in 0..3 {
        repair.run(&storage, &settings).await.unwrap();
    }
    assert_eq!(addresses(&storage), ["10.96.1.1"]);
}

#[tokio::test]
async fn an_address_of_two_services_stays_the_first_ones() {
    let dir = tempfile::tempdir().unwrap();
    let storage = storage(dir.path()).await;
    let settings = ServiceSettings::default();
    for name in ["a", "b"] {
        let spec = json!({"clusterIP": "10.96.7.7", "ports": [{"port": 1}]});
        put(&storage, SERVICES, "default", name, service(name, spec)).await;
    }
    Repair::default().run(&storage, &settings).await.unwrap();
    let held: IPAddress = storage.read(ADDRESSES, "", "10.96.7.7").unwrap().unwrap();
    assert_eq!(parent_service(&held), Some(("default", "a")));
}
