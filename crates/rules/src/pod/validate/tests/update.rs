//! What may change later: the spec and the status.

use serde_json::{Value, json};

use super::{causes, merge, pod, spec};
use crate::Rules as _;
use berth_core::gates::FeatureGates;

#[test]
fn what_an_update_may_change() {
    let base = || {
        json!({"containers": [{"name": "c", "image": "i"}], "activeDeadlineSeconds": 10, "tolerations": [{"key": "a", "operator": "Exists"}],
        "schedulingGates": [{"name": "g"}], "nodeSelector": {"x": "y"}})
    };
    let with = |more: Value| {
        let mut s = base();
        merge(&mut s, more);
        s
    };
    for (change, want) in [
        (json!({}), vec![]),
        (
            json!({"containers": [{"name": "c", "image": "other", "imagePullPolicy": "Always"}]}),
            vec![],
        ),
        (
            json!({"containers": [{"name": "c", "image": ""}]}),
            vec![
                "FieldValueForbidden spec",
                "FieldValueRequired spec.containers[0].image",
            ],
        ),
        (
            json!({"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]}),
            vec!["FieldValueForbidden spec.containers"],
        ),
        (json!({"activeDeadlineSeconds": 5}), vec![]),
        (
            json!({"activeDeadlineSeconds": 20}),
            vec!["FieldValueInvalid spec.activeDeadlineSeconds"],
        ),
        (
            json!({"activeDeadlineSeconds": null}),
            vec!["FieldValueInvalid spec.activeDeadlineSeconds"],
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]}),
            vec![],
        ),
        (
            json!({"tolerations": []}),
            vec!["FieldValueForbidden spec.tolerations"],
        ),
        (json!({"schedulingGates": []}), vec![]),
        (
            json!({"schedulingGates": [{"name": "h"}]}),
            vec!["FieldValueForbidden spec.schedulingGates[0].name"],
        ),
        (json!({"nodeSelector": {"x": "y", "z": "w"}}), vec![]),
        (
            json!({"nodeSelector": {"x": "z"}}),
            vec!["FieldValueInvalid spec.nodeSelector"],
        ),
        (
            json!({"hostNetwork": true}),
            vec!["FieldValueForbidden spec"],
        ),
        (
            json!({"runtimeClassName": "x"}),
            vec!["FieldValueForbidden spec"],
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            vec!["FieldValueForbidden spec"],
        ),
    ] {
        let old = pod(base());
        let mut new = pod(with(change.clone()));
        new.prepare_update(&old, &FeatureGates::default());
        assert_eq!(causes(&new.validate_update(&old)), want, "{change}");
        let generation = if new.spec == old.spec { 1 } else { 2 };
        assert_eq!(new.metadata.generation, Some(generation));
    }
}

#[test]
fn what_a_status_may_say() {
    let with = |status: Value, restart: &str| {
        let mut p = pod(spec(json!({"restartPolicy": restart})));
        let mut body = json!({"qosClass": "BestEffort"});
        merge(&mut body, status);
        p.status = serde_json::from_value(body).unwrap();
        p
    };
    let ended = |code: i32| json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": code}}}]});
    let runs = || json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 1, "state": {"running": {}}}]});
    for (restart, old, new, want) in [
        ("Always", ended(0), runs(), vec![]),
        ("OnFailure", ended(1), runs(), vec![]),
        (
            "OnFailure",
            ended(0),
            runs(),
            vec!["FieldValueForbidden status.containerStatuses[0].state"],
        ),
        (
            "Never",
            ended(1),
            runs(),
            vec!["FieldValueForbidden status.containerStatuses[0].state"],
        ),
        (
            "Always",
            json!({}),
            json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "::1"}]}),
            vec![],
        ),
        (
            "Always",
            json!({}),
            json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
            vec!["FieldValueInvalid status.podIPs"],
        ),
        (
            "Always",
            json!({}),
            json!({"podIPs": [{"ip": "x"}]}),
            vec!["FieldValueInvalid status.podIPs[0]"],
        ),
        (
            "Always",
            json!({}),
            json!({"qosClass": "Guaranteed"}),
            vec!["FieldValueInvalid status.qosClass"],
        ),
    ] {
        assert_eq!(
            causes(&with(new.clone(), restart).validate_status(&with(old, restart))),
            want,
            "{restart} {new}"
        );
    }
}
