//! The life of pods: phases, restarts, environment, deletion.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, FOREVER, IMAGE, class, pod};

fn once(name: &str, policy: &str, command: &str) -> String {
    pod(name, None, command) + &format!("  restartPolicy: {policy}\n")
}

#[test]
fn phases_restarts_and_environment() {
    let cluster = Cluster::start();
    cluster.apply(&once("good", "Never", "echo done"));
    cluster.apply(&once("bad", "Never", "echo oops >&2; exit 7"));
    cluster.apply(&once("again", "OnFailure", "test -e /dev/shm/x || exit 3"));
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: env\n  labels: {{a: b}}\nspec:\n  restartPolicy: Never\n  \
         initContainers:\n  - {{name: first, image: {IMAGE}, command: [sh, -c, 'echo prepared']}}\n  containers:\n  - \
         name: main\n    image: {IMAGE}\n    command: [sh, -c]\n    args: ['echo \"$WHO $(POD) $NODE $1 $CPU\"', sh, \
         argument]\n    resources: {{requests: {{cpu: 250m}}}}\n    env:\n    - {{name: WHO, value: me}}\n    - {{name: POD, \
         valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}\n    - {{name: NODE, valueFrom: {{fieldRef: \
         {{fieldPath: spec.nodeName}}}}}}\n    - {{name: CPU, valueFrom: {{resourceFieldRef: {{resource: requests.cpu, \
         divisor: 1m}}}}}}\n"
    ));
    cluster.wait_phase("good", "Succeeded");
    let bad = cluster.wait_phase("bad", "Failed");
    assert_eq!(
        bad["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        7
    );
    assert_eq!(cluster.kube(&["logs", "bad"]).trim(), "oops");
    cluster.wait_phase("env", "Succeeded");
    assert_eq!(
        cluster.kube(&["logs", "env"]).trim(),
        "me env n1 argument 250"
    );
    assert_eq!(
        cluster.kube(&["logs", "env", "-c", "first"]).trim(),
        "prepared"
    );
    cluster.wait_pod("again", "restarts with a pause", |found| {
        found["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
    });
    cluster.wait_event("again", &["BackOff"]);
}

#[test]
fn deletion_gives_the_container_its_time() {
    let cluster = Cluster::start();
    cluster.apply(&class("gvisor", "runsc"));
    cluster.apply(&class("crun", "crun"));
    let polite =
        "trap 'echo bye; sleep 1; exit 0' TERM; echo up; while :; do sleep 3600 & wait; done";
    let deaf = "trap '' TERM; echo up; while :; do sleep 1; done";
    cluster.apply(&pod("polite", None, polite));
    cluster.apply(&pod("deaf", Some("crun"), deaf).replace("Seconds: 5", "Seconds: 2"));
    cluster.apply(&pod("boxed", Some("gvisor"), FOREVER));
    cluster.wait_ready(&["polite", "deaf", "boxed"]);

    let start = Instant::now();
    cluster.kube(&["delete", "pod", "deaf", "--timeout=30s"]);
    let took = start.elapsed();
    assert!(
        took >= Duration::from_secs(2),
        "it had its two seconds: {took:?}"
    );
    assert!(took < Duration::from_secs(15), "and no more: {took:?}");

    let start = Instant::now();
    cluster.kube(&["delete", "pod", "polite", "boxed", "--timeout=30s"]);
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "it could say goodbye"
    );
    assert_eq!(cluster.kube(&["get", "pods", "-o", "name"]), "");
    let records = std::fs::read_dir(cluster.data().join("node/pods")).map_or(0, Iterator::count);
    assert_eq!(records, 0, "nothing of the pods is left on the node");
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    let cluster = Cluster::start();
    cluster.kube(&["create", "namespace", "shop"]);
    cluster.kube(&[
        "-n",
        "shop",
        "create",
        "configmap",
        "stock",
        "--from-literal=a=b",
    ]);
    let manifest =
        pod("till", None, FOREVER).replace("  name: till\n", "  name: till\n  namespace: shop\n");
    berth_testkit::wait_for(
        "the namespace's service account",
        crate::cluster::LIMIT,
        || {
            let applied = cluster.try_apply(&manifest);
            if applied.status.success() {
                Ok(())
            } else {
                Err(crate::cluster::words(&applied))
            }
        },
    );
    cluster.kube(&["delete", "namespace", "shop", "--timeout=60s"]);
    let gone = cluster.try_kubectl(&["get", "namespace", "shop"]);
    assert!(crate::cluster::words(&gone).contains("not found"));
    assert_eq!(cluster.kube(&["get", "pods", "-A", "-o", "name"]), "");
}
