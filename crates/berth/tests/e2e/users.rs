//! Pods with a user namespace of their own (`hostUsers: false`).

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::cluster::{Cluster, FOREVER, class, pod};

fn mapped(name: &str, class: Option<&str>, command: &str) -> String {
    pod(name, class, command)
        .replace("spec:\n", "spec:\n  hostUsers: false\n")
        .replace(
            "  containers:\n",
            "  volumes:\n  - {name: data, emptyDir: {}}\n  containers:\n",
        )
        + "    volumeMounts:\n    - {name: data, mountPath: /data}\n"
}

#[test]
fn each_pod_has_users_of_its_own() {
    let run = crate::cluster::short_dir();
    // Those users walk through it.
    std::fs::set_permissions(run.path(), Permissions::from_mode(0o711)).expect("its mode");
    let directory = run.path().join("run").to_string_lossy().into_owned();
    let mut cluster = Cluster::with(&["--run-dir", &directory]);
    cluster.apply(&class("crun", "crun"));
    let command = format!("id -u > /data/mine; {FOREVER}");
    cluster.apply(&mapped("first", None, &command));
    cluster.apply(&mapped("second", Some("crun"), &command));
    cluster.wait_ready(&["first", "second"]);

    let exec = |cluster: &Cluster, name: &str, script: &str| {
        let words = cluster.kube(&["exec", name, "--", "sh", "-c", script]);
        words
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let map = |cluster: &Cluster, name: &str| exec(cluster, name, "cat /proc/self/uid_map");
    let (first, second) = (map(&cluster, "first"), map(&cluster, "second"));
    for map in [&first, &second] {
        assert!(
            map[0] == "0" && map[1] != "0" && map[2] == "65536",
            "{map:?}"
        );
    }
    assert_ne!(first[1], second[1]);
    for name in ["first", "second"] {
        // Root there owns what it wrote, its hosts file, and nothing of the machine.
        assert_eq!(
            exec(
                &cluster,
                name,
                "cat /data/mine; stat -c %u /data/mine /etc/hosts"
            ),
            ["0", "0", "0"]
        );
        let uid = cluster.kube(&["get", "pod", name, "-o", "jsonpath={.metadata.uid}"]);
        let volume = format!("node/pods/{uid}/volumes/kubernetes.io~empty-dir/data/mine");
        let file = cluster
            .data()
            .join(volume)
            .metadata()
            .expect("the volume's file");
        assert_eq!(
            file.uid(),
            0,
            "an id-mapped mount keeps the machine's owners"
        );
    }

    // The ids outlive the agent.
    cluster.stop();
    cluster.launch();
    cluster.apply(&mapped("third", None, FOREVER));
    cluster.wait_ready(&["first", "second", "third"]);
    let third = map(&cluster, "third");
    assert!(![&first[1], &second[1]].contains(&&third[1]), "{third:?}");

    // gVisor has users of its own and takes no namespace.
    cluster.apply(&class("gvisor", "runsc"));
    cluster.apply(&mapped("refused", Some("gvisor"), FOREVER));
    let failed = cluster.wait_phase("refused", "Failed");
    assert_eq!(failed["status"]["reason"], "UserNamespacesNotSupported");
    cluster.wait_event("refused", &["Warning", "hostUsers", "runsc"]);
}
