//! Objects as large as a request can be take as long as they are large, and what is said of them is bounded.

use std::time::Duration;

use berth_api::field::ERRORS_LIMIT;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Endpoints, PersistentVolumeClaim, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::storage::v1::CSINode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Rules;
use berth_core::gates::FeatureGates;

/// Items of the small and of the large object.
const SMALL: usize = 2_000;
const LARGE: usize = 40_000;
/// By how much longer the large one may take: 20 times is linear, 400 times quadratic.
const RATIO: u32 = 130;

/// How long this thread has had a processor: what others do on the machine doesn't count.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn items(n: usize, one: impl Fn(usize) -> Value) -> Value {
    (0..n).map(one).collect()
}

/// Creates an object and replaces it by itself.
fn write<T: Rules + Clone>(object: &T) {
    let gates = FeatureGates::default();
    let mut new = object.clone();
    new.default();
    new.prepare_create(&gates);
    let created = new.validate();
    let old = new.clone();
    new.prepare_update(&old, &gates);
    let updated = new.validate_update(&old);
    for errors in [created, updated] {
        // The server reports a hundred; what is made before that is bounded, too.
        assert!(errors.len() <= 20 * ERRORS_LIMIT, "{} errors", errors.len());
    }
}

fn assert_linear<T: Rules + Clone + DeserializeOwned>(what: &str, make: impl Fn(usize) -> Value) {
    let of = |n: usize| -> T {
        let mut body = make(n);
        body["metadata"] =
            json!({"name": "x", "namespace": "n", "uid": "u", "resourceVersion": "1"});
        serde_json::from_value(body).unwrap()
    };
    let measure = |object: &T, runs: usize| {
        let times = (0..runs).map(|_| {
            let start = processor_time();
            write(object);
            processor_time() - start
        });
        times.min().unwrap()
    };
    // What takes next to no time is measured badly; 40,000 items compared with each other take many seconds.
    let base = measure(&of(SMALL), 3).max(Duration::from_millis(20));
    let large = of(LARGE);
    let took = (0..3)
        .map(|_| measure(&large, 1))
        .find(|took| *took < base * RATIO);
    assert!(
        took.is_some(),
        "{what}: {SMALL} items took {base:?}, {LARGE} too long"
    );
}

#[test]
fn long_lists_of_kinds() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert_linear::<StatefulSet>("claims of a stateful set", |n| {
        let claims = items(n, |i| json!({"metadata": {"name": format!("c{i}")}}));
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, "volumeClaimTemplates": claims}})
    });
    assert_linear::<Service>("ports of a service", |n| {
        let ports = items(
            n,
            |i| json!({"port": i, "name": format!("p{i}"), "nodePort": i}),
        );
        json!({"spec": {"type": "NodePort", "ports": ports}})
    });
    assert_linear::<CSINode>(
        "drivers of a node",
        |n| json!({"spec": {"drivers": items(n, |i| json!({"name": format!("d{i}"), "nodeID": "i"}))}}),
    );
    assert_linear::<Endpoints>("subsets", |n| json!({"subsets": items(n, |_| json!({}))}));
    assert_linear::<EndpointSlice>(
        "endpoints of a slice",
        |n| json!({"addressType": "IPv4", "endpoints": items(n, |_| json!({"addresses": []}))}),
    );
    assert_linear::<NetworkPolicy>(
        "peers",
        |n| json!({"spec": {"ingress": [{"from": items(n, |_| json!({}))}]}}),
    );
    assert_linear::<Ingress>(
        "rules",
        |n| json!({"spec": {"rules": items(n, |_| json!({"host": "-", "http": {"paths": [{"pathType": "Odd"}]}}))}}),
    );
    assert_linear::<CertificateSigningRequest>(
        "usages",
        |n| json!({"spec": {"signerName": "a.b/c", "usages": items(n, |i| json!(format!("u{i}")))}}),
    );
    assert_linear::<PersistentVolumeClaim>(
        "access modes",
        |n| json!({"spec": {"accessModes": items(n, |i| json!(format!("m{i}")))}}),
    );
    assert_linear::<Job>("rules of a job", |n| {
        let codes = json!({"operator": "In", "values": [1]});
        let rules = items(n, |_| json!({"action": "FailJob", "onExitCodes": codes}));
        json!({"spec": {"template": template, "podFailurePolicy": {"rules": rules}}})
    });
}
