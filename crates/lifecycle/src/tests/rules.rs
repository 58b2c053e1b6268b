//! Admission to the node, QoS, and what the kernel is told.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodOS, PodSecurityContext, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::Problem;
use super::super::admit::{self, Abilities, Room};
use super::super::backoff::go_duration;
use super::super::qos::{Qos, cpu_quota, cpu_shares, cpu_weight, oom_score_adj, qos};
use super::{pod, secs};

#[test]
fn admission() {
    let labels = BTreeMap::from([("kind".to_owned(), "vm".to_owned())]);
    let room = |requested, used| {
        vec![Room {
            name: "cpu".to_owned(),
            requested,
            used,
            capacity: 1000,
        }]
    };
    let plain = pod("Always", "app:a");
    let none = Abilities::default();
    let admit = |p: &Pod, l: &BTreeMap<String, String>, r: &[Room]| -> Result<(), Problem> {
        admit::admit(p, l, r, none)
    };
    assert_eq!(admit(&plain, &labels, &room(500, 500)), Ok(()));
    assert_eq!(
        admit(&plain, &labels, &room(0, 5000)),
        Ok(()),
        "asks for nothing"
    );
    let refused = admit(&plain, &labels, &room(501, 500)).unwrap_err();
    assert_eq!(refused.reason, "OutOfcpu");
    assert_eq!(
        refused.message,
        "Node didn't have enough resource: cpu, requested: 501, used: 500, capacity: 1000"
    );
    let mut selected = plain.clone();
    selected.spec.as_mut().unwrap().node_selector = Some(labels.clone());
    assert_eq!(admit(&selected, &labels, &[]), Ok(()));
    let refused = admit(&selected, &BTreeMap::new(), &[]).unwrap_err();
    assert_eq!(refused.reason, "NodeAffinity");
    let mut strict = plain.clone();
    strict.spec.as_mut().unwrap().security_context = Some(PodSecurityContext {
        supplemental_groups_policy: Some("Strict".to_owned()),
        ..PodSecurityContext::default()
    });
    assert_eq!(
        admit(&strict, &labels, &[]).unwrap_err().reason,
        "SupplementalGroupsPolicyNotSupported"
    );
    let can = Abilities {
        strict_groups: true,
        ..none
    };
    assert_eq!(admit::admit(&strict, &labels, &[], can), Ok(()));
    let mut mapped = plain.clone();
    mapped.spec.as_mut().unwrap().host_users = Some(false);
    assert_eq!(
        admit(&mapped, &labels, &[]).unwrap_err().reason,
        "UserNamespacesNotSupported"
    );
    let mut windows = plain;
    windows.spec.as_mut().unwrap().os = Some(PodOS {
        name: "windows".to_owned(),
    });
    assert_eq!(
        admit(&windows, &labels, &[]).unwrap_err().reason,
        "PodOSNotSupported"
    );
}

fn resources(requests: &str, limits: &str) -> ResourceRequirements {
    let list = |text: &str| {
        let map: BTreeMap<String, Quantity> = text
            .split_whitespace()
            .map(|w| w.split_once('=').unwrap())
            .map(|(k, v)| (k.to_owned(), Quantity(v.to_owned())))
            .collect();
        (!map.is_empty()).then_some(map)
    };
    ResourceRequirements {
        requests: list(requests),
        limits: list(limits),
        ..ResourceRequirements::default()
    }
}

#[test]
fn quality_of_service() {
    for (requests, limits, want) in [
        ("", "", Qos::BestEffort),
        ("cpu=0", "", Qos::BestEffort),
        ("cpu=1", "", Qos::Burstable),
        ("", "cpu=1", Qos::Burstable),
        // The API server has set the requests from such limits before.
        ("", "cpu=1 memory=1Gi", Qos::Burstable),
        (
            "cpu=1000m memory=1Gi",
            "cpu=1 memory=1024Mi",
            Qos::Guaranteed,
        ),
        ("cpu=500m memory=1Gi", "cpu=1 memory=1Gi", Qos::Burstable),
        ("ephemeral-storage=1Gi", "", Qos::BestEffort),
    ] {
        let mut p = pod("Always", "app:a");
        p.spec.as_mut().unwrap().containers[0].resources = Some(resources(requests, limits));
        assert_eq!(qos(&p), want, "{requests} | {limits}");
    }
}

#[test]
fn kernel_values() {
    let gib = 1 << 30;
    for (q, critical, request, want) in [
        (Qos::Guaranteed, false, gib, -997),
        (Qos::BestEffort, false, 0, 1000),
        (Qos::BestEffort, true, 0, -997),
        (Qos::Burstable, false, 0, 999),
        (Qos::Burstable, false, gib, 750),
        (Qos::Burstable, false, 4 * gib, 3),
    ] {
        assert_eq!(
            oom_score_adj(q, critical, request, 4 * gib),
            want,
            "{q:?} {request}"
        );
    }
    for (milli, shares, quota) in [
        (0, 2, 0),
        (1, 2, 1000),
        (100, 102, 10_000),
        (1000, 1024, 100_000),
        (1_000_000, 262_144, 100_000_000),
    ] {
        assert_eq!(cpu_shares(milli), shares, "{milli}");
        assert_eq!(cpu_quota(milli), quota, "{milli}");
    }
    assert_eq!(cpu_weight(2), 1);
    assert_eq!(cpu_weight(1024), 39);
    assert_eq!(cpu_weight(262_144), 10_000);
}

#[test]
fn durations_as_go_prints_them() {
    for (n, want) in [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")] {
        assert_eq!(go_duration(secs(n)), want);
    }
}

#[test]
fn eviction_takes_the_greedy_and_unimportant_first() {
    use super::super::evict::{Standing, rank};
    let one = |uid: &str, usage, request, priority| Standing {
        uid: uid.to_owned(),
        usage,
        request,
        priority,
        critical: uid == "critical",
    };
    let order: Vec<String> = rank(vec![
        one("within", 50, 100, 0),
        one("important", 500, 100, 10),
        one("overhead-counts", 150, 150, 0),
        one("greedy", 400, 100, 0),
        one("a-bit-greedy", 120, 100, 0),
        one("critical", 900, 0, 0),
    ])
    .into_iter()
    .map(|p| p.uid)
    .collect();
    assert_eq!(
        order,
        [
            "greedy",
            "a-bit-greedy",
            "important",
            "overhead-counts",
            "within"
        ]
    );
}
