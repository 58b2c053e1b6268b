//! How many pods, which go first, and what the status says.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::replicas::{Change, Failure, ReplicaStatus, Replicas, change, status};

fn names(change: Change) -> Vec<String> {
    let Change::Delete(pods) = change else {
        panic!("{change:?}");
    };
    let name = |pod: &Arc<Pod>| pod.metadata.name.clone().expect("a name");
    pods.iter().map(name).collect()
}

#[test]
fn as_many_as_are_wanted() {
    let pods = |n: usize| -> Vec<_> {
        (0..n)
            .map(|i| Arc::new(ready_pod(&i.to_string(), 0)))
            .collect()
    };
    let of = |wanted, pods: &[Arc<Pod>]| change(wanted, pods, [], at(100));
    assert_eq!(of(3, &pods(1)), Change::Create(2));
    assert_eq!(of(3, &pods(3)), Change::None);
    assert_eq!(of(10_000, &[]), Change::Create(500), "no more at a time");
    assert_eq!(names(of(0, &pods(600))).len(), 500);
    assert_eq!(
        of(-1, &[]),
        Change::None,
        "what the server would never store"
    );
    // What has ended or is being deleted doesn't count.
    let mut some = pods(1);
    some.push(with(
        ready_pod("ended", 0),
        &[("/status/phase", json!("Succeeded"))],
    ));
    some.push(with(
        ready_pod("going", 0),
        &[("/metadata/deletionTimestamp", json!(at(1).to_string()))],
    ));
    assert_eq!(of(3, &some), Change::Create(2));
    assert_eq!(of(1, &some), Change::None);
}

/// Each of these pods goes before a healthy one, and in this order among themselves.
#[test]
fn the_cheapest_pods_go_first() {
    let not_ready = json!([{"type": "Ready", "status": "False"}]);
    let restarts =
        json!([{"name": "c", "restartCount": 5, "ready": true, "image": "i", "imageID": ""}]);
    let healthy = || ready_pod("healthy", 0);
    let named = |name: &str, changes: &[(&str, Value)]| {
        let mut all = vec![
            ("/metadata/name", json!(name)),
            ("/metadata/uid", json!(name)),
        ];
        all.extend_from_slice(changes);
        with(healthy(), &all)
    };
    let wanted = [
        named(
            "unassigned",
            &[
                ("/spec/nodeName", json!("")),
                ("/status/phase", json!("Pending")),
                ("/status/conditions", json!([])),
            ],
        ),
        named(
            "pending",
            &[
                ("/status/phase", json!("Pending")),
                ("/status/conditions", json!([])),
            ],
        ),
        named("unknown", &[("/status/phase", json!("Unknown"))]),
        named("not ready", &[("/status/conditions", not_ready)]),
        named(
            "cheap",
            &[(
                "/metadata/annotations",
                json!({"controller.kubernetes.io/pod-deletion-cost": "-7"}),
            )],
        ),
        named("crowded", &[("/spec/nodeName", json!("b"))]),
        named(
            "fresh",
            &[(
                "/status/conditions/0/lastTransitionTime",
                json!(at(990).to_string()),
            )],
        ),
        named("restarted", &[("/status/containerStatuses", restarts)]),
        named(
            "young",
            &[("/metadata/creationTimestamp", json!(at(990).to_string()))],
        ),
        named("healthy", &[]),
    ];
    let mut pods = wanted.to_vec();
    pods.reverse();
    pods.swap(2, 5);
    let crowd: Vec<_> = (0..20)
        .map(|i| {
            with(
                ready_pod(&i.to_string(), 0),
                &[("/spec/nodeName", json!("b"))],
            )
        })
        .collect();
    let all = change(
        0,
        &pods,
        pods.iter().chain(&crowd).map(Arc::as_ref),
        at(1000),
    );
    let order: Vec<_> = wanted
        .iter()
        .map(|pod| pod.metadata.name.clone().expect("a name"))
        .collect();
    assert_eq!(names(all), order);
}

#[test]
fn a_status_counts_and_says_when_it_changes() {
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    let replicas = Replicas {
        generation: Some(4),
        wanted: 3,
        min_ready_seconds: 30,
        template_labels: Some(&labels),
    };
    let pods = [
        with(
            ready_pod("old", 0),
            &[("/metadata/labels", json!({"app": "web", "more": "1"}))],
        ),
        Arc::new(ready_pod("young", 90)),
        with(
            ready_pod("sick", 0),
            &[("/status/conditions/0/status", json!("False"))],
        ),
        with(
            ready_pod("going", 0),
            &[("/metadata/deletionTimestamp", json!(at(1).to_string()))],
        ),
    ];
    let failure = Failure {
        reason: "FailedCreate",
        message: "pods \"x\" is forbidden: no".to_owned(),
    };
    let (first, next) = status(
        &replicas,
        &pods,
        Some(failure),
        &ReplicaStatus::default(),
        at(100),
    );
    assert_eq!(next, Some(Duration::from_secs(20)));
    assert_eq!(
        (
            first.replicas,
            first.fully_labeled,
            first.ready,
            first.available,
            first.terminating
        ),
        (3, 1, 2, 1, 1)
    );
    assert_eq!(first.observed_generation, Some(4));
    let message = first.conditions[0].message.as_deref();
    assert_eq!(message, Some("pods \"x\" is forbidden: no"));
    // A later failure changes nothing, a success removes it.
    let other = Failure {
        reason: "FailedDelete",
        message: "other".to_owned(),
    };
    let (again, _) = status(&replicas, &pods, Some(other), &first, at(100));
    assert_eq!(again, first);
    let (well, next) = status(&replicas, &pods, None, &first, at(120));
    assert_eq!((well.available, well.conditions.len(), next), (2, 0, None));
}

/// A class whose handler the node can't run: the pods fail at once, and must not be made as fast as they fail.
#[test]
fn pods_that_fail_at_once_are_made_seldom() {
    let mut pods: Vec<Arc<Pod>> = Vec::new();
    let (mut now, mut made) = (0, Vec::new());
    while now < 3600 {
        match change(2, &pods, [], at(now)) {
            Change::Create(number) => {
                made.push(now);
                for _ in 0..number {
                    let name = format!("p{}", pods.len());
                    let failed =
                        json!({"phase": "Failed", "message": "the node has no handler \"x\""});
                    pods.push(with(ready_pod(&name, now), &[("/status", failed)]));
                }
            }
            Change::Wait(left, failure) => {
                assert!(
                    failure.message.ends_with("the node has no handler \"x\""),
                    "{failure:?}"
                );
                now += i64::try_from(left.as_secs()).expect("small").max(1);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(made[..5], [0, 0, 2, 6, 14]);
    assert!(pods.len() < 50, "{}", pods.len());
    // One that runs shows that it can be done: the next is made at once.
    pods.push(Arc::new(ready_pod("well", now)));
    assert_eq!(change(2, &pods, [], at(now)), Change::Create(1));
}
