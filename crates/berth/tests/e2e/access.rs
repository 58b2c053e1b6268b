//! Stock kubectl finds its way: who may do what, what there is and how it is spelled.

use crate::cluster::{Cluster, class, words};

#[test]
fn kubectl_asks_who_may() {
    let cluster = Cluster::start();
    let may = |arguments: &[&str]| {
        let mut all = vec!["auth", "can-i"];
        all.extend_from_slice(arguments);
        let output = cluster.try_kubectl(&all);
        match String::from_utf8_lossy(&output.stdout).trim() {
            "yes" => true,
            "no" => false,
            _ => panic!("{arguments:?}: {}", words(&output)),
        }
    };
    assert!(may(&["create", "runtimeclasses"]));
    assert!(!may(&["list", "pods", "--as", "alice"]));
    cluster.kube(&[
        "create",
        "clusterrolebinding",
        "b",
        "--clusterrole=view",
        "--user=alice",
    ]);
    assert!(may(&["list", "pods", "--as", "alice"]));
    assert!(!may(&["list", "secrets", "--as", "alice"]));
    assert!(!may(&["create", "runtimeclasses", "--as", "alice"]));
    let list = cluster.kube(&["auth", "can-i", "--list", "--as", "alice"]);
    assert!(
        list.contains("pods/log") && !list.contains("secrets"),
        "{list}"
    );
    let refused = words(&cluster.try_kubectl(&["get", "runtimeclasses", "--as", "alice"]));
    let said = "runtimeclasses.node.k8s.io is forbidden: User \"alice\" cannot list resource \"runtimeclasses\" in API group \"node.k8s.io\" at the cluster scope";
    assert!(refused.contains(said), "{refused}");

    cluster.kube(&["create", "serviceaccount", "robot"]);
    cluster.kube(&[
        "create",
        "role",
        "reader",
        "--verb=get,list",
        "--resource=configmaps",
    ]);
    cluster.kube(&[
        "create",
        "rolebinding",
        "reader",
        "--role=reader",
        "--serviceaccount=default:robot",
    ]);
    let token = cluster.kube(&["create", "token", "robot"]);
    let server = format!("--server=https://127.0.0.1:{}", cluster.port());
    let flags = [
        "--kubeconfig=/dev/null",
        &server,
        "--insecure-skip-tls-verify",
        "--token",
        token.trim(),
    ];
    let as_robot = |arguments: &[&str]| {
        let mut all = flags.to_vec();
        all.extend_from_slice(arguments);
        cluster.try_kubectl(&all)
    };
    let me = as_robot(&[
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username}",
    ]);
    assert_eq!(words(&me), "system:serviceaccount:default:robot");
    assert!(as_robot(&["get", "configmaps"]).status.success());
    assert!(words(&as_robot(&["get", "pods"])).contains("forbidden"));
}

#[test]
fn kubectl_finds_what_there_is() {
    let cluster = Cluster::start();
    let resources = cluster.kube(&["api-resources", "--api-group=node.k8s.io"]);
    assert!(
        resources.contains("runtimeclasses") && resources.contains("RuntimeClass"),
        "{resources}"
    );
    for (arguments, said) in [
        (
            &["explain", "runtimeclass.handler"][..],
            "handler specifies the underlying runtime",
        ),
        (
            &["explain", "pod.spec.runtimeClassName"],
            "RuntimeClassName refers to a RuntimeClass object",
        ),
        (
            &[
                "explain",
                "runtimeclass.spec.runtimeHandler",
                "--api-version=node.k8s.io/v1alpha1",
            ],
            "runtimeHandler",
        ),
        (
            &[
                "explain",
                "runtimeclass.handler",
                "--output=plaintext-openapiv2",
            ],
            "handler specifies the underlying runtime",
        ),
        (&["version"], "v1.36"),
    ] {
        let printed = cluster.kube(arguments);
        assert!(printed.contains(said), "{arguments:?}: {printed}");
    }
    cluster.apply(&class("g", "runsc"));
    let alpha = cluster.kube(&[
        "get",
        "runtimeclasses.v1alpha1.node.k8s.io",
        "g",
        "-o",
        "jsonpath={.spec.runtimeHandler}",
    ]);
    assert_eq!(alpha, "runsc");
    let labelled = class("g", "runsc").replace("name: g", "name: g\n  labels: {team: a}");
    cluster.apply(&labelled);
    assert_eq!(
        cluster.kube(&[
            "get",
            "runtimeclass",
            "g",
            "-o",
            "jsonpath={.metadata.labels.team}"
        ]),
        "a"
    );
}
