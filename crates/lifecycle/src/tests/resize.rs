//! What of a resize is granted, and how a container gets it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerResizePolicy, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::admit::Room;
use super::super::resize::{
    How, POD, all_same, desired, granted_by_status, how, judge, with_limits_of_pod, with_resources,
};
use super::pod;

fn resources(cpu: &str, memory: &str) -> ResourceRequirements {
    let list: BTreeMap<String, Quantity> = [("cpu", cpu), ("memory", memory)]
        .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
        .into();
    ResourceRequirements {
        requests: Some(list.clone()),
        limits: Some(list),
        ..ResourceRequirements::default()
    }
}

#[test]
fn only_what_grows_has_to_fit() {
    for (requested, used, capacity, granted, want) in [
        (2, 0, 4, 1, ""),
        (2, 2, 4, 1, ""),
        (2, 3, 4, 1, "Deferred"),
        (5, 0, 4, 1, "Infeasible"),
        (5, 9, 4, 1, "Infeasible"),
        // The node is full, and the pod gives something back.
        (2, 9, 4, 3, ""),
        (2, 9, 4, 2, ""),
        (i64::MAX, i64::MAX, i64::MAX, 1, "Deferred"),
    ] {
        let room = Room {
            name: "cpu".to_owned(),
            requested,
            used,
            capacity,
        };
        let reason = judge(&[(room, granted)]).err().map(|p| p.reason);
        assert_eq!(
            reason.unwrap_or_default(),
            want,
            "{requested} {used} {capacity} {granted}"
        );
    }
}

#[test]
fn a_container_is_changed_as_its_policy_says() {
    let mut c = pod("Always", "app:a").spec.unwrap().containers.remove(0);
    let old = resources("1", "1Gi");
    assert_eq!(
        how(&c, Some(&old), &resources("1000m", "1024Mi")),
        How::Done
    );
    assert_eq!(how(&c, Some(&old), &resources("2", "1Gi")), How::InPlace);
    assert_eq!(
        how(&c, None, &old),
        How::InPlace,
        "nobody knows what it has"
    );
    c.resize_policy = Some(vec![ContainerResizePolicy {
        resource_name: "memory".to_owned(),
        restart_policy: "RestartContainer".to_owned(),
    }]);
    assert_eq!(how(&c, Some(&old), &resources("2", "1Gi")), How::InPlace);
    assert_eq!(how(&c, Some(&old), &resources("2", "2Gi")), How::Restart);
    assert_eq!(how(&c, None, &resources("2", "2Gi")), How::InPlace);
}

#[test]
fn the_granted_resources_stand_in_for_those_of_the_spec() {
    let mut p = pod("Always", "init:i sidecar:s app:a");
    let spec = p.spec.as_mut().unwrap();
    spec.containers[0].resources = Some(resources("1", "1Gi"));
    let all = desired(&p);
    assert_eq!(
        all.keys().collect::<Vec<_>>(),
        [POD, "a", "s"],
        "an init container is not resized"
    );
    assert!(matches!(
        with_resources(&p, &all),
        std::borrow::Cow::Borrowed(_)
    ));
    let mut granted = all.clone();
    granted.insert("a".to_owned(), resources("1000m", "1Gi"));
    assert!(all_same(&all, &granted));
    granted.insert("a".to_owned(), resources("2", "1Gi"));
    assert!(!all_same(&all, &granted));
    let seen = with_resources(&p, &granted).into_owned().spec.unwrap();
    assert_eq!(seen.containers[0].resources, Some(resources("2", "1Gi")));
    assert_eq!(seen.init_containers, p.spec.unwrap().init_containers);
}

#[test]
fn a_pod_as_a_whole_is_granted_like_a_container() {
    let mut p = pod("Always", "app:a");
    p.spec.as_mut().unwrap().resources = Some(resources("2", "1Gi"));
    let mut granted = desired(&p);
    assert!(matches!(
        with_resources(&p, &granted),
        std::borrow::Cow::Borrowed(_)
    ));
    granted.insert(POD.to_owned(), resources("1", "1Gi"));
    let seen = with_resources(&p, &granted).into_owned();
    assert_eq!(
        seen.spec.unwrap().resources,
        Some(resources("1", "1Gi")),
        "what was granted"
    );
    granted.insert(POD.to_owned(), ResourceRequirements::default());
    let seen = with_resources(&p, &granted).into_owned();
    assert_eq!(seen.spec.unwrap().resources, None, "it had none before");
    // Without a record the status counts.
    let status = p.status.get_or_insert_default();
    status.resources = Some(resources("500m", "1Gi"));
    assert_eq!(granted_by_status(&p)[POD], resources("500m", "1Gi"));
}

#[test]
fn a_container_without_a_limit_has_the_pods() {
    let whole = resources("2", "1Gi");
    let none = ResourceRequirements::default();
    let has = |own: &ResourceRequirements| {
        let limits = with_limits_of_pod(own, Some(&whole)).limits;
        let limits = limits.unwrap_or_default();
        limits
            .into_iter()
            .map(|(n, q)| format!("{n}={}", q.0))
            .collect::<Vec<_>>()
    };
    assert_eq!(has(&none), ["cpu=2", "memory=1Gi"]);
    assert_eq!(has(&resources("1", "64Mi")), ["cpu=1", "memory=64Mi"]);
    assert_eq!(with_limits_of_pod(&none, None), none);
    let mut huge = whole.clone();
    let pages = ("hugepages-2Mi".to_owned(), Quantity("2Mi".to_owned()));
    huge.limits.as_mut().unwrap().extend([pages]);
    let limits = with_limits_of_pod(&none, Some(&huge)).limits.unwrap();
    assert_eq!(limits.len(), 2, "huge pages are each container's own");
}
