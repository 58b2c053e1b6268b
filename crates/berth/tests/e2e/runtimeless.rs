//! A machine without runc: pods run all the same.

use crate::cluster::{Cluster, FOREVER, class, pod};

/// A mount namespace in which no runtime can be executed.
const BARE: &str = "for name in runc crun runsc youki; do for file in $(command -v $name); do \
    mount --bind /dev/null $file; done; done; exec \"$@\"";

#[test]
fn pods_run_without_any_runtime_installed() {
    let wrapper = vec![
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        BARE,
        "sh",
    ];
    let cluster = Cluster::through(wrapper, &[]);
    let log = cluster.log();
    assert!(
        log.contains("runc is not installed: the runtime inside berth"),
        "{log}"
    );

    cluster.apply(&pod("plain", None, FOREVER));
    cluster.apply(&class("inside", "berth"));
    cluster.apply(&pod("classy", Some("inside"), "echo out; exit 3"));
    cluster.apply(&class("absent", "runc"));
    cluster.apply(&pod("refused", Some("absent"), FOREVER));
    cluster.wait_ready(&["plain"]);
    assert_eq!(
        cluster.kube(&["exec", "plain", "--", "sh", "-c", "echo in"]),
        "in\n"
    );
    let classy = cluster.wait_pod("classy", "an exit code", |found| {
        let state = &found["status"]["containerStatuses"][0];
        state["lastState"]["terminated"]["exitCode"] == 3
            || state["state"]["terminated"]["exitCode"] == 3
    });
    assert_eq!(classy["spec"]["runtimeClassName"], "inside");
    assert_eq!(cluster.kube(&["logs", "classy"]), "out\n");
    // What names runc is told why it can't have it.
    cluster.wait_event(
        "refused",
        &[
            "UnsupportedRuntimeHandler",
            "handler \"runc\" cannot run: no program runc in PATH",
        ],
    );
}
