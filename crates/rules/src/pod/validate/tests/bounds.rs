//! Objects as large as a request can be (3 MiB) take as long as they are large, and what is said of them is bounded.

use std::time::Duration;

use berth_api::field::ERRORS_LIMIT;
use k8s_openapi::api::core::v1::Toleration;

use super::*;
use crate::pod::validate_ephemeral_containers;
use crate::warnings;
use berth_core::toleration;

/// Items of the small and of the large object.
const SMALL: usize = 4_000;
const LARGE: usize = 60_000;
/// By how much longer the large one may take: 15 times is linear, 225 times quadratic.
const RATIO: u32 = 100;

/// How long this thread has had a processor: what others do on the machine doesn't count.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The shortest of some runs.
fn shortest<T>(runs: usize, of: &dyn Fn(&T), object: &T) -> Duration {
    let times = (0..runs).map(|_| {
        let start = processor_time();
        of(object);
        processor_time() - start
    });
    times.min().unwrap()
}

fn assert_linear<T>(what: &str, make: impl Fn(usize) -> T, of: &dyn Fn(&T)) {
    let (small, large) = (make(SMALL), make(LARGE));
    // What takes next to no time is measured badly; 60,000 items compared with each other take many seconds.
    let base = shortest(5, of, &small).max(Duration::from_millis(20));
    let mut took = Duration::MAX;
    for _ in 0..3 {
        took = took.min(shortest(1, of, &large));
        if took < base * RATIO {
            return;
        }
    }
    panic!("{what}: {SMALL} items took {base:?}, {LARGE} took {took:?}");
}

fn raw(spec: Value) -> Pod {
    let body = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"}, "spec": spec});
    serde_json::from_value(body).unwrap()
}

fn items(n: usize, one: impl Fn(usize) -> Value) -> Value {
    (0..n).map(one).collect()
}

#[test]
fn lists_of_a_pod() {
    type List = fn(usize) -> Value;
    let file = |i: usize| json!({"name": format!("E{i}"), "valueFrom": {"fileKeyRef": {"volumeName": format!("v{i}"), "path": "a", "key": "K"}}});
    let cases: [(&str, List); 9] = [
        ("sysctls", |n| {
            spec(
                json!({"securityContext": {"sysctls": items(n, |i| json!({"name": format!("a{i}"), "value": "1"}))}}),
            )
        }),
        ("gates", |n| {
            spec(json!({"schedulingGates": items(n, |i| json!({"name": format!("a{i}")}))}))
        }),
        ("claims", |n| {
            spec(
                json!({"resourceClaims": items(n, |i| json!({"name": format!("a{i}"), "resourceClaimName": "x"}))}),
            )
        }),
        ("spread", |n| {
            spec(
                json!({"topologySpreadConstraints": items(n, |i| json!({"maxSkew": 1, "topologyKey": format!("k{i}"), "whenUnsatisfiable": "DoNotSchedule"}))}),
            )
        }),
        ("label keys", |n| {
            let keys = |prefix: &str| items(n / 2, |i| json!(format!("{prefix}{i}")));
            spec(
                json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "k", "labelSelector": {}, "matchLabelKeys": keys("a"), "mismatchLabelKeys": keys("b")}]}}}),
            )
        }),
        ("ports", |n| {
            c(
                json!({"ports": items(n, |i| json!({"name": format!("p{i}"), "containerPort": 1, "protocol": "TCP"}))}),
            )
        }),
        ("resize policies", |n| {
            c(
                json!({"resizePolicy": items(n, |i| json!({"resourceName": format!("a{i}"), "restartPolicy": "NotRequired"}))}),
            )
        }),
        ("mounts and devices", |n| {
            c(json!({
                "volumeMounts": items(n / 2, |i| json!({"name": format!("v{i}"), "mountPath": format!("/m{i}")})),
                "volumeDevices": items(n / 2, |i| json!({"name": format!("w{i}"), "devicePath": format!("/d{i}")})),
            }))
        }),
        ("claims of a container", |n| {
            c(
                json!({"resources": {"claims": items(n, |i| json!({"name": "a", "request": format!("r{i}")}))}}),
            )
        }),
    ];
    for (what, make) in cases {
        assert_linear(what, |n| raw(make(n)), &|pod: &Pod| {
            let errors = pod.validate();
            assert!(
                !errors.is_empty() && errors.len() <= ERRORS_LIMIT + 1,
                "{what}"
            );
        });
    }
    let with_files = |n: usize| {
        let mut spec = c(json!({"env": items(n / 2, file)}));
        spec["volumes"] = items(n / 2, |i| json!({"name": format!("v{i}"), "emptyDir": {}}));
        raw(spec)
    };
    assert_linear("variables of files", with_files, &|pod: &Pod| {
        drop(pod.validate())
    });
    let with_claims = |n: usize| {
        raw(spec(json!({"volumes": items(n, |i| match i % 2 {
            0 => json!({"name": format!("v{i}"), "persistentVolumeClaim": {"claimName": format!("x{i}")}}),
            _ => json!({"name": format!("v{i}"), "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}),
        })})))
    };
    assert_linear("volumes", with_claims, &|pod: &Pod| drop(pod.validate()));
}

#[test]
fn metadata_and_updates() {
    let owned = |n: usize| {
        let mut pod = raw(spec(json!({})));
        pod.metadata.owner_references = serde_json::from_value(items(n, |i| {
            json!({"apiVersion": "v1", "kind": "X", "name": "x", "uid": format!("u{i}"), "controller": true})
        }))
        .unwrap();
        pod
    };
    assert_linear("owners", owned, &|pod: &Pod| {
        let shown: usize = pod.validate().iter().map(|e| e.value.len()).sum();
        assert!(shown < 64 * 1024, "{shown}");
    });
    let finalized = |n: usize| {
        let mut pod = raw(spec(json!({})));
        pod.metadata.finalizers = Some((0..n).map(|i| format!("a.b/{i}")).collect());
        pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2024-01-01T00:00:00Z")).unwrap();
        pod
    };
    assert_linear("finalizers", finalized, &|pod: &Pod| {
        drop(pod.validate_update(pod))
    });
    let tolerating = |n: usize| {
        raw(spec(
            json!({"tolerations": items(n, |i| json!({"key": format!("k{i}"), "operator": "Exists"}))}),
        ))
    };
    assert_linear("tolerations", tolerating, &|pod: &Pod| {
        drop(pod.validate_update(pod))
    });
    let ephemeral = |n: usize| {
        raw(spec(
            json!({"ephemeralContainers": items(n / 10, |i| json!({"name": format!("e{i}"), "image": "i"}))}),
        ))
    };
    assert_linear("ephemeral containers", ephemeral, &|pod: &Pod| {
        drop(validate_ephemeral_containers(pod, pod));
    });
}

#[test]
fn merged_tolerations() {
    let list = |n: usize| -> Vec<Toleration> {
        serde_json::from_value(items(
            n,
            |i| json!({"key": "k", "value": format!("v{i}"), "effect": "NoSchedule"}),
        ))
        .unwrap()
    };
    assert_linear("merge", list, &|list: &Vec<Toleration>| {
        assert_eq!(toleration::merge(list, list).len(), list.len());
    });
}

#[test]
fn warnings_of_a_pod() {
    let ports = |same: bool| {
        move |n: usize| {
            raw(c(json!({"ports": items(n, |i| {
                let host = if same { json!(0) } else { json!(1) };
                json!({"containerPort": 1, "hostPort": host, "hostIP": format!("10.0.{}.{}", i / 256, i % 256)})
            })})))
        }
    };
    let check: &dyn Fn(&Pod) = &|pod: &Pod| assert!(warnings::of_pod(pod).len() <= 101);
    assert_linear("ports", ports(true), check);
    assert_linear("ports of the host", ports(false), check);
    let variables = |n: usize| {
        raw(c(
            json!({"env": items(n, |i| json!({"name": format!("A{i}")}))}),
        ))
    };
    assert_linear("variables", variables, check);
    let aliases = |n: usize| {
        raw(spec(
            json!({"hostAliases": items(n, |i| json!({"ip": format!("{i}")}))}),
        ))
    };
    assert_linear("aliases", aliases, check);
}
