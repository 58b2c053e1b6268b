//! `berth check`: files against node configurations, and a whole cluster.

use std::fs;
use std::path::Path;

use berth_testkit::wait_for;
use serde_json::Value;

use crate::cluster::{Cluster, FOREVER, LIMIT, berth, class, pod, short_dir, words};

const CONTAINERD: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc.options]
BinaryName = "/nowhere/runsc"
"#;

const CRIO: &str = r#"[crio.runtime]
default_runtime = "runc"
[crio.runtime.runtimes.runc]
runtime_path = "/usr/sbin/runc"
[crio.runtime.runtimes.runsc]
runtime_path = "/usr/bin/runsc"
"#;

const OWN: &str = "[handlers.runc]\n[handlers.runsc]\nbinary = \"/nowhere/runsc\"\n";

/// Problems as `(kind, object)`, with the exit code.
fn check(dir: &Path, arguments: &[&str]) -> (Vec<(String, String)>, i32) {
    let output = berth()
        .current_dir(dir)
        .args(["check", "-o", "json"])
        .args(arguments)
        .output()
        .expect("berth check runs");
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", words(&output)));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = said["problems"].as_array().expect("problems").iter();
    let found = found.map(|p| (text(&p["kind"]), text(&p["object"])));
    (found.collect(), output.status.code().unwrap_or_default())
}

fn some(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
    owned.collect()
}

#[test]
fn manifests_against_the_configurations_of_nodes() {
    let dir = short_dir();
    let at = dir.path();
    for (name, text) in [
        ("cd.toml", CONTAINERD),
        ("crio.conf", CRIO),
        ("own.toml", OWN),
    ] {
        fs::write(at.join(name), text).unwrap();
    }
    let sandboxed = pod("sandboxed", Some("gvisor"), FOREVER);
    let lost = pod("lost", Some("nowhere"), FOREVER);
    let alpha = "apiVersion: node.k8s.io/v1alpha1\nkind: RuntimeClass\nmetadata: {name: old}\nspec: {runtimeHandler: runc}\n";
    let quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {requests.cpu: 100m}}\n";
    let heavy = class("heavy", "runc") + "overhead: {podFixed: {cpu: 250m}}\n";
    fs::create_dir(at.join("m")).unwrap();
    for (name, text) in [
        ("class.yaml", class("gvisor", "runsc")),
        (
            "m/all.yaml",
            [class("gvisor", "runsc"), sandboxed, lost, alpha.to_owned()].join("---\n"),
        ),
        ("quota.yaml", [heavy, quota.to_owned()].join("---\n")),
        ("bad.yaml", class("bad", "run.sc")),
        ("broken.yaml", "a: [".to_owned()),
    ] {
        fs::write(at.join(name), text).unwrap();
    }
    let missing = ("handler-broken", "handler runsc");
    let gvisor = ("handler-broken", "RuntimeClass gvisor");
    for (arguments, want) in [
        (vec!["class.yaml"], vec![]),
        (vec!["class.yaml", "--crio-config", "crio.conf"], vec![]),
        (
            vec!["class.yaml", "--containerd-config", "cd.toml"],
            vec![missing, gvisor],
        ),
        (
            vec!["class.yaml", "--config", "own.toml"],
            vec![gvisor, missing],
        ),
        // One node is enough for the class.
        (
            vec![
                "class.yaml",
                "--containerd-config",
                "cd.toml",
                "--crio-config",
                "crio.conf",
            ],
            vec![missing],
        ),
        (
            vec!["m", "--crio-config", "crio.conf"],
            vec![
                ("class-missing", "Pod default/lost"),
                ("old-version", "RuntimeClass old"),
            ],
        ),
        (vec!["quota.yaml"], vec![("quota", "RuntimeClass heavy")]),
        (
            vec!["bad.yaml"],
            vec![("invalid-class", "RuntimeClass bad")],
        ),
        (
            vec!["broken.yaml", "class.yaml"],
            vec![("unreadable", "file")],
        ),
    ] {
        let (found, code) = check(at, &arguments);
        let mut want = some(&want);
        let mut sorted = found.clone();
        sorted.sort();
        want.sort();
        assert_eq!(sorted, want, "{arguments:?}");
        assert_eq!(code, i32::from(!found.is_empty()), "{arguments:?}");
    }

    let text = berth()
        .current_dir(at)
        .args(["check", "class.yaml", "--containerd-config", "cd.toml"])
        .output()
        .unwrap();
    let said = words(&text);
    assert!(said.contains("/nowhere/runsc does not exist"), "{said}");
    let output = berth().current_dir(at).arg("check").output().unwrap();
    assert!(!output.status.success() && !output.stderr.is_empty());
    // What can't be read hides nothing else, and JSON stays JSON.
    fs::write(at.join("daemon.json"), "{\"runtimes\": {}}").unwrap();
    fs::write(
        at.join("typo.toml"),
        CONTAINERD.replace("BinaryName", "binary_name"),
    )
    .unwrap();
    for (arguments, want) in [
        (
            vec!["nothing-here.yaml", "bad.yaml"],
            vec![
                ("invalid-class", "RuntimeClass bad"),
                ("unreadable", "file"),
            ],
        ),
        (
            vec![
                "--containerd-config",
                "daemon.json",
                "--crio-config",
                "nothing-here.conf",
                "bad.yaml",
            ],
            vec![
                ("invalid-class", "RuntimeClass bad"),
                ("unreadable", "configuration"),
                ("unreadable", "configuration"),
            ],
        ),
        (
            vec!["--docker-config", "daemon.json"],
            vec![("unreadable", "configuration")],
        ),
        (
            vec!["--containerd-config", "typo.toml"],
            vec![("configuration", "configuration")],
        ),
    ] {
        let (mut found, code) = check(at, &arguments);
        found.sort();
        assert_eq!((found, code), (some(&want), 1), "{arguments:?}");
    }
}

#[test]
fn a_whole_cluster() {
    let configuration = short_dir();
    let config = configuration.path().join("config.toml");
    fs::write(&config, OWN).unwrap();
    let cluster = Cluster::with(&["--config", &config.display().to_string()]);
    let kubeconfig = cluster
        .data()
        .join("admin.kubeconfig")
        .display()
        .to_string();
    let here = configuration.path().to_owned();
    let checked = |more: &[&str]| {
        let mut all = vec!["--kubeconfig", kubeconfig.as_str()];
        all.extend_from_slice(more);
        check(&here, &all)
    };
    // The node says by itself what it cannot run.
    wait_for("the broken handler to be told", LIMIT, || {
        let found = checked(&[]);
        let want = (some(&[("handler-broken", "handler runsc")]), 1);
        if found == want {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    });

    for name in ["kata", "gone"] {
        cluster.apply(&class(name, if name == "kata" { "kata" } else { "runc" }));
    }
    cluster.apply(&class("gvisor", "runsc"));
    cluster.apply(&(class("heavy", "runc") + "overhead: {podFixed: {cpu: 250m}}\n"));
    cluster.apply(&(class("far", "runc") + "scheduling: {nodeSelector: {zone: mars}}\n"));
    cluster.apply(&pod("gone", Some("gone"), FOREVER));
    cluster.wait_ready(&["gone"]);
    cluster.kube(&["delete", "runtimeclass", "gone"]);
    cluster.kube(&["create", "namespace", "small"]);
    cluster.kube(&[
        "create",
        "quota",
        "q",
        "-n",
        "small",
        "--hard=requests.cpu=100m",
    ]);
    cluster.kube(&[
        "annotate",
        "namespace",
        "small",
        "node.berth.dev/default-runtime-class=nobody",
    ]);
    let (found, code) = checked(&[]);
    let want = some(&[
        ("class-missing", "Pod default/gone"),
        ("class-unplaceable", "RuntimeClass far"),
        ("handler-broken", "RuntimeClass gvisor"),
        ("handler-broken", "handler runsc"),
        ("handler-missing", "RuntimeClass kata"),
        ("policy", "Namespace small"),
        ("quota", "RuntimeClass heavy"),
    ]);
    let mut sorted = found;
    sorted.sort();
    assert_eq!((sorted, code), (want, 1));

    for class in ["kata", "gvisor", "heavy", "far"] {
        cluster.kube(&["delete", "runtimeclass", class]);
    }
    cluster.kube(&["delete", "pod", "gone", "--now"]);
    cluster.kube(&["delete", "namespace", "small"]);
    // Manifests against the cluster: a class that is there, one that is not.
    cluster.apply(&class("runc", "runc"));
    let manifest = [
        pod("fine", Some("runc"), FOREVER),
        pod("lost", Some("nowhere"), FOREVER),
    ];
    fs::write(here.join("pods.yaml"), manifest.join("---\n")).unwrap();
    let want = some(&[
        ("handler-broken", "handler runsc"),
        ("class-missing", "Pod default/lost"),
    ]);
    assert_eq!(checked(&["pods.yaml"]), (want, 1));
}

/// Somebody who may look at the pods of one namespace, and at nothing else.
#[test]
fn with_few_rights_it_looks_at_what_it_may_and_says_what_it_could_not() {
    let cluster = Cluster::server_only();
    let team = ["-n", "team"];
    cluster.kube(&["create", "namespace", "team"]);
    cluster.kube(&[&team[..], &["create", "serviceaccount", "robot"]].concat());
    let role = ["create", "role", "reader", "--verb=list", "--resource=pods"];
    cluster.kube(&[&team[..], &role].concat());
    let grant = [
        "create",
        "rolebinding",
        "reader",
        "--role=reader",
        "--serviceaccount=team:robot",
    ];
    cluster.kube(&[&team[..], &grant].concat());
    cluster.apply(&class("gvisor", "runsc"));
    let token = cluster.kube(&[&team[..], &["create", "token", "robot"]].concat());
    let dir = short_dir();
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {
            "server": format!("https://127.0.0.1:{}", cluster.port()), "insecure-skip-tls-verify": true}}],
        "users": [{"name": "u", "user": {"token": token.trim()}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
    });
    fs::write(dir.path().join("kc"), kubeconfig.to_string()).unwrap();
    let manifest = [
        pod("a", Some("gvisor"), FOREVER),
        pod("b", Some("nowhere"), FOREVER),
    ];
    fs::write(dir.path().join("pods.yaml"), manifest.join("---\n")).unwrap();
    let run = |arguments: &[&str]| {
        berth()
            .current_dir(dir.path())
            .args(["check", "--kubeconfig", "kc", "pods.yaml"])
            .args(arguments)
            .output()
            .expect("berth check runs")
    };
    // Which classes there are it may not know: neither pod is called wrong.
    let output = run(&["-o", "json"]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["problems"], serde_json::json!([]), "{said}");
    assert!(output.status.success());
    let unseen = &said["notLookedAt"];
    assert_eq!(unseen["runtimeclasses"], "forbidden", "{unseen}");
    assert_eq!(unseen["nodes"], "forbidden", "{unseen}");
    assert_eq!(
        unseen["pods"], "forbidden, but for namespace team",
        "{unseen}"
    );
    let text = words(&run(&[]));
    let lines = text.lines().filter(|line| line.contains("not looked at: "));
    assert_eq!(lines.count(), 1, "{text}");
    // The same files with an administrator's rights.
    let admin = cluster
        .data()
        .join("admin.kubeconfig")
        .display()
        .to_string();
    let (found, code) = check(dir.path(), &["--kubeconfig", &admin, "pods.yaml"]);
    assert_eq!(code, 1);
    assert!(
        found.contains(&("class-missing".to_owned(), "Pod default/b".to_owned())),
        "{found:?}"
    );
}
