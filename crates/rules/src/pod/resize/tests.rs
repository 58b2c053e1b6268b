//! What a resize may change, and what it may not.

use serde_json::{Value, json};

use super::*;
use crate::Rules;
use berth_core::gates::FeatureGates;

fn pod(spec: Value) -> Pod {
    let body = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"}, "spec": spec});
    let mut pod: Pod = berth_api::decode::from_value(&body).unwrap();
    Rules::default(&mut pod);
    pod.prepare_create(&FeatureGates::default());
    pod
}

fn both(cpu: &str, memory: &str) -> Value {
    json!({"cpu": cpu, "memory": memory})
}

fn burstable() -> Value {
    json!({"containers": [{"name": "c", "image": "i", "resources": {
        "requests": both("100m", "64Mi"), "limits": both("1", "128Mi")}}]})
}

/// The old spec changed at one place, as a client's request.
fn request(old: &Value, at: &str, value: Value) -> Pod {
    let mut spec = old.clone();
    let (parent, field) = at.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[field] = value;
    let body = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"}, "spec": spec});
    let mut pod: Pod = berth_api::decode::from_value(&body).unwrap();
    Rules::default(&mut pod);
    pod
}

fn causes(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn resized(old: &Value, at: &str, value: Value) -> Vec<String> {
    let before = pod(old.clone());
    let after = apply_resize(&request(old, at, value), &before);
    causes(&validate_resize(&after, &before))
}

const REQUESTS: &str = "/containers/0/resources/requests";
const LIMITS: &str = "/containers/0/resources/limits";

#[test]
fn amounts() {
    for (at, value, want) in [
        (REQUESTS, both("200m", "32Mi"), vec![]),
        (LIMITS, both("4", "1Gi"), vec![]),
        // Since v1.34 a limit of memory may also sink without a restart.
        (LIMITS, both("1", "64Mi"), vec![]),
        (
            REQUESTS,
            both("-1", "64Mi"),
            vec![
                "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        ),
        (
            REQUESTS,
            both("2", "64Mi"),
            vec![
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ],
        ),
        (
            REQUESTS,
            both("1", "128Mi"),
            vec![
                "spec: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing",
            ],
        ),
        (
            LIMITS,
            json!({"cpu": "1"}),
            vec![
                "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
            ],
        ),
        (
            REQUESTS,
            json!({"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "1Gi"}),
            vec!["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (
            "/containers/0/resizePolicy",
            json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]),
            vec!["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (
            "/containers/0/resizePolicy",
            json!([{"resourceName": "gpu", "restartPolicy": "NotRequired"}]),
            vec![
                "spec.containers[0].resizePolicy: Unsupported value: \"gpu\": supported values: \"cpu\", \"memory\"",
                "spec: Forbidden: only cpu and memory resources are mutable",
            ],
        ),
    ] {
        assert_eq!(
            resized(&burstable(), at, value.clone()),
            want,
            "{at} {value}"
        );
    }
}

#[test]
fn requests_that_go_away_come_back_by_default_from_limits_only() {
    let old = json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]});
    assert_eq!(
        resized(&old, "/containers/0/resources", json!({})),
        [
            "spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing",
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
        ]
    );
}

#[test]
fn nothing_else_is_taken_over() {
    let before = pod(burstable());
    for (at, value) in [
        ("/containers/0/image", json!("evil")),
        ("/containers/0/securityContext", json!({"privileged": true})),
        ("/hostNetwork", json!(true)),
        ("/initContainers", json!([{"name": "x", "image": "i"}])),
        ("/containers/0/name", json!("other")),
    ] {
        let mut wanted = request(&burstable(), at, value);
        wanted.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        assert_eq!(apply_resize(&wanted, &before), before, "{at}");
    }
    let after = apply_resize(&request(&burstable(), LIMITS, both("2", "1Gi")), &before);
    assert_eq!(after.metadata.generation, Some(2));
    let mut other = request(&burstable(), LIMITS, both("2", "1Gi"));
    other.metadata.uid = Some("v".to_owned());
    let errors = causes(&validate_resize(&apply_resize(&other, &before), &before));
    assert_eq!(
        errors,
        ["metadata.uid: Invalid value: \"v\": field is immutable"]
    );
}

#[test]
fn init_containers_and_sidecars() {
    let old = |restart: Value| {
        json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}],
            "initContainers": [{"name": "x", "image": "i", "restartPolicy": restart, "resources": {"requests": {"cpu": "1"}}}]})
    };
    let at = "/initContainers/0/resources/requests";
    assert_eq!(
        resized(&old(json!("Always")), at, json!({"cpu": "2"})),
        Vec::<String>::new()
    );
    assert_eq!(
        resized(
            &old(json!("Always")),
            at,
            json!({"cpu": "2", "example.com/x": "1"})
        )
        .len(),
        2,
        "an extended resource without limit, and not mutable"
    );
    assert_eq!(
        resized(&old(Value::Null), at, json!({"cpu": "2"})),
        ["spec: Forbidden: resources for non-sidecar init containers are immutable"]
    );
}

#[test]
fn pods_that_cannot_be_resized() {
    type Edit = fn(&mut Pod);
    let more = both("200m", "64Mi");
    let edits: [(&str, Edit); 2] = [
        ("[]: Forbidden: static pods cannot be resized", |p| {
            p.metadata.annotations =
                Some([("kubernetes.io/config.mirror".to_owned(), "x".to_owned())].into());
        }),
        ("[]: Forbidden: windows pods cannot be resized", |p| {
            p.spec.as_mut().unwrap().os = Some(k8s_openapi::api::core::v1::PodOS {
                name: "windows".to_owned(),
            });
        }),
    ];
    for (want, edit) in edits {
        let mut before = pod(burstable());
        edit(&mut before);
        let after = apply_resize(&request(&burstable(), REQUESTS, more.clone()), &before);
        assert_eq!(causes(&validate_resize(&after, &before)), [want]);
    }
    for (resources, want) in [
        (
            Value::Null,
            vec!["spec: Forbidden: Pod running on node without support for resize"],
        ),
        (json!({"requests": {"cpu": "100m"}}), vec![]),
    ] {
        let mut before = pod(burstable());
        before.status.as_mut().unwrap().container_statuses = serde_json::from_value(json!([
            {"name": "c", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
             "state": {"running": {}}, "resources": resources}]))
        .unwrap();
        let after = apply_resize(&request(&burstable(), REQUESTS, more.clone()), &before);
        assert_eq!(causes(&validate_resize(&after, &before)), want);
    }
}

#[test]
fn a_pod_as_a_whole() {
    let old = json!({
        "containers": [{"name": "c", "image": "i", "resources": {"requests": both("100m", "64Mi")}}],
        "resources": {"requests": both("200m", "64Mi"), "limits": both("1", "128Mi")},
    });
    let (requests, limits) = ("/resources/requests", "/resources/limits");
    for (at, value, want) in [
        (requests, both("300m", "128Mi"), vec![]),
        (limits, both("4", "64Mi"), vec![]),
        (
            limits,
            json!({"cpu": "1"}),
            vec!["spec.resources.limits: Forbidden: resource limits cannot be removed"],
        ),
        (
            requests,
            both("50m", "64Mi"),
            vec![
                "spec.resources.requests[cpu]: Invalid value: \"50m\": must be greater than or equal to aggregate container requests of 100m",
            ],
        ),
        (
            limits,
            both("100m", "128Mi"),
            vec![
                "spec.resources.requests: Invalid value: \"200m\": must be less than or equal to cpu limit of 100m",
            ],
        ),
        (
            requests,
            both("1", "128Mi"),
            vec![
                "spec: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing",
            ],
        ),
        (
            limits,
            json!({"cpu": "1", "memory": "128Mi", "hugepages-2Mi": "2Mi"}),
            vec!["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
    ] {
        assert_eq!(resized(&old, at, value.clone()), want, "{at} {value}");
    }
    // One that had none gets some, and does not lose them again.
    let whole = json!({"requests": both("200m", "64Mi"), "limits": both("2", "256Mi")});
    assert_eq!(
        resized(&burstable(), "/resources", whole.clone()),
        Vec::<String>::new()
    );
    let mut with = burstable();
    with["resources"] = whole;
    assert_eq!(
        resized(&with, "/resources", Value::Null),
        [
            "spec.resources.requests: Forbidden: resource requests cannot be removed",
            "spec.resources.limits: Forbidden: resource limits cannot be removed",
        ]
    );
}

#[test]
fn containers_stay_as_they_are() {
    let before = pod(burstable());
    for (edit, want) in [
        (
            (|s: &mut PodSpec| {
                s.containers.push(Container {
                    name: "d".to_owned(),
                    ..s.containers[0].clone()
                })
            }) as fn(&mut PodSpec),
            "spec.containers: Forbidden: containers may not be added or removed on resize",
        ),
        (
            |s| s.containers[0].name = "d".to_owned(),
            "spec.containers: Forbidden: containers may not be renamed or reordered on resize",
        ),
        (
            |s| s.containers[0].image = Some("j".to_owned()),
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            |s| s.host_pid = Some(true),
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
    ] {
        let mut after = before.clone();
        edit(after.spec.as_mut().unwrap());
        assert_eq!(causes(&validate_resize(&after, &before)), [want]);
    }
}
