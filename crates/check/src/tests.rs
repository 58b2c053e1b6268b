use super::*;

fn facts(manifest: &str, handlers: &[(&str, Option<&str>)]) -> Facts {
    let mut facts = Facts::default();
    facts.add_manifest("m.yaml", manifest);
    if !handlers.is_empty() {
        let of = |(name, broken): &(&str, Option<&str>)| {
            let fact = HandlerFact {
                broken: broken.map(str::to_owned),
                configured: true,
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
        (class("gvisor", "kata"), &ok[..], vec![(Kind::HandlerMissing, "RuntimeClass gvisor: no node has handler \"kata\"; there are: runc, runsc")]),
        (class("gvisor", "runsc"), &broken[..], vec![
            (Kind::HandlerBroken, "handler runsc: runsc: no such file"),
            (Kind::HandlerBroken, "RuntimeClass gvisor: handler \"runsc\" cannot run anywhere: config.toml: runsc: no such file")]),
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
                Kind::ClassMissing,
                "Pod default/p: names RuntimeClass \"nope\", which is not there",
            )],
        ),
        (
            vec![deployment.to_owned()],
            vec![(
                Kind::ClassMissing,
                "Deployment ns/d: names RuntimeClass \"nope\", which is not there",
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
                    Kind::Policy,
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
        (Kind::PodUnplaceable, "Pod default/p: no node can run it: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) lack runtime handler \"runsc\"".to_owned()),
        (Kind::ClassUnplaceable, "RuntimeClass gvisor: 1 node(s) have handler \"runsc\", but none takes the class: 1 node(s) didn't match Pod's node affinity/selector".to_owned()),
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
        "RuntimeClass gvisor: handler \"runsc\" cannot run anywhere: n1: /no/runsc does not exist",
        "handler runsc: /no/runsc does not exist",
    ];
    let want = want.map(|text| (Kind::HandlerBroken, text.to_owned()));
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
