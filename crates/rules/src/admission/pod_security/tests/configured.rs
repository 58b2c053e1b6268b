//! Defaults and exemptions.

use k8s_openapi::api::core::v1::Namespace;

use super::*;
use crate::admission::configuration::{AdmissionConfiguration, parse_value};

const FILE: &str = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults:
      enforce: "baseline"
      enforce-version: "v1.30"
      warn: "restricted"
    exemptions:
      usernames: ["system:serviceaccount:kube-system:ds"]
      namespaces: [kube-system]
      runtimeClasses: [kata]
"#;

fn plugin() -> PodSecurity {
    let file = AdmissionConfiguration::parse(FILE).unwrap();
    let own = file
        .plugin("PodSecurity")
        .unwrap()
        .configuration
        .clone()
        .unwrap();
    PodSecurity::new(PodSecurityConfiguration::from_value(own).unwrap()).unwrap()
}

fn at<'r>(user: &'r str, namespace: &'r str) -> Attributes<'r> {
    Attributes {
        user,
        namespace,
        namespace_labels: None,
    }
}

#[test]
fn defaults_hold_where_there_are_no_labels() {
    let bad = restricted(json!({}), json!({"privileged": true}));
    let decision = plugin().admit_pod(&at("u", "n"), &bad, None);
    assert!(
        decision
            .refused
            .unwrap()
            .starts_with("violates PodSecurity \"baseline:v1.30\": ")
    );
    let plain = pod(json!({"containers": [{"name": "c"}]}));
    let decision = plugin().admit_pod(&at("u", "n"), &plain, None);
    assert_eq!(decision.refused, None);
    assert!(decision.warnings[0].starts_with("would violate PodSecurity \"restricted:latest\": "));
}

#[test]
fn exemptions() {
    let bad = restricted(json!({}), json!({"privileged": true}));
    let with_class = |class: &str| {
        restricted(
            json!({"runtimeClassName": class}),
            json!({"privileged": true}),
        )
    };
    for (attributes, pod, exempt) in [
        (at("u", "n"), bad.clone(), None),
        (at("u", "kube-system"), bad.clone(), Some("namespace")),
        (
            at("system:serviceaccount:kube-system:ds", "n"),
            bad.clone(),
            Some("user"),
        ),
        (at("", ""), bad, None),
        (at("u", "n"), with_class("kata"), Some("runtimeClass")),
        // What a sandbox isolates does not change a level.
        (at("u", "n"), with_class("gvisor"), None),
        (at("u", "n"), with_class(""), None),
    ] {
        let decision = plugin().admit_pod(&attributes, &pod, None);
        assert_eq!(
            decision.refused.is_none(),
            exempt.is_some(),
            "{attributes:?}"
        );
        assert_eq!(
            decision.audit.get("exempt").map(String::as_str),
            exempt,
            "{attributes:?}"
        );
    }
}

#[test]
fn labels_of_an_exempt_namespace_are_warned_of() {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("kube-system".to_owned());
    let plain = namespace.clone();
    assert_eq!(
        plugin().admit_namespace(&namespace, None).unwrap().warnings,
        Vec::<String>::new()
    );
    namespace.metadata.labels = Some(labels(&[
        ("enforce", "restricted"),
        ("audit-version", "v1.20"),
    ]));
    let warning = "namespace \"kube-system\" is exempt from Pod Security, and the policy (enforce=restricted:v1.30) will be ignored";
    for old in [None, Some(&plain)] {
        let decision = plugin().admit_namespace(&namespace, old).unwrap();
        assert_eq!(decision.warnings, [warning]);
        assert_eq!(decision.evaluate_pods, None);
    }
}

#[test]
fn bad_configurations() {
    let head =
        "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n";
    let read = |text: &str| {
        let value = parse_value(text, "PodSecurityConfiguration").map_err(|e| e.to_string())?;
        let read = PodSecurityConfiguration::from_value(value).map_err(|e| e.to_string())?;
        PodSecurity::new(read)
            .map_err(|e| aggregate(&e))
            .map(|_| ())
    };
    assert_eq!(read(head), Ok(()));
    for (text, want) in [
        (format!("{head}default: {{}}"), "unknown field `default`"),
        (
            format!("{head}defaults: {{enforce: high}}"),
            "defaults.enforce: Invalid value: \"high\": must be one of",
        ),
        (
            format!("{head}defaults: {{warn-version: '1.2'}}"),
            "defaults.warn-version: Invalid value: \"1.2\"",
        ),
        (
            format!("{head}defaults: {{enforceVersion: latest}}"),
            "unknown field `enforceVersion`",
        ),
        (
            format!("{head}exemptions: {{namespaces: [a, a]}}"),
            "exemptions.namespaces[1]: Duplicate value: \"a\"",
        ),
        (
            format!("{head}exemptions: {{runtimeClasses: [A]}}"),
            "exemptions.runtimeClasses[0]: Invalid value: \"A\"",
        ),
        (
            format!("{head}exemptions: {{usernames: ['']}}"),
            "exemptions.usernames[0]: Invalid value: \"\": username must not be empty",
        ),
        (
            "apiVersion: v1\nkind: PodSecurityConfiguration".to_owned(),
            "is v1, Kind=PodSecurityConfiguration; expected",
        ),
    ] {
        let error = read(&text).unwrap_err();
        assert!(error.contains(want), "{text}: {error}");
    }
}
