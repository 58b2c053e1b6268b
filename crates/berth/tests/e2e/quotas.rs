//! What a quota's status says of objects that are no pods.

use std::time::Duration;

use berth_testkit::wait_for;

use crate::cluster::Cluster;

/// Long before everything is counted anew by the clock.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn usage_follows_what_is_made_and_removed_with_and_without_controllers() {
    for controllers in ["true", "false"] {
        let cluster = Cluster::with(&["--controllers", controllers]);
        cluster.kube(&["create", "namespace", "small"]);
        let hard = "--hard=count/replicasets.apps=3,configmaps=9,services.nodeports=2";
        cluster.kube(&["create", "quota", "q", "-n", "small", hard]);
        let used = |what: &str, want: &str| {
            wait_for(&format!("{what} of the quota to be {want}"), SOON, || {
                let quota = cluster.json(&["quota", "q", "-n", "small"]);
                match quota["status"]["used"][what].as_str() {
                    Some(used) if used == want => Ok(()),
                    used => Err(format!("it is {used:?}")),
                }
            });
        };
        used("count/replicasets.apps", "0");
        cluster.apply(
            r#"{"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "r", "namespace": "small"},
                "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}}"#,
        );
        used("count/replicasets.apps", "1");
        cluster.kube(&[
            "create", "service", "nodeport", "s", "-n", "small", "--tcp=80",
        ]);
        used("services.nodeports", "1");
        cluster.kube(&["delete", "replicaset", "r", "-n", "small"]);
        used("count/replicasets.apps", "0");
        cluster.kube(&["delete", "service", "s", "-n", "small"]);
        used("services.nodeports", "0");
    }
}
