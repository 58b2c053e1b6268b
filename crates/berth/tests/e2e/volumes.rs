//! Volumes: emptyDir, hostPath, configMap, secret.

use crate::cluster::{Cluster, FOREVER, IMAGE, LIMIT, class};
use berth_testkit::wait_for;

fn manifest(name: &str, class: &str, host: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  runtimeClassName: {class}\n  \
         terminationGracePeriodSeconds: 1\n  volumes:\n  - {{name: shared, emptyDir: {{}}}}\n  - {{name: host, hostPath: \
         {{path: {host}}}}}\n  - {{name: config, configMap: {{name: settings}}}}\n  - {{name: keys, secret: {{secretName: \
         keys, defaultMode: 0400}}}}\n  containers:\n  - name: main\n    image: {IMAGE}\n    command: [sh, -c, 'echo \
         written > /shared/by-main; echo {name} >> /host/seen; cat /config/colour; cat /keys/token; stat -Lc %a \
         /keys/token; echo \"$COLOUR\"; trap \"exit 0\" TERM; while :; do sleep 3600 & wait; done']\n    env:\n    - {{name: \
         COLOUR, valueFrom: {{configMapKeyRef: {{name: settings, key: colour}}}}}}\n    volumeMounts:\n    - {{name: \
         shared, mountPath: /shared}}\n    - {{name: host, mountPath: /host}}\n    - {{name: config, mountPath: \
         /config}}\n    - {{name: keys, mountPath: /keys, readOnly: true}}\n  - name: side\n    image: {IMAGE}\n    command: \
         [sh, -c, 'until cat /shared/by-main; do sleep 0.1; done; trap \"exit 0\" TERM; while :; do sleep 3600 & wait; \
         done']\n    volumeMounts:\n    - {{name: shared, mountPath: /shared}}\n"
    )
}

#[test]
fn volumes_hold_what_they_should() {
    let cluster = Cluster::start();
    let host = crate::cluster::short_dir();
    cluster.kube(&[
        "create",
        "configmap",
        "settings",
        "--from-literal=colour=green\n",
    ]);
    cluster.kube(&[
        "create",
        "secret",
        "generic",
        "keys",
        "--from-literal=token=s3cret\n",
    ]);
    for (name, handler) in [("runc", "runc"), ("gvisor", "runsc"), ("crun", "crun")] {
        cluster.apply(&class(name, handler));
        cluster.apply(&manifest(name, name, &host.path().to_string_lossy()));
    }
    cluster.wait_ready(&["runc", "gvisor", "crun"]);
    for name in ["runc", "gvisor", "crun"] {
        let want = "green\ns3cret\n400\ngreen";
        wait_for("what the container read", LIMIT, || {
            let logs = cluster.kube(&["logs", name, "-c", "main"]);
            if logs.trim() == want {
                Ok(())
            } else {
                Err(format!("{name}: {logs}"))
            }
        });
        wait_for("what one container left for the other", LIMIT, || {
            let logs = cluster.kube(&["logs", name, "-c", "side"]);
            if logs.contains("written") {
                Ok(())
            } else {
                Err(format!("{name}: {logs}"))
            }
        });
    }
    let seen = std::fs::read_to_string(host.path().join("seen")).expect("the pods wrote");
    assert_eq!(seen.lines().count(), 3, "{seen}");
    cluster.kube(&["delete", "pod", "--all", "--timeout=60s"]);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let node = cluster.data().join("node");
    assert!(
        !mounts.contains(&*node.to_string_lossy()),
        "volumes are unmounted"
    );
}

/// Tokens end, and settings change: a pod goes on being given new ones when its node's agent was started again.
#[test]
fn a_config_map_that_changes_reaches_pods_from_before_a_restart() {
    let mut cluster = Cluster::start();
    cluster.kube(&[
        "create",
        "configmap",
        "settings",
        "--from-literal=colour=green",
    ]);
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: reader}}\nspec:\n  volumes:\n  - {{name: config, configMap: {{name: \
         settings}}}}\n  containers:\n  - name: main\n    image: {IMAGE}\n    command: [sh, -c, {FOREVER:?}]\n    \
         volumeMounts:\n    - {{name: config, mountPath: /config}}\n"
    ));
    cluster.wait_ready(&["reader"]);
    cluster.kill();
    cluster.launch();
    cluster.wait_ready(&["reader"]);
    for colour in ["red", "blue"] {
        let patch = format!("{{\"data\":{{\"colour\":\"{colour}\"}}}}");
        cluster.kube(&["patch", "configmap", "settings", "-p", &patch]);
        wait_for("the new colour", LIMIT, || {
            let seen = cluster.kube(&["exec", "reader", "--", "cat", "/config/colour"]);
            (seen == colour).then_some(()).ok_or(seen)
        });
    }
    cluster.kube(&["delete", "pod", "reader", "--timeout=60s"]);
}
