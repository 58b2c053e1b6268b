//! Claims and volumes by tables, and binding that is broken off anywhere.

use std::sync::Arc;

use berth_core::local_path;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};

use super::claim::{ClaimStep, Known, step};
use super::persistent::{self, Reclaim, VolumeStep, reclaim};
use super::{bind, ephemeral, protect};

const UID: &str = "0b1c2d3e-0000-4000-8000-000000000001";

fn merged(base: &mut Value, more: &Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                merged(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more.clone(),
    }
}

fn object<T: DeserializeOwned>(mut base: Value, more: &Value) -> T {
    merged(&mut base, more);
    from_value(base).unwrap()
}

fn claim(more: &Value) -> PersistentVolumeClaim {
    let base = json!({
        "metadata": {"namespace": "n", "name": "c", "uid": UID},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "2Gi"}}},
        "status": {"phase": "Pending"},
    });
    object(base, more)
}

fn volume(name: &str, size: &str, more: &Value) -> Arc<PersistentVolume> {
    let base = json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"], "capacity": {"storage": size}, "hostPath": {"path": "/x"},
            "persistentVolumeReclaimPolicy": "Retain"},
        "status": {"phase": "Available"},
    });
    Arc::new(object(base, more))
}

fn class(name: &str, more: &Value) -> Arc<StorageClass> {
    let base = json!({"metadata": {"name": name}, "provisioner": "example.com/disks", "volumeBindingMode": "Immediate"});
    Arc::new(object(base, more))
}

fn owner(namespace: &str, name: &str, uid: &str) -> Value {
    json!({"spec": {"claimRef": {"namespace": namespace, "name": name, "uid": uid}}})
}

fn decide(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    classes: &[Arc<StorageClass>],
) -> String {
    let known = Known {
        volumes,
        classes,
        pods: &[],
    };
    match step(claim, known) {
        ClaimStep::Bind(volume) => format!("bind {}", volume.metadata.name.as_deref().unwrap()),
        ClaimStep::UseClass(class) => format!("class {class}"),
        ClaimStep::Provision(class) => format!("provision {}", class.provisioner),
        ClaimStep::Wait(event) => format!("wait {}: {}", event.reason, event.message),
        ClaimStep::Lost(event) => format!("lost {}", event.reason),
    }
}

#[test]
fn the_smallest_free_volume_that_fits_is_taken() {
    let all = [
        volume("small", "1Gi", &json!({})),
        volume("large", "9Gi", &json!({})),
        volume("fits", "3Gi", &json!({"metadata": {"labels": {"a": "b"}}})),
        volume(
            "other-class",
            "2Gi",
            &json!({"spec": {"storageClassName": "x"}}),
        ),
        volume("block", "2Gi", &json!({"spec": {"volumeMode": "Block"}})),
        volume(
            "read-only",
            "2Gi",
            &json!({"spec": {"accessModes": ["ReadOnlyMany"]}}),
        ),
        volume("theirs", "2Gi", &owner("n", "d", "2")),
        volume(
            "kept",
            "2Gi",
            &json!({"spec": {"claimRef": {"namespace": "m", "name": "c"}}}),
        ),
        volume("released", "2Gi", &json!({"status": {"phase": "Released"}})),
        volume(
            "goes",
            "2Gi",
            &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        ),
        volume("broken", "two", &json!({})),
    ];
    assert_eq!(decide(&claim(&json!({})), &all, &[]), "bind fits");
    let selector =
        |value: &str| claim(&json!({"spec": {"selector": {"matchLabels": {"a": value}}}}));
    assert_eq!(decide(&selector("b"), &all, &[]), "bind fits");
    assert!(decide(&selector("x"), &all, &[]).starts_with("wait FailedBinding"));
    let many = claim(
        &json!({"spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "4Gi"}}}}),
    );
    assert_eq!(decide(&many, &all, &[]), "bind large");
    // What is kept for the claim comes before what is smaller, whatever its class.
    let kept = volume(
        "mine",
        "8Gi",
        &json!({"spec": {"storageClassName": "y", "claimRef": {"namespace": "n", "name": "c"}}}),
    );
    assert_eq!(
        decide(&claim(&json!({})), &[all[2].clone(), kept], &[]),
        "bind mine"
    );
}

#[test]
fn a_claim_that_names_its_volume_gets_no_other_and_nobody_elses() {
    let by_name = |more: &Value| {
        let mut claim = claim(&json!({"spec": {"volumeName": "v"}}));
        let mut value = serde_json::to_value(&claim).unwrap();
        merged(&mut value, more);
        claim = from_value(value).unwrap();
        claim
    };
    let done = json!({"metadata": {"annotations": {super::BIND_COMPLETED: "yes"}}});
    for (more, volume, wanted) in [
        (json!({}), Some(volume("v", "2Gi", &json!({}))), "bind v"),
        (
            json!({}),
            Some(volume("v", "2Gi", &owner("n", "c", UID))),
            "bind v",
        ),
        (
            json!({}),
            Some(volume("v", "1Gi", &json!({}))),
            "wait VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small",
        ),
        (
            json!({}),
            Some(volume(
                "v",
                "2Gi",
                &json!({"spec": {"storageClassName": "x"}}),
            )),
            "wait VolumeMismatch: Cannot bind to requested volume \"v\": storageClassName does not match",
        ),
        (
            json!({}),
            Some(volume("v", "2Gi", &owner("m", "c", "2"))),
            "wait FailedBinding: volume \"v\" already bound to a different claim.",
        ),
        (
            json!({}),
            Some(volume("v", "2Gi", &owner("n", "c", "old"))),
            "wait FailedBinding: volume \"v\" already bound to a different claim.",
        ),
        (
            json!({}),
            None,
            "wait FailedBinding: volume \"v\" not found",
        ),
        // Whoever says that it is done already has no more than before.
        (
            done.clone(),
            Some(volume("v", "2Gi", &owner("n", "c", UID))),
            "bind v",
        ),
        (
            done.clone(),
            Some(volume("v", "2Gi", &owner("m", "d", "2"))),
            "lost ClaimMisbound",
        ),
        (
            done.clone(),
            Some(volume("v", "2Gi", &owner("n", "c", "old"))),
            "lost ClaimMisbound",
        ),
        (
            done.clone(),
            Some(volume("v", "1Gi", &json!({}))),
            "lost ClaimMisbound",
        ),
        (done.clone(), None, "lost ClaimLost"),
    ] {
        let all: Vec<_> = volume.into_iter().collect();
        assert_eq!(decide(&by_name(&more), &all, &[]), wanted);
    }
    let nameless = claim(&done);
    assert_eq!(
        decide(&nameless, &[volume("v", "2Gi", &json!({}))], &[]),
        "lost ClaimLost"
    );
}

#[test]
fn a_class_says_when_and_by_whom_a_volume_is_made() {
    let named = |more: &Value| {
        let mut base = json!({"spec": {"storageClassName": "k"}});
        merged(&mut base, more);
        claim(&base)
    };
    let first = json!({"volumeBindingMode": "WaitForFirstConsumer"});
    let fits = volume("fits", "3Gi", &json!({"spec": {"storageClassName": "k"}}));
    let now = [class("k", &json!({}))];
    let waits = [class("k", &first)];
    assert_eq!(
        decide(&named(&json!({})), &[], &now),
        "provision example.com/disks"
    );
    assert_eq!(
        decide(&named(&json!({})), std::slice::from_ref(&fits), &now),
        "bind fits"
    );
    assert_eq!(
        decide(&named(&json!({})), &[fits], &waits),
        "wait WaitForFirstConsumer: waiting for first consumer to be created before binding"
    );
    let selected = named(&json!({"metadata": {"annotations": {super::SELECTED_NODE: "a"}}}));
    assert_eq!(
        decide(&selected, &[], &waits),
        "provision example.com/disks"
    );
    assert_eq!(
        decide(&named(&json!({})), &[], &[]),
        "wait ProvisioningFailed: storageclass.storage.k8s.io \"k\" not found"
    );
    let nobody = [class("k", &json!({"provisioner": super::NO_PROVISIONER}))];
    assert!(
        decide(&named(&json!({})), &[], &nobody)
            .starts_with("wait ProvisioningFailed: no volume plugin matched")
    );
    assert_eq!(
        decide(&claim(&json!({})), &[], &now),
        "wait FailedBinding: no persistent volumes available for this claim and no storage class is set"
    );
    // One that was there before there was a default class gets it; one that wants none does not.
    let default = |created: &str| json!({"metadata": {"creationTimestamp": created, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
    let classes = [
        class("old", &default("2026-01-01T00:00:00Z")),
        class("new", &default("2026-02-01T00:00:00Z")),
    ];
    let unset = claim(&json!({"spec": {"storageClassName": null}}));
    assert_eq!(decide(&unset, &[], &classes), "class new");
    assert!(decide(&claim(&json!({})), &[], &classes).starts_with("wait FailedBinding"));
}

#[test]
fn a_claim_that_waits_says_for_which_pods() {
    let pod = |name: &str, node: Value| -> Arc<Pod> {
        let base = json!({"metadata": {"namespace": "n", "name": name}, "spec": {"containers": [], "nodeName": node,
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}});
        Arc::new(from_value(base).unwrap())
    };
    let classes = [class(
        "k",
        &json!({"volumeBindingMode": "WaitForFirstConsumer"}),
    )];
    let claim = claim(&json!({"spec": {"storageClassName": "k"}}));
    let say = |pods: &[Arc<Pod>]| match step(
        &claim,
        Known {
            volumes: &[],
            classes: &classes,
            pods,
        },
    ) {
        ClaimStep::Wait(event) => event.message,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        say(&[pod("a", json!(null))]),
        "waiting for pod a to be scheduled"
    );
    let both = [
        pod("b", json!(null)),
        pod("a", json!("")),
        pod("x", json!("node")),
    ];
    assert_eq!(say(&both), "waiting for pods a,b to be scheduled");
    let thousands: Vec<_> = (0..2000)
        .map(|n| pod(&format!("p{n}"), json!(null)))
        .collect();
    assert!(say(&thousands).len() < 200);
}

/// Both objects as a server would have them, written one after the other and broken off after so many writes.
fn write_some(
    claim: &mut PersistentVolumeClaim,
    volume: &mut PersistentVolume,
    writes: usize,
) -> usize {
    let mut done = 0;
    let mut may = || {
        done += 1;
        done <= writes
    };
    if let Some(changed) = bind::volume_side(volume, claim) {
        if !may() {
            return done;
        }
        *volume = changed;
    }
    if let Some(changed) = bind::volume_phase(volume, "Bound", "") {
        if !may() {
            return done;
        }
        *volume = changed;
    }
    if let Some(changed) = bind::claim_side(claim, volume) {
        if !may() {
            return done;
        }
        *claim = changed;
    }
    if let Some(changed) = bind::claim_status(claim, volume) {
        if !may() {
            return done;
        }
        *claim = changed;
    }
    done
}

#[test]
fn binding_that_is_broken_off_anywhere_goes_on_to_the_same_end() {
    let free = volume("v", "3Gi", &json!({}));
    let mut whole = (claim(&json!({})), PersistentVolume::clone(&free));
    let writes = write_some(&mut whole.0, &mut whole.1, 9);
    assert_eq!(writes, 4);
    for broken in 0..=writes {
        let (mut claim, mut volume) = (claim(&json!({})), PersistentVolume::clone(&free));
        write_some(&mut claim, &mut volume, broken);
        // Whoever looks at the volume meanwhile neither frees it nor releases it.
        let seen = persistent::step(&volume, Some(&claim));
        let wanted = match broken {
            0 => VolumeStep::Available,
            1 | 2 => VolumeStep::LookAtClaim,
            _ => VolumeStep::Bound,
        };
        assert_eq!(seen, wanted, "after {broken}");
        let found = decide(&claim, &[Arc::new(volume.clone())], &[]);
        assert_eq!(found, "bind v", "after {broken}");
        write_some(&mut claim, &mut volume, 9);
        assert_eq!((&claim, &volume), (&whole.0, &whole.1), "after {broken}");
    }
    let status = whole.0.status.unwrap();
    assert_eq!(status.phase.as_deref(), Some("Bound"));
    assert_eq!(status.capacity.unwrap()["storage"].0, "3Gi");
    assert_eq!(status.access_modes.unwrap().len(), 2);
}

#[test]
fn of_two_claims_one_has_the_volume() {
    let mut first = (
        claim(&json!({})),
        PersistentVolume::clone(&volume("v", "3Gi", &json!({}))),
    );
    write_some(&mut first.0, &mut first.1, 9);
    let second = claim(&json!({"metadata": {"name": "d", "uid": "2"}}));
    assert_eq!(bind::volume_side(&first.1, &second), None);
    assert!(decide(&second, &[Arc::new(first.1)], &[]).starts_with("wait"));
}

#[test]
fn a_volume_follows_its_claim() {
    let made = json!({"metadata": {"annotations": {local_path::PROVISIONED_BY: "x"}}, "spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    let with = |more: &Value| {
        let mut base = owner("n", "c", UID);
        merged(&mut base, more);
        volume("v", "2Gi", &base)
    };
    let has = |name: &str| claim(&json!({"spec": {"volumeName": name}}));
    let again = claim(&json!({"metadata": {"uid": "2"}, "spec": {"volumeName": "v"}}));
    for (volume, claim, wanted) in [
        (volume("v", "2Gi", &json!({})), None, VolumeStep::Available),
        (
            volume(
                "v",
                "2Gi",
                &json!({"spec": {"claimRef": {"namespace": "n", "name": "c"}}}),
            ),
            Some(has("v")),
            VolumeStep::Available,
        ),
        (
            with(&json!({})),
            Some(claim(&json!({}))),
            VolumeStep::LookAtClaim,
        ),
        (with(&json!({})), Some(has("v")), VolumeStep::Bound),
        (with(&json!({})), None, VolumeStep::Released),
        (with(&json!({})), Some(again), VolumeStep::Released),
        (with(&json!({})), Some(has("w")), VolumeStep::Unbind),
        (with(&made), Some(has("w")), VolumeStep::Released),
    ] {
        assert_eq!(
            persistent::step(&volume, claim.as_ref()),
            wanted,
            "{volume:?}"
        );
    }
    let chosen = with(&json!({"metadata": {"annotations": {super::BOUND_BY_CONTROLLER: "yes"}}}));
    assert_eq!(bind::released_from(&chosen).spec.unwrap().claim_ref, None);
    let kept = bind::released_from(&with(&json!({})))
        .spec
        .unwrap()
        .claim_ref
        .unwrap();
    assert_eq!((kept.name.as_deref(), kept.uid), (Some("c"), None));
}

#[test]
fn only_what_this_provisioner_made_is_deleted() {
    let with = |policy: &str, by: Value| {
        let more = json!({"metadata": {"annotations": {local_path::PROVISIONED_BY: by}}, "spec": {"persistentVolumeReclaimPolicy": policy}});
        reclaim(&volume("v", "2Gi", &more))
    };
    let ours = || json!(local_path::PROVISIONER);
    assert_eq!(with("Delete", ours()), Reclaim::Delete);
    assert_eq!(with("Retain", ours()), Reclaim::Keep);
    assert_eq!(
        with("Delete", json!("rancher.io/local-path")),
        Reclaim::Keep
    );
    let plain = volume(
        "v",
        "2Gi",
        &json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}),
    );
    assert!(
        matches!(reclaim(&plain), Reclaim::Fail(event) if event.reason == "VolumeFailedDelete")
    );
    let recycled = with("Recycle", ours());
    assert!(matches!(recycled, Reclaim::Fail(event) if event.reason == "VolumeFailedRecycle"));
}

#[test]
fn a_claim_is_held_by_pods_on_nodes_until_they_are_over() {
    let pod = |node: &str, phase: &str, claim: &str| -> Pod {
        from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [], "nodeName": node, "volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": claim}}, {"name": "own", "ephemeral": {}}]}, "status": {"phase": phase}}))
        .unwrap()
    };
    for (pod, held) in [
        (pod("a", "Running", "c"), true),
        (pod("a", "Pending", "c"), true),
        (pod("a", "", "c"), true),
        (pod("", "Pending", "c"), false),
        (pod("a", "Succeeded", "c"), false),
        (pod("a", "Failed", "c"), false),
        (pod("a", "Running", "d"), false),
    ] {
        assert_eq!(protect::holds(&pod, "c"), held, "{pod:?}");
    }
    assert!(protect::holds(&pod("a", "Running", "x"), "p-own"));
}

#[test]
fn a_directory_is_for_a_claim_that_a_directory_can_be_for() {
    let class = super::local_path::class();
    let named = |more: &Value| {
        let mut base = json!({"spec": {"storageClassName": "local-path"}});
        merged(&mut base, more);
        claim(&base)
    };
    assert_eq!(super::local_path::refusal(&named(&json!({})), &class), None);
    for bad in [
        json!({"spec": {"accessModes": ["ReadWriteMany"]}}),
        json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}}),
        json!({"spec": {"volumeMode": "Block"}}),
        json!({"spec": {"selector": {}}}),
        json!({"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}}),
    ] {
        assert!(
            super::local_path::refusal(&named(&bad), &class).is_some(),
            "{bad}"
        );
    }
    for bad in [
        json!({"volumeBindingMode": "Immediate"}),
        json!({"parameters": {"nodePath": "/etc"}}),
        json!({"mountOptions": ["exec"]}),
    ] {
        let mut other = serde_json::to_value(&class).unwrap();
        merged(&mut other, &bad);
        let other: StorageClass = from_value(other).unwrap();
        assert!(
            super::local_path::refusal(&named(&json!({})), &other).is_some(),
            "{bad}"
        );
    }
    let node: Node = from_value(
        json!({"metadata": {"name": "a", "labels": {"kubernetes.io/hostname": "host-a"}}}),
    )
    .unwrap();
    let path = format!("/data/pvc-{UID}");
    let made = super::local_path::volume(&named(&json!({})), &class, &node, &path).unwrap();
    assert_eq!(
        local_path::directory(&made, "a", "/data".as_ref()),
        Ok(&*format!("pvc-{UID}"))
    );
    assert!(local_path::directory(&made, "b", "/data".as_ref()).is_err());
    assert!(local_path::removable(&made, "a", "/data".as_ref()).is_err());
    // It is the claim's at once.
    let bound = decide(
        &named(&json!({})),
        &[Arc::new(made)],
        &[Arc::new(class.clone())],
    );
    assert_eq!(bound, format!("bind pvc-{UID}"));
    // No claim chooses its UID, and still one that is none makes no path.
    let odd = named(&json!({"metadata": {"uid": "../../etc"}}));
    assert!(super::local_path::volume(&odd, &class, &node, "/x").is_none());
}

#[test]
fn a_pod_gets_claims_of_its_own() {
    let pod = |more: &Value| -> Pod {
        let base = json!({"metadata": {"namespace": "n", "name": "p", "uid": "u"}, "spec": {"containers": [], "volumes": [
            {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}},
            {"name": "other", "persistentVolumeClaim": {"claimName": "c"}}]}});
        object(base, more)
    };
    let made = ephemeral::claims(&pod(&json!({})));
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].metadata.name.as_deref(), Some("p-scratch"));
    assert_eq!(made[0].metadata.labels.as_ref().unwrap()["a"], "b");
    assert_eq!(ephemeral::conflict(&pod(&json!({})), &made[0]), None);
    let theirs = claim(&json!({"metadata": {"name": "p-scratch"}}));
    assert!(ephemeral::conflict(&pod(&json!({})), &theirs).is_some());
    for over in [
        json!({"status": {"phase": "Failed"}}),
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    ] {
        assert!(ephemeral::claims(&pod(&over)).is_empty());
    }
}
