//! Writes of namespaces.

use k8s_openapi::api::core::v1::Namespace;

use super::*;

fn namespace(pairs: &[(&str, &str)]) -> Namespace {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("n".to_owned());
    namespace.metadata.labels = Some(labels(pairs));
    namespace
}

#[test]
fn labels_are_validated_where_they_change() {
    let plugin = PodSecurity::default();
    let bad = namespace(&[("enforce", "x"), ("warn-version", "1")]);
    let good = namespace(&[("enforce", "baseline")]);
    let fields =
        |errors: Vec<FieldError>| -> Vec<String> { errors.into_iter().map(|e| e.field).collect() };
    let both = [
        "metadata.labels[pod-security.kubernetes.io/enforce]",
        "metadata.labels[pod-security.kubernetes.io/warn-version]",
    ];
    assert_eq!(
        fields(plugin.admit_namespace(&bad, None).unwrap_err()),
        both
    );
    assert_eq!(
        fields(plugin.admit_namespace(&bad, Some(&good)).unwrap_err()),
        both
    );
    plugin.admit_namespace(&bad, Some(&bad)).unwrap();
    plugin.admit_namespace(&good, Some(&bad)).unwrap();
    plugin.admit_namespace(&good, None).unwrap();
}

#[test]
fn pods_are_compared_when_the_enforced_level_rises() {
    let plugin = PodSecurity::default();
    for (old, new, want) in [
        (
            vec![],
            vec![("enforce", "baseline")],
            Some("baseline:latest"),
        ),
        (
            vec![("enforce", "baseline")],
            vec![("enforce", "restricted")],
            Some("restricted:latest"),
        ),
        (
            vec![("enforce", "restricted")],
            vec![("enforce", "baseline")],
            None,
        ),
        (vec![("enforce", "restricted")], vec![], None),
        (vec![], vec![("warn", "restricted")], None),
        (
            vec![("enforce", "baseline"), ("enforce-version", "v1.20")],
            vec![("enforce", "baseline")],
            Some("baseline:latest"),
        ),
    ] {
        let decision = plugin
            .admit_namespace(&namespace(&new), Some(&namespace(&old)))
            .unwrap();
        assert_eq!(decision.evaluate_pods, want.map(mode), "{old:?} {new:?}");
    }
}

fn named(name: &str, controller: Option<&str>, privileged: bool) -> Pod {
    let mut pod = restricted(json!({}), json!({"privileged": privileged}));
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.owner_references = controller.map(|uid| {
        serde_json::from_value(
            json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": uid, "controller": true}]),
        )
        .unwrap()
    });
    pod
}

fn existing(
    pods: Vec<Result<Pod, String>>,
    limit: usize,
    late: impl FnMut() -> bool,
) -> Vec<String> {
    PodSecurity::default().existing_pods("n", mode("baseline:latest"), pods, limit, late)
}

#[test]
fn existing_pods() {
    let pods = vec![
        Ok(named("b", None, true)),
        Ok(named("a", None, true)),
        Ok(named("c", None, true)),
        Ok(named("d", None, false)),
        Err("broken".to_owned()),
    ];
    assert_eq!(
        existing(pods, 10, || false),
        [
            "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 2 other pods): privileged",
            "broken: the stored pod cannot be read",
        ]
    );
    let two = vec![Ok(named("b", None, true)), Ok(named("a", None, true))];
    assert_eq!(
        existing(two, 10, || false)[1],
        "a (and 1 other pod): privileged"
    );
    assert_eq!(
        existing(vec![Ok(named("d", None, false))], 10, || false),
        Vec::<String>::new()
    );
}

#[test]
fn one_pod_of_each_controller_comes_first_and_the_rest_is_counted() {
    let mut pods: Vec<_> = (0..50)
        .map(|i| Ok(named(&format!("a{i:02}"), Some("u"), false)))
        .collect();
    pods.push(Ok(named("z", Some("v"), true)));
    assert_eq!(
        existing(pods.clone(), 2, || false),
        [
            "new PodSecurity enforce level only checked against the first 2 of 51 existing pods",
            "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "z: privileged",
        ]
    );
    // No time at all: one pod was looked at, and how many there are is not known.
    assert_eq!(
        existing(pods, 2, || true),
        [
            "new PodSecurity enforce level only checked against the first 1 of at least 1 existing pods"
        ]
    );
}
