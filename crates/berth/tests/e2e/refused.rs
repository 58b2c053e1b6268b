//! What can't be: each gets one clear answer, and nothing else is lost.

use crate::cluster::{Cluster, FOREVER, IMAGE, class, pod, words};

#[test]
fn wrong_manifests_are_refused_and_say_why() {
    let cluster = Cluster::start();

    let missing = cluster.try_apply(&pod("p", Some("nowhere"), FOREVER));
    let said = words(&missing);
    assert!(!missing.status.success());
    assert!(
        said.contains("Forbidden") && said.contains("nowhere"),
        "{said}"
    );

    let malformed = cluster.try_apply("apiVersion: v1\nkind: Pod\nmetadata: [name\n");
    assert!(!malformed.status.success());
    assert!(words(&malformed).contains("yaml"), "{}", words(&malformed));

    let unknown =
        pod("p", None, FOREVER).replace("  containers:", "  contianers: []\n  containers:");
    let unknown = cluster.try_apply(&unknown);
    assert!(!unknown.status.success());
    assert!(
        words(&unknown).contains("contianers"),
        "{}",
        words(&unknown)
    );

    for bad in ["run.sc", "-runsc", "Runsc"] {
        let refused = cluster.try_apply(&class("bad", bad));
        let said = words(&refused);
        assert!(!refused.status.success(), "{bad}");
        assert!(said.contains("handler") && said.contains(bad), "{said}");
    }
    let immutable = class("gvisor", "runsc");
    cluster.apply(&immutable);
    let changed = cluster.try_apply(&class("gvisor", "runc"));
    assert!(!changed.status.success());
    assert!(words(&changed).contains("immutable"), "{}", words(&changed));

    let left = cluster.kube(&["get", "pods", "-o", "name"]);
    assert_eq!(left, "", "nothing was made");
}

#[test]
fn pods_that_cannot_run_say_why() {
    let cluster = Cluster::start();
    cluster.apply(&class("exotic", "kata-qemu"));
    cluster.apply(&pod("exotic", Some("exotic"), FOREVER));
    let failed = cluster.wait_phase("exotic", "Failed");
    let message = failed["status"]["message"].to_string();
    for word in ["kata-qemu", "exotic"] {
        assert!(message.contains(word), "{message}");
    }
    cluster.wait_event("exotic", &["Warning", "exotic", "kata-qemu", "n1"]);

    let greedy = pod("greedy", None, FOREVER)
        + "    resources: {requests: {cpu: 1000, memory: 1Gi}}\n  nodeSelector: {}\n";
    cluster.apply(&greedy);
    cluster.wait_event(
        "greedy",
        &[
            "FailedScheduling",
            "0/1 nodes are available: 1 Insufficient cpu.",
        ],
    );
    let misnamed = pod("misnamed", None, FOREVER).replace(IMAGE, "registry.test/Not_A_Name:1");
    cluster.apply(&misnamed);
    cluster.wait_pod("misnamed", "its image refused", |p| {
        p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "InvalidImageName"
    });
    let picky = pod("picky", None, FOREVER) + "  nodeSelector: {disk: quantum}\n";
    cluster.apply(&picky);
    cluster.wait_event(
        "picky",
        &[
            "FailedScheduling",
            "1 node(s) didn't match Pod's node affinity/selector",
        ],
    );
    cluster.kube(&["label", "node", "n1", "disk=quantum"]);
    cluster.wait_ready(&["picky"]);

    let ghost =
        pod("ghost", None, FOREVER).replace("berth.dev/demo:1", "127.0.0.1:9/no/such/image:1");
    cluster.apply(&ghost);
    cluster.wait_pod("ghost", "a reason for waiting", |found| {
        let waiting = &found["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
        waiting == "ErrImagePull" || waiting == "ImagePullBackOff"
    });
    cluster.wait_event("ghost", &["Failed", "127.0.0.1:9/no/such/image:1"]);
    let greedy = cluster.json(&["pod", "greedy"]);
    assert_eq!(greedy["status"]["phase"], "Pending", "it waits for room");
}

#[test]
fn an_unsupported_handler_can_be_retried_instead() {
    let cluster = Cluster::with(&["--unsupported-handler=retry"]);
    cluster.apply(&class("exotic", "kata-qemu"));
    cluster.apply(&pod("exotic", Some("exotic"), FOREVER));
    cluster.wait_event("exotic", &["Warning", "exotic", "kata-qemu", "n1"]);
    assert_eq!(
        cluster.json(&["pod", "exotic"])["status"]["phase"],
        "Pending"
    );
}
