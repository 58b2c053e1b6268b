//! What is told early: each mistake, and the correct setup beside it.

use std::sync::Arc;

use berth_core::advice::Advice;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::{Value, json};

use super::*;
use crate::{ClassNode, class_status};

fn host(name: &str, handlers: &[&str], more: Value) -> Host {
    let handlers: Vec<_> = handlers.iter().map(|h| json!({"name": h})).collect();
    let mut body = json!({"metadata": {"name": name, "labels": {"zone": "a"}}, "status": {"runtimeHandlers": handlers}});
    merge(&mut body, more);
    Host::new(Arc::new(serde_json::from_value(body).unwrap()))
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn class(more: Value) -> RuntimeClass {
    let mut body = json!({"metadata": {"name": "gvisor"}, "handler": "runsc"});
    merge(&mut body, more);
    serde_json::from_value(body).unwrap()
}

fn pod(more: Value) -> Pod {
    let mut spec = json!({"containers": []});
    merge(&mut spec, more);
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
}

fn words(advice: &[Advice]) -> Vec<String> {
    advice.iter().map(ToString::to_string).collect()
}

fn broken(reason: &str) -> Value {
    let told = json!({"runsc": reason}).to_string();
    json!({"metadata": {"annotations": {"berth.dev/broken-handlers": told}}})
}

#[test]
fn classes_and_pods_against_handlers_and_labels() {
    let taint = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
    let selector = json!({"nodeSelector": {"zone": "b"}});
    let no_ptrace = "a trial sandbox does not run: ptrace: operation not permitted";
    for (hosts, scheduling, of_its_class, of_its_pod, able) in [
        (
            vec![host("a", &["", "runsc"], json!({}))],
            json!({}),
            vec![],
            vec![],
            1,
        ),
        (
            vec![host("a", &[], json!({}))],
            json!({}),
            vec![],
            vec![],
            1,
        ),
        (
            vec![],
            json!({}),
            vec![],
            vec![
                "no node can run RuntimeClass \"gvisor\" (handler \"runsc\") now: there are no nodes",
            ],
            0,
        ),
        (
            vec![
                host("a", &["", "runc"], json!({})),
                host("b", &["crun", "runcs"], json!({})),
            ],
            json!({}),
            vec!["no node reports its handler \"runsc\"; 2 node(s) report: crun, runc, runcs"],
            vec![
                "no node can run RuntimeClass \"gvisor\" (handler \"runsc\") now: of 2 node(s), 2 node(s) lack runtime handler \"runsc\"",
            ],
            0,
        ),
        // What is broken somewhere is no missing handler, and nobody is led to it.
        (
            vec![
                host("a", &["", "runc"], broken(no_ptrace)),
                host("b", &["crun"], json!({})),
            ],
            json!({}),
            vec![
                "handler \"runsc\" cannot run: a trial sandbox does not run: ptrace: operation not permitted (on 1 of 2 node(s))",
            ],
            vec![
                "no node can run RuntimeClass \"gvisor\" (handler \"runsc\") now: of 2 node(s), 1 node(s) lack runtime handler \"runsc\", \
                  1 node(s) where handler \"runsc\" cannot run: a trial sandbox does not run: ptrace: operation not permitted",
            ],
            0,
        ),
        (
            vec![
                host("a", &["", "runc"], broken(no_ptrace)),
                host("b", &["runsc"], json!({})),
            ],
            json!({}),
            vec![],
            vec![],
            1,
        ),
        // Its pods may tolerate the taint; this one doesn't.
        (
            vec![
                host("a", &["runc"], json!({})),
                host("b", &["runsc"], taint.clone()),
            ],
            json!({}),
            vec![],
            vec![
                "no node can run RuntimeClass \"gvisor\" (handler \"runsc\") now: of 2 node(s), 1 node(s) had untolerated taint {k: v}, \
                  1 node(s) lack runtime handler \"runsc\"",
            ],
            0,
        ),
        (
            vec![host("a", &["runsc"], json!({}))],
            selector,
            vec![
                "1 node(s) have handler \"runsc\", but none takes the class: 1 node(s) didn't match Pod's node affinity/selector",
            ],
            vec![
                "no node can run RuntimeClass \"gvisor\" (handler \"runsc\") now: of 1 node(s), 1 node(s) didn't match Pod's node \
                  affinity/selector; no node has label zone=b (nodeSelector)",
            ],
            0,
        ),
    ] {
        let class = class(json!({"scheduling": scheduling}));
        let pod = pod(json!({"nodeSelector": scheduling["nodeSelector"]}));
        assert_eq!(words(&of_class(&class, &hosts)), of_its_class);
        assert_eq!(words(&of_pod(&pod, &class, &hosts)), of_its_pod);
        let nodes = hosts.iter().map(|host| Arc::clone(host.info.node()));
        let nodes: Vec<_> = nodes.map(ClassNode::new).collect();
        assert_eq!(class_status(&class, &nodes).able, able);
    }
    let tolerant = pod(json!({"tolerations": [{"key": "k", "operator": "Exists"}]}));
    assert_eq!(
        of_pod(
            &tolerant,
            &class(json!({})),
            &[host("b", &["runsc"], taint)]
        ),
        []
    );
}

#[test]
fn a_misspelt_label_is_told_with_the_right_one() {
    let hosts = [host(
        "a",
        &["runsc"],
        json!({"metadata": {"labels": {"sandbox": "yes"}}}),
    )];
    let hint = |key: &str, value: &str| {
        let class = class(json!({"scheduling": {"nodeSelector": {key: value}}}));
        of_class(&class, &hosts).first().map(Advice::hint)
    };
    assert_eq!(hint("sandbox", "yes"), None);
    assert_eq!(
        hint("sandbx", "yes").as_deref(),
        Some(
            "no node has label sandbx=yes (scheduling.nodeSelector); did you mean \"sandbox\"?: correct it, or label a node: \
             kubectl label node NODE sandbx=yes"
        )
    );
    let other = hint("sandbox", "no").unwrap();
    assert!(
        other.starts_with("no node has label sandbox=no (scheduling.nodeSelector): correct it"),
        "{other}"
    );
}

#[test]
fn what_no_node_has_room_for() {
    let sized = |memory: &str| json!({"status": {"allocatable": {"cpu": "4", "memory": memory, "example.com/gpu": "1"}}});
    let hosts = [
        host("a", &["runsc"], sized("4Gi")),
        host("b", &["runsc"], sized("8Gi")),
        host("c", &["runc"], sized("64Gi")),
    ];
    let of = |overhead: Value, requests: Value| {
        let class = class(json!({"overhead": {"podFixed": overhead}}));
        let pod = pod(json!({
            "overhead": overhead,
            "containers": [{"name": "c", "resources": {"requests": requests}}],
        }));
        (
            words(&of_class(&class, &hosts)),
            words(&of_pod(&pod, &class, &hosts)),
        )
    };
    let none = Vec::<String>::new();
    assert_eq!(
        of(
            json!({"memory": "1Gi"}),
            json!({"memory": "7Gi", "example.com/gpu": "1"})
        ),
        (none.clone(), none.clone())
    );
    assert_eq!(
        of(json!({"memory": "1Gi"}), json!({"memory": "7200Mi"})).1,
        [
            "it asks for memory=8224Mi, 1Gi of it overhead, and no node that could run it has more than 8Gi for pods"
        ]
    );
    let (of_its_class, of_its_pod) = of(json!({"memory": "9Gi"}), json!({}));
    assert_eq!(
        of_its_class,
        [
            "its overhead alone asks for memory=9Gi, and no node that could run it has more than 8Gi for pods"
        ]
    );
    assert_eq!(of_its_pod.len(), 1);
    assert_eq!(
        of(json!({}), json!({"example.com/fpga": "1"})).1,
        ["it asks for example.com/fpga=1, and no node that could run it has more than 0 for pods"]
    );
    // A node that doesn't say what it has may have all.
    let silent = [
        host("a", &["runsc"], sized("1Gi")),
        host("b", &["runsc"], json!({})),
    ];
    let big =
        pod(json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Ti"}}}]}));
    assert_eq!(of_pod(&big, &class(json!({})), &silent), []);
}

#[test]
fn features_that_no_node_has() {
    let with = |users: bool, read_only: bool, more: Value| {
        let mut node = json!({"status": {"runtimeHandlers": [{"name": "runsc",
            "features": {"userNamespaces": users, "recursiveReadOnlyMounts": read_only}}]}});
        merge(&mut node, more);
        host("a", &[], node)
    };
    let told = |hosts: &[Host], spec: Value| words(&of_pod(&pod(spec), &class(json!({})), hosts));
    let users = json!({"hostUsers": false});
    let read_only = json!({"containers": [{"name": "c", "volumeMounts": [
        {"name": "v", "mountPath": "/v", "readOnly": true, "recursiveReadOnly": "Enabled"}]}]});
    let has_none = [with(false, false, json!({}))];
    assert_eq!(
        told(&has_none, users.clone()),
        [
            "spec.hostUsers: false needs user namespaces, which runtime handler \"runsc\" has on no node that could run the pod"
        ]
    );
    assert_eq!(
        told(&has_none, read_only.clone()),
        [
            "spec.containers[0].volumeMounts[0].recursiveReadOnly needs recursive read-only mounts, which runtime handler \"runsc\" \
          has on no node that could run the pod"
        ]
    );
    let one_has = [with(false, false, json!({})), with(true, true, json!({}))];
    let none = Vec::<String>::new();
    assert_eq!(told(&one_has, users.clone()), none);
    assert_eq!(told(&one_has, read_only), none);
    assert_eq!(told(&has_none, json!({"hostUsers": true})), none);
    // A stock kubelet of an older version reports no features.
    assert_eq!(told(&[host("a", &["runsc"], json!({}))], users), none);

    let features = |text: Value| {
        with(
            true,
            true,
            json!({"metadata": {"annotations": {"berth.dev/node-features": text.to_string()}}}),
        )
    };
    let confined = json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}});
    let filtered = json!({"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}}});
    let bare = [features(
        json!({"appArmor": false, "kvm": false, "seccompProfiles": ["b.json"]}),
    )];
    assert_eq!(
        told(&bare, confined.clone()),
        [
            "spec.securityContext.appArmorProfile: AppArmor is enabled on no node that could run the pod"
        ]
    );
    assert_eq!(
        told(&bare, filtered.clone()),
        [
            "spec.securityContext.seccompProfile: seccomp profile \"a.json\" is on no node that could run the pod"
        ]
    );
    let full = [features(
        json!({"appArmor": true, "kvm": false, "seccompProfiles": ["a.json"]}),
    )];
    assert_eq!(told(&full, confined), none);
    assert_eq!(told(&full, filtered.clone()), none);
    let many = [features(json!({"appArmor": true, "kvm": false}))];
    assert_eq!(told(&many, filtered), none, "too many to list");
}

#[test]
fn what_a_sandbox_makes_of_it() {
    let told = |kind: &str| {
        let told = json!({"runsc": kind}).to_string();
        let hosts = [host(
            "a",
            &["runsc"],
            json!({"metadata": {"annotations": {"berth.dev/handler-isolation": told}}}),
        )];
        words(&of_pod(
            &pod(json!({"hostPID": true})),
            &class(json!({})),
            &hosts,
        ))
    };
    assert_eq!(
        told("sandbox"),
        [
            "spec.hostPID shows the sandbox's own processes, not the node's (handler \"runsc\" runs sandboxes)"
        ]
    );
    assert_eq!(
        told("vm"),
        [
            "spec.hostPID shows the guest's processes, not the node's (handler \"runsc\" runs virtual machines)"
        ]
    );
    assert_eq!(told("process"), Vec::<String>::new());
    assert_eq!(told("of tomorrow"), Vec::<String>::new());
}

#[test]
fn a_pod_that_brings_its_node() {
    let taint = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
    let class = class(json!({}));
    assert_eq!(
        of_pod_on(&pod(json!({})), &class, &host("a", &["runsc"], taint)),
        []
    );
    assert_eq!(
        words(&of_pod_on(
            &pod(json!({})),
            &class,
            &host("a", &["runc"], json!({}))
        )),
        [
            "no node can run RuntimeClass \"gvisor\" (handler \"runsc\") now: of 1 node(s), 1 node(s) lack runtime handler \"runsc\""
        ]
    );
}

/// A bare node is a configuration: nobody knows its labels and its size.
#[test]
fn of_a_configuration_only_handlers_count() {
    let mut bare = host(
        "config.toml",
        &["runsc"],
        json!({"status": {"allocatable": {"cpu": "1"}}}),
    );
    bare.is_bare = true;
    let class = class(
        json!({"scheduling": {"nodeSelector": {"zone": "mars"}}, "overhead": {"podFixed": {"cpu": "9"}}}),
    );
    let pod = pod(json!({"nodeSelector": {"zone": "mars"}, "overhead": {"cpu": "9"}}));
    assert_eq!(of_class(&class, std::slice::from_ref(&bare)), []);
    assert_eq!(of_pod(&pod, &class, &[bare]), []);
}

#[test]
fn of_very_many_nodes_nothing_is_claimed() {
    let many: Vec<Host> = (0..=NODE_LIMIT)
        .map(|_| host("a", &["runc"], json!({})))
        .collect();
    assert_eq!(of_class(&class(json!({})), &many), []);
    assert_eq!(of_pod(&pod(json!({})), &class(json!({})), &many), []);
}

#[test]
fn nodes_with_much_to_say_fill_no_message() {
    let long = "x".repeat(500);
    let hosts: Vec<Host> = (0..200)
        .map(|i| host("a", &["runc"], broken(&format!("{i} {long}"))))
        .collect();
    for advice in of_class(&class(json!({})), &hosts).iter().chain(&of_pod(
        &pod(json!({})),
        &class(json!({})),
        &hosts,
    )) {
        assert!(advice.to_string().len() < 8 * 700, "{advice}");
    }
}
