//! Labels of namespaces, and what they do to pods.

use super::*;

#[test]
fn policies() {
    for (pairs, want, wrong) in [
        (
            vec![],
            "privileged:latest privileged:latest privileged:latest",
            0,
        ),
        (
            vec![("enforce", "baseline")],
            "baseline:latest privileged:latest baseline:latest",
            0,
        ),
        (
            vec![("enforce", "baseline"), ("enforce-version", "v1.20")],
            "baseline:v1.20 privileged:latest baseline:v1.20",
            0,
        ),
        (
            vec![("enforce", "restricted"), ("warn", "privileged")],
            "restricted:latest privileged:latest privileged:latest",
            0,
        ),
        (
            vec![
                ("enforce", "restricted"),
                ("enforce-version", "v1.20"),
                ("warn-version", "v1.21"),
            ],
            "restricted:v1.20 privileged:latest restricted:v1.21",
            0,
        ),
        (
            vec![("enforce", "Restricted")],
            "restricted:latest privileged:latest privileged:latest",
            1,
        ),
        (
            vec![("enforce", "")],
            "restricted:latest privileged:latest privileged:latest",
            1,
        ),
        (
            vec![
                ("audit", "x"),
                ("warn", "y"),
                ("warn-version", "v1.01"),
                ("audit-version", "v2.1"),
            ],
            "privileged:latest privileged:latest privileged:latest",
            4,
        ),
        (
            vec![("enforce", "baseline"), ("enforce-version", "1.20")],
            "baseline:latest privileged:latest baseline:latest",
            1,
        ),
        (
            vec![
                ("enforce", "baseline"),
                ("enforce-version", "v1.99999999999999999999"),
            ],
            "baseline:latest privileged:latest baseline:latest",
            1,
        ),
    ] {
        let (policy, errors) = Policy::of_labels(Some(&labels(&pairs)), &Policy::default());
        let got = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
        assert_eq!((got.as_str(), errors.len()), (want, wrong), "{pairs:?}");
    }
    let (_, errors) = Policy::of_labels(Some(&labels(&[("enforce", "x")])), &Policy::default());
    assert_eq!(
        errors[0].to_string(),
        "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted"
    );
}

fn admit(pairs: &[(&str, &str)], pod: &Pod, old: Option<&Pod>) -> Decision {
    let labels = labels(pairs);
    let at = Attributes {
        user: "u",
        namespace: "n",
        namespace_labels: Some(&labels),
    };
    PodSecurity::default().admit_pod(&at, pod, old)
}

#[test]
fn modes() {
    let privileged = restricted(json!({}), json!({"privileged": true}));
    let what = "privileged (container \"c\" must not set securityContext.privileged=true)";
    let refused = admit(
        &[("enforce", "baseline"), ("audit", "restricted")],
        &privileged,
        None,
    );
    assert_eq!(
        refused.refused.unwrap(),
        format!("violates PodSecurity \"baseline:latest\": {what}")
    );
    assert_eq!(refused.warnings, Vec::<String>::new());
    assert_eq!(
        refused.audit,
        BTreeMap::from([
            ("enforce-policy", "baseline:latest".to_owned()),
            (
                "audit-violations",
                format!("would violate PodSecurity \"restricted:latest\": {what}")
            ),
        ])
    );
    let warned = admit(
        &[("warn", "baseline"), ("warn-version", "v1.25")],
        &privileged,
        None,
    );
    assert_eq!(warned.refused, None);
    assert_eq!(
        warned.warnings,
        [format!(
            "would violate PodSecurity \"baseline:v1.25\": {what}"
        )]
    );
    let silent = admit(&[], &privileged, None);
    assert_eq!(
        silent,
        Decision {
            audit: BTreeMap::from([("enforce-policy", "privileged:latest".to_owned())]),
            ..Decision::default()
        }
    );
}

#[test]
fn a_label_that_cannot_be_read_enforces_restricted() {
    let privileged = restricted(json!({}), json!({"privileged": true}));
    let decision = admit(&[("enforce", "privleged")], &privileged, None);
    assert!(
        decision
            .refused
            .unwrap()
            .starts_with("violates PodSecurity \"restricted:latest\": "),
    );
    assert!(decision.audit["error"].starts_with("Failed to parse policy: metadata.labels["));
}

#[test]
fn templates_are_warned_of_and_not_refused() {
    let pairs = labels(&[("enforce", "restricted"), ("audit", "baseline")]);
    let at = Attributes {
        user: "u",
        namespace: "n",
        namespace_labels: Some(&pairs),
    };
    let pod = restricted(json!({}), json!({"privileged": true}));
    let decision =
        PodSecurity::default().admit_template(&at, &pod.metadata, pod.spec.as_ref().unwrap());
    assert_eq!(decision.refused, None);
    assert_eq!(decision.warnings.len(), 1);
    assert!(decision.audit.contains_key("audit-violations"));
    assert!(!decision.audit.contains_key("enforce-policy"));
}

#[test]
fn updates_count_when_a_container_changes() {
    let old = pod(
        json!({"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": true}}]}),
    );
    let pairs = [("enforce", "restricted")];
    let mut labelled = old.clone();
    labelled.metadata.labels = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    assert_eq!(admit(&pairs, &labelled, Some(&old)), Decision::default());

    let changed = |edit: &dyn Fn(&mut PodSpec)| {
        let mut pod = old.clone();
        edit(pod.spec.as_mut().unwrap());
        admit(&pairs, &pod, Some(&old)).refused.is_some()
    };
    assert!(changed(&|s| s.containers[0].image = Some("j".to_owned())));
    assert!(changed(&|s| s.containers[0].security_context = None));
    assert!(changed(&|s| s.init_containers = Some(s.containers.clone())));
    assert!(changed(&|s| s.ephemeral_containers =
        serde_json::from_value(json!([{"name": "e", "image": "i"}]))
            .unwrap()));
    assert!(!changed(&|s| s.active_deadline_seconds = Some(1)));
}

#[test]
fn subresources() {
    for (subresource, evaluated) in [
        ("", true),
        ("ephemeralcontainers", true),
        ("resize", true),
        ("unheard-of", true),
        ("status", false),
        ("binding", false),
        ("exec", false),
    ] {
        assert_eq!(evaluates(subresource), evaluated, "{subresource}");
    }
}
