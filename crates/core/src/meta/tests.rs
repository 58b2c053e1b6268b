use serde_json::{Value, json};

use super::*;

fn meta(value: Value) -> ObjectMeta {
    serde_json::from_value(value).unwrap()
}

fn causes(errors: &[FieldError]) -> Vec<String> {
    errors
        .iter()
        .map(|e| format!("{} {}", e.kind.reason(), e.field))
        .collect()
}

#[test]
fn metadata_of_a_new_object() {
    let big = "x".repeat(names::ANNOTATIONS_MAX);
    let owner =
        json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true});
    for (body, scope, want) in [
        (json!({"name": "a"}), Scope::Cluster, vec![]),
        (
            json!({"name": "a", "namespace": "b"}),
            Scope::Namespaced,
            vec![],
        ),
        (
            json!({}),
            Scope::Cluster,
            vec!["FieldValueRequired metadata.name"],
        ),
        (
            json!({"name": "a"}),
            Scope::Namespaced,
            vec!["FieldValueRequired metadata.namespace"],
        ),
        (
            json!({"name": "a", "namespace": "b"}),
            Scope::Cluster,
            vec!["FieldValueForbidden metadata.namespace"],
        ),
        (
            json!({"name": "a", "namespace": "B."}),
            Scope::Namespaced,
            vec!["FieldValueInvalid metadata.namespace"],
        ),
        (
            json!({"name": "A"}),
            Scope::Cluster,
            vec!["FieldValueInvalid metadata.name"],
        ),
        (
            json!({"name": "a-x", "generateName": "a-"}),
            Scope::Cluster,
            vec![],
        ),
        (
            json!({"name": "A-x", "generateName": "A-"}),
            Scope::Cluster,
            vec![
                "FieldValueInvalid metadata.generateName",
                "FieldValueInvalid metadata.name",
            ],
        ),
        (
            json!({"name": "a", "generation": -1}),
            Scope::Cluster,
            vec!["FieldValueInvalid metadata.generation"],
        ),
        (
            json!({"name": "a", "labels": {"bad key": "v", "k": "bad value"}}),
            Scope::Cluster,
            vec![
                "FieldValueInvalid metadata.labels",
                "FieldValueInvalid metadata.labels",
            ],
        ),
        (
            json!({"name": "a", "annotations": {"Any.Case/Key": "any value!"}}),
            Scope::Cluster,
            vec![],
        ),
        (
            json!({"name": "a", "annotations": {"bad key": ""}}),
            Scope::Cluster,
            vec!["FieldValueInvalid metadata.annotations"],
        ),
        (
            json!({"name": "a", "annotations": {"k": big}}),
            Scope::Cluster,
            vec!["FieldValueTooLong metadata.annotations"],
        ),
        (
            json!({"name": "a", "finalizers": ["bad one", "example.com/f"]}),
            Scope::Cluster,
            vec!["FieldValueInvalid metadata.finalizers"],
        ),
        (
            json!({"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}),
            Scope::Cluster,
            vec!["FieldValueInvalid metadata.finalizers"],
        ),
        (
            json!({"name": "a", "ownerReferences": [owner]}),
            Scope::Cluster,
            vec![],
        ),
        (
            json!({"name": "a", "ownerReferences": [owner, owner]}),
            Scope::Cluster,
            vec!["FieldValueInvalid metadata.ownerReferences"],
        ),
        (
            json!({"name": "a", "ownerReferences": [{"apiVersion": "", "kind": "", "name": "", "uid": ""}]}),
            Scope::Cluster,
            vec![
                "FieldValueInvalid metadata.ownerReferences.apiVersion",
                "FieldValueInvalid metadata.ownerReferences.kind",
                "FieldValueInvalid metadata.ownerReferences.name",
                "FieldValueInvalid metadata.ownerReferences.uid",
            ],
        ),
    ] {
        assert_eq!(
            causes(&validate(
                &meta(body.clone()),
                scope,
                names::dns1123_subdomain
            )),
            want,
            "{body}"
        );
    }
}

#[test]
fn metadata_of_an_update() {
    let old = || json!({"name": "a", "uid": "u", "resourceVersion": "3", "generation": 2, "finalizers": ["x.y/f"]});
    let with = |change: Value| {
        let mut new = old();
        json_merge(&mut new, change);
        new
    };
    for (old, new, want) in [
        (old(), old(), vec![]),
        (
            old(),
            with(json!({"name": "b"})),
            vec!["FieldValueInvalid metadata.name"],
        ),
        (
            old(),
            with(json!({"uid": "v"})),
            vec!["FieldValueInvalid metadata.uid"],
        ),
        (
            old(),
            with(json!({"resourceVersion": ""})),
            vec!["FieldValueInvalid metadata.resourceVersion"],
        ),
        (
            old(),
            with(json!({"generation": 1})),
            vec!["FieldValueInvalid metadata.generation"],
        ),
        (
            old(),
            with(json!({"finalizers": ["x.y/f", "x.y/g"]})),
            vec![],
        ),
        (
            with(json!({"deletionTimestamp": "2024-01-01T00:00:00Z"})),
            with(
                json!({"deletionTimestamp": "2024-01-01T00:00:00Z", "finalizers": ["x.y/f", "x.y/g"]}),
            ),
            vec!["FieldValueForbidden metadata.finalizers"],
        ),
        (
            old(),
            with(json!({"deletionTimestamp": "2024-01-01T00:00:00Z"})),
            vec!["FieldValueInvalid metadata.deletionTimestamp"],
        ),
        (
            old(),
            with(json!({"labels": {"": ""}})),
            vec![
                "FieldValueInvalid metadata.labels",
                "FieldValueInvalid metadata.labels",
            ],
        ),
    ] {
        assert_eq!(
            causes(&validate_update(&meta(new.clone()), &meta(old))),
            want,
            "{new}"
        );
    }
}

fn json_merge(target: &mut Value, change: Value) {
    if let (Value::Object(target), Value::Object(change)) = (target, change) {
        target.extend(change);
    }
}
