//! Facts from manifests, and what is told of them: each mistake, and the correct setup beside it.

use berth_core::isolation::Isolation;

use super::*;

fn facts(manifest: &str, handlers: &[(&str, Option<&str>)]) -> Facts {
    let mut facts = Facts::default();
    facts.add_manifest("m.yaml", manifest);
    if !handlers.is_empty() {
        let of = |(name, broken): &(&str, Option<&str>)| {
            let fact = HandlerFact {
                broken: broken.map(str::to_owned),
                configured: true,
                isolation: Some(match *name {
                    "runsc" => Isolation::Sandbox,
                    "kata" => Isolation::Vm,
                    _ => Isolation::Process,
                }),
            };
            ((*name).to_owned(), fact)
        };
        facts.nodes.push(NodeFacts {
            name: "config.toml".into(),
            handlers: Some(handlers.iter().map(of).collect()),
            node: None,
        });
    }
    facts
}

fn found(facts: &Facts) -> Vec<(Kind, String)> {
    problems(facts)
        .into_iter()
        .map(|p| (p.kind, format!("{}: {}", p.object, p.message)))
        .collect()
}

fn class(name: &str, handler: &str) -> String {
    format!(
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {{name: {name}}}\nhandler: {handler}\n"
    )
}

fn pod(class: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  runtimeClassName: {class}\n  containers: [{{name: c, image: i}}]\n{more}"
    )
}

#[test]
fn classes_against_configurations() {
    let ok: [(&str, Option<&str>); 2] = [("runc", None), ("runsc", None)];
    let broken = [("runc", None), ("runsc", Some("runsc: no such file"))];
    for (manifest, handlers, want) in [
        (class("gvisor", "runsc"), &ok[..], vec![]),
        (class("gvisor", "runsc"), &[][..], vec![]),
        (class("gvisor", "kata"), &ok[..], vec![(Kind::Advised("handler-missing"), "RuntimeClass gvisor: no node reports its handler \"kata\"; 1 node(s) report: runc, runsc")]),
        (class("gvisor", "runsc"), &broken[..], vec![
            (Kind::HandlerBroken, "handler runsc: handler \"runsc\" cannot run: runsc: no such file"),
            (Kind::Advised("handler-broken"), "RuntimeClass gvisor: handler \"runsc\" cannot run: runsc: no such file (on 1 of 1 node(s))")]),
        (class("gvisor", "run.sc"), &[][..], vec![(Kind::InvalidClass, "RuntimeClass gvisor: handler: Invalid value: \"run.sc\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name' or '123-abc')")]),
        ("apiVersion: node.k8s.io/v1alpha1\nkind: RuntimeClass\nmetadata: {name: a}\nspec: {runtimeHandler: runc}\n".to_owned(), &ok[..],
         vec![(Kind::OldVersion, "RuntimeClass a: is of node.k8s.io/v1alpha1, which stock clusters no longer take")]),
    ] {
        let want: Vec<_> = want.into_iter().map(|(k, t)| (k, t.to_owned())).collect();
        assert_eq!(found(&facts(&manifest, handlers)), want, "{manifest}");
    }
}

#[test]
fn pods_against_classes_policy_and_quota() {
    let gvisor = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: gvisor}\nhandler: runsc\noverhead: {podFixed: {cpu: 500m}}\n";
    let quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {requests.cpu: '1'}}\n";
    let asks =
        pod("gvisor", "").replace("image: i", "image: i, resources: {requests: {cpu: 600m}}");
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, annotations: {node.berth.dev/allowed-runtime-classes: 'gvisor,kata'}}\n";
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: ns}\nspec: {template: {spec: {runtimeClassName: nope, containers: []}}}\n";
    for (parts, want) in [
        (vec![gvisor.to_owned(), pod("gvisor", "")], vec![]),
        (
            vec![pod("nope", "")],
            vec![(
                Kind::Advised("class-missing"),
                "Pod default/p: RuntimeClass \"nope\" not found: pods are refused until it exists",
            )],
        ),
        (
            vec![deployment.to_owned()],
            vec![(
                Kind::Advised("class-missing"),
                "Deployment ns/d: RuntimeClass \"nope\" not found: pods are refused until it exists",
            )],
        ),
        (
            vec![gvisor.to_owned(), pod("gvisor", "  overhead: {cpu: 1}\n")],
            vec![(
                Kind::PodRejected,
                "Pod default/p: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            )],
        ),
        (
            vec![gvisor.to_owned(), quota.to_owned(), asks],
            vec![(
                Kind::Quota,
                "Pod default/p: exceeded quota: q, requested: requests.cpu=1100m, used: requests.cpu=0, limited: requests.cpu=1 (overhead is 500m of 1100m cpu)",
            )],
        ),
        (
            vec![
                class("gvisor", "runsc"),
                class("runc", "runc"),
                namespace.to_owned(),
                pod("runc", ""),
            ],
            vec![
                (
                    Kind::Advised("policy"),
                    "Namespace default: annotation node.berth.dev/allowed-runtime-classes names RuntimeClass \"kata\", which is not there",
                ),
                (
                    Kind::PodRejected,
                    "Pod default/p: pod rejected: RuntimeClass \"runc\" is not allowed in namespace \"default\"; allowed are \"gvisor\", \"kata\" (annotation node.berth.dev/allowed-runtime-classes)",
                ),
            ],
        ),
    ] {
        let want: Vec<_> = want.into_iter().map(|(k, t)| (k, t.to_owned())).collect();
        assert_eq!(found(&facts(&parts.join("---\n"), &[])), want, "{parts:?}");
    }
}

#[test]
fn a_whole_cluster() {
    let node = |name: &str, zone: &str, handlers: &str| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{zone: {zone}}}}}\nstatus: {{runtimeHandlers: [{handlers}]}}\n"
        )
    };
    let zoned = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: gvisor}\nhandler: runsc\nscheduling: {nodeSelector: {zone: b}}\n";
    let nodes = [
        node("n1", "a", "{name: runsc}, {name: runc}"),
        node("n2", "b", "{name: runc}"),
    ]
    .join("---\n");
    let all = format!("{nodes}---\n{zoned}---\n{}", pod("gvisor", ""));
    assert_eq!(found(&facts(&all, &[])), [
        (Kind::Advised("pod-unplaceable"), "Pod default/p: no node can run RuntimeClass \"gvisor\" (handler \"runsc\") now: of 2 node(s), 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) lack runtime handler \"runsc\"".to_owned()),
        (Kind::Advised("class-unplaceable"), "RuntimeClass gvisor: 1 node(s) have handler \"runsc\", but none takes the class: 1 node(s) didn't match Pod's node affinity/selector".to_owned()),
    ]);
    let old_kubelet = format!(
        "{}---\n{}---\n{}",
        node("n1", "a", ""),
        class("gvisor", "runsc"),
        pod("gvisor", "")
    );
    assert_eq!(found(&facts(&old_kubelet, &[])), []);
    let broken = format!(
        "{}---\n{}",
        node("n1", "a", "{name: runc}").replace(
            "labels:",
            "annotations: {berth.dev/broken-handlers: '{\"runsc\": \"/no/runsc does not exist\"}'}, labels:"
        ),
        class("gvisor", "runsc"),
    );
    let want = [
        (
            Kind::Advised("handler-broken"),
            "RuntimeClass gvisor: handler \"runsc\" cannot run: /no/runsc does not exist (on 1 of 1 node(s))",
        ),
        (
            Kind::HandlerBroken,
            "handler runsc: handler \"runsc\" cannot run: /no/runsc does not exist",
        ),
    ];
    let want = want.map(|(kind, text)| (kind, text.to_owned()));
    assert_eq!(found(&facts(&broken, &[])), want);
}

#[test]
fn overhead_that_no_quota_takes() {
    let big = class("big", "runc") + "overhead: {podFixed: {cpu: 500m, memory: 1Gi}}\n";
    let quota = |namespace: &str, hard: &str| {
        format!(
            "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: q, namespace: {namespace}}}\nspec: {{hard: {{{hard}}}}}\n"
        )
    };
    let closed = "apiVersion: v1\nkind: Namespace\nmetadata: {name: b, annotations: {node.berth.dev/allowed-runtime-classes: ''}}\n";
    let all = [
        big,
        quota(
            "a",
            "requests.cpu: 400m, memory: 2Gi, limits.cpu: 1m, pods: 0",
        ),
        quota("b", "requests.cpu: 400m"),
        quota("c", "requests.cpu: 500m"),
        closed.to_owned(),
    ];
    let want = "RuntimeClass big: no pod of it fits into quota a/q: overhead requests.cpu=500m, limited: requests.cpu=400m";
    assert_eq!(
        found(&facts(&all.join("---\n"), &[])),
        [(Kind::Quota, want.to_owned())]
    );
}

#[test]
fn unreadable() {
    let mut facts = Facts::default();
    facts.add_manifest("x.yaml", "a: [");
    facts.add_manifest(
        "y.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: 1}\n",
    );
    let kinds: Vec<_> = problems(&facts)
        .into_iter()
        .map(|p| (p.place, p.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            ("x.yaml".to_owned(), Kind::Unreadable),
            ("y.yaml".to_owned(), Kind::PodRejected)
        ]
    );
}

fn kinds(facts: &Facts) -> Vec<String> {
    let found = problems(facts).into_iter();
    found
        .map(|p| {
            format!(
                "{} {}",
                serde_json::to_value(p.kind).unwrap().as_str().unwrap(),
                p.object
            )
        })
        .collect()
}

fn told(parts: &[&str]) -> Vec<String> {
    kinds(&facts(&parts.join("---\n"), &[]))
}

const GVISOR: &str =
    "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: gvisor}\nhandler: runsc\n";

#[test]
fn fields_and_groups_that_are_not_there() {
    let pod = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers: [{{name: c, image: i}}]\n{more}"
        )
    };
    for (manifest, want) in [
        (pod("  runtimeClass: gvisor\n"), vec!["Pod p: unknown field \"spec.runtimeClass\"; did you mean \"spec.runtimeClassName\"?"]),
        (pod("  runtimeClassName: gvisor\n"), vec![]),
        ("apiVersion: v1\nkind: RuntimeClass\nmetadata: {name: g}\nhandler: runsc\n".to_owned(),
         vec!["RuntimeClass g: there is no RuntimeClass in \"v1\"; it is of \"node.k8s.io/v1\""]),
        (format!("{GVISOR}overhead: {{memory: 64Mi}}\n"),
         vec!["RuntimeClass gvisor: unknown field \"overhead.memory\"; did you mean \"overhead.podFixed.memory\"?"]),
        (format!("{GVISOR}overhead: {{podFixed: {{memory: 64500m}}}}\n"),
         vec!["RuntimeClass gvisor: overhead.podFixed[memory]: fractional byte value \"64500m\" is invalid, must be an integer"]),
        (format!("{GVISOR}overhead: {{podFixed: {{memory: 64Mi, cpu: 250m}}}}\n"), vec![]),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {runtimeClass: gvisor, containers: []}}}\n".to_owned(),
         vec!["Deployment d: unknown field \"spec.template.spec.runtimeClass\"; did you mean \"spec.template.spec.runtimeClassName\"?"]),
    ] {
        let mut all = facts(&manifest, &[]);
        if !manifest.contains("kind: RuntimeClass") {
            all.add_manifest("class.yaml", GVISOR);
        }
        let got: Vec<String> = found(&all).into_iter().map(|(_, text)| text).collect();
        assert_eq!(got, want, "{manifest}");
    }
}

#[test]
fn one_class_with_two_handlers() {
    let mut all = Facts::default();
    all.add_manifest("a.yaml", GVISOR);
    all.add_manifest("b.yaml", &GVISOR.replace("handler: runsc", "handler: runc"));
    assert_eq!(kinds(&all), ["defined-twice RuntimeClass gvisor"]);
    let mut same = Facts::default();
    same.add_manifest("a.yaml", GVISOR);
    same.add_manifest("b.yaml", GVISOR);
    assert_eq!(kinds(&same), Vec::<String>::new());
    let cluster = |handler: &str| {
        let mut all = Facts::default();
        let object = serde_json::json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": "gvisor"}, "handler": handler});
        all.add_object("cluster", object, true);
        all.add_manifest("a.yaml", GVISOR);
        kinds(&all)
    };
    assert_eq!(cluster("runsc"), Vec::<String>::new());
    assert_eq!(cluster("other"), ["handler-changed RuntimeClass gvisor"]);
}

#[test]
fn policies_and_annotations() {
    let namespace = |key: &str, value: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: team, annotations: {{{key}: '{value}'}}}}\n"
        )
    };
    let default = "node.berth.dev/default-runtime-class";
    assert_eq!(
        told(&[GVISOR, &namespace(default, "gvisor")]),
        Vec::<String>::new()
    );
    assert_eq!(
        told(&[GVISOR, &namespace(default, "gvsor")]),
        ["policy Namespace team"]
    );
    assert_eq!(
        told(&[
            GVISOR,
            &namespace("node.berth.dev/default-runtimeclass", "gvisor")
        ]),
        ["annotation-unknown Namespace team"]
    );
    let both = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, annotations: {node.berth.dev/default-runtime-class: gvisor, node.berth.dev/allowed-runtime-classes: ''}}\n";
    assert_eq!(
        told(&[GVISOR, both]),
        ["default-not-allowed Namespace team"]
    );
    assert_eq!(
        told(&[
            GVISOR,
            &both.replace(
                "allowed-runtime-classes: ''",
                "allowed-runtime-classes: gvisor"
            )
        ]),
        Vec::<String>::new()
    );
    // Warnings alone are no failure.
    let facts = facts(&namespace("node.berth.dev/default-runtimeclass", "x"), &[]);
    assert!(problems(&facts).iter().all(|problem| problem.warning));
}

#[test]
fn quotas_with_what_is_used_and_with_replicas() {
    let quota = |cpu: &str| {
        format!(
            "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: q}}\nspec: {{hard: {{requests.cpu: '{cpu}'}}}}\n"
        )
    };
    let deployment = |replicas: u64| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec: {{replicas: {replicas}, template: {{spec: {{containers: [{{name: c, image: i, resources: {{requests: {{cpu: 300m}}}}}}]}}}}}}\n"
        )
    };
    let running = |owner: &str| {
        serde_json::json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "r", "namespace": "default",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "u"}]},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "600m"}}}]}})
    };
    let check = |replicas: u64, hard: &str, owner: Option<&str>| {
        let mut all = Facts::default();
        if let Some(owner) = owner {
            all.add_object("cluster", running(owner), true);
        }
        let mut old: serde_json::Value = serde_saphyr::from_str(&quota("100m")).unwrap();
        old["metadata"]["namespace"] = "default".into();
        all.add_object("cluster", old, true);
        all.add_manifest(
            "m.yaml",
            &format!("{}---\n{}", quota(hard), deployment(replicas)),
        );
        found(&all)
            .into_iter()
            .map(|(_, text)| text)
            .collect::<Vec<_>>()
    };
    let none = Vec::<String>::new();
    // The quota of the file, not the cluster's.
    assert_eq!(check(3, "1", None), none);
    assert_eq!(
        check(4, "1", None),
        [
            "Deployment default/d: 4 pods exceed quota: q, requested: requests.cpu=1200m, used: requests.cpu=0, limited: requests.cpu=1"
        ]
    );
    assert_eq!(
        check(2, "1", Some("other-5f")),
        [
            "Deployment default/d: 2 pods exceed quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1"
        ]
    );
    // Its own pods go when it is changed.
    assert_eq!(check(2, "1", Some("d-5f")), none);
    assert_eq!(
        check(1, "800m", Some("other-5f")),
        [
            "Deployment default/d: exceeded quota: q, requested: requests.cpu=300m, used: requests.cpu=600m, limited: requests.cpu=800m"
        ]
    );
    // Any number is a number.
    assert_eq!(check(9_000_000_000_000_000, "1", None).len(), 1);
}

#[test]
fn objects_of_files_take_the_place_of_the_clusters() {
    let mut all = Facts::default();
    let old = serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"},
        "spec": {"template": {"spec": {"runtimeClassName": "gone", "containers": []}}}});
    all.add_object("cluster", old, true);
    assert_eq!(kinds(&all), ["class-missing Deployment default/d"]);
    let new = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {runtimeClassName: gvisor, containers: []}}}\n";
    all.add_manifest("m.yaml", &format!("{GVISOR}---\n{new}"));
    assert_eq!(kinds(&all), Vec::<String>::new());
}

#[test]
fn what_may_not_be_looked_at_is_no_problem() {
    let mut all = facts(&pod("gvisor", ""), &[]);
    assert_eq!(kinds(&all), ["class-missing Pod default/p"]);
    all.unseen
        .insert("runtimeclasses".to_owned(), "forbidden".to_owned());
    all.add_manifest("n.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, annotations: {node.berth.dev/default-runtime-class: gvisor}}\n");
    assert_eq!(kinds(&all), Vec::<String>::new());
}

#[test]
fn sandboxes_and_nodes() {
    let of = |more: &str, handlers: &[(&str, Option<&str>)]| {
        kinds(&facts(
            &format!("{GVISOR}---\n{}", pod("gvisor", more)),
            handlers,
        ))
    };
    let runsc: &[(&str, Option<&str>)] = &[("runsc", None)];
    assert_eq!(
        of("  hostPID: true\n", runsc),
        ["inside-sandbox Pod default/p"]
    );
    assert_eq!(of("  hostPID: false\n", runsc), Vec::<String>::new());
    assert_eq!(
        of("  hostPID: true\n", &[]),
        Vec::<String>::new(),
        "nobody knows what runs it"
    );
    // Of configurations nobody knows the nodes' names.
    assert_eq!(of("  nodeName: n9\n", runsc), Vec::<String>::new());
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: worker-1}\nstatus: {runtimeHandlers: [{name: runsc}]}\n";
    let on = |name: &str| {
        told(&[
            node,
            GVISOR,
            &pod("gvisor", &format!("  nodeName: {name}\n")),
        ])
    };
    assert_eq!(on("worker-1"), Vec::<String>::new());
    assert_eq!(on("worker-2"), ["node-missing Pod default/p"]);
}

/// The table of the documents is what the code says, and nothing else.
#[test]
fn the_table_of_rules_is_true() {
    let document = include_str!("../../../docs/runtimeclass.md");
    let (_, table) = document
        .split_once("<!-- rules: what follows is held against the code by a test -->")
        .expect("the table begins");
    let (table, _) = table
        .split_once("<!-- end of rules -->")
        .expect("the table ends");
    let row = |advice: &Advice| {
        let channels = advice.channels().iter().map(|channel| channel.name());
        let channels: Vec<&str> = channels.collect();
        let kind = if advice.is_error() {
            "error"
        } else {
            "warning"
        };
        format!(
            "| `{}` | {} | {kind} | {} |",
            advice.rule(),
            channels.join(", "),
            advice.to_string().replace('|', "\\|")
        )
    };
    let want: Vec<String> = Advice::samples().iter().map(row).collect();
    let got: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    assert_eq!(
        got,
        want,
        "docs/runtimeclass.md should have these rows:\n{}",
        want.join("\n")
    );
}

#[test]
fn no_manifest_is_a_panic() {
    for text in [
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: 3\nspec: {template: {metadata: x, spec: 1}}\n",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: [1]}\nspec: {template: [], replicas: x}\n",
        "apiVersion: batch/v1\nkind: CronJob\nspec: 1\n",
        "apiVersion: batch/v1\nkind: Job\nspec: {parallelism: -5, completions: -9, template: {spec: {containers: []}}}\n",
        "apiVersion: v1\nkind: List\nitems: [1, {kind: Pod, apiVersion: v1, spec: {}}, []]\n",
        "kind: Pod\n",
        "3\n",
    ] {
        let all = facts(text, &[("runc", None)]);
        let _ = problems(&all);
    }
}
